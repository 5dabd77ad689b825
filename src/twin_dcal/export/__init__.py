"""A checkpoint as one ONNX file that runs without torch: written only once it gives what the checkpoint gives."""

from twin_dcal.privacy import set_privacy_defaults

set_privacy_defaults()  # before timm, which `graph` imports
