"""The training loop and what it writes."""

from twin_dcal.environment import ignore_wrong_backend
from twin_dcal.privacy import set_privacy_defaults

set_privacy_defaults()  # before timm, which `batchnorm` imports
ignore_wrong_backend()  # before matplotlib, which `curves` imports
