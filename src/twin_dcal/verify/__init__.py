"""One pair, a folder of pictures or a prompt, on a terminal: what `dcal-verify` does."""

from twin_dcal.environment import ignore_wrong_backend

ignore_wrong_backend()  # before matplotlib, which modules here import
