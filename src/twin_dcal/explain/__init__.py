"""Why a pair looks alike or different to a model: attention, attribution of its cosine, and how far to trust them."""

from twin_dcal.environment import ignore_wrong_backend

ignore_wrong_backend()  # before matplotlib, which modules here import
