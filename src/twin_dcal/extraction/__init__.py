"""Features of folders of pictures, one or millions, and what can be read off them. What `dcal-extract` calls."""

from twin_dcal.environment import ignore_wrong_backend

ignore_wrong_backend()  # before matplotlib, which modules here import
