"""The training loop and what it writes."""

from twin_dcal.privacy import set_privacy_defaults

set_privacy_defaults()  # before timm, which `batchnorm` imports
