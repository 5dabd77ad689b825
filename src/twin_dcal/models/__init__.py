"""Attention as pure functions, rollout, backbones and the DCAL model."""

from twin_dcal.privacy import set_privacy_defaults

set_privacy_defaults()  # before timm, which every module here imports
