"""Images as tensors.

Pillow decodes everything: torchvision's decoders give the same pixels and save 8 % of loading and augmenting
a 224 px face, but are deprecated since torchvision 0.29 and to be removed.
"""

from pathlib import Path

import torch
from torch import Tensor

from .decode import decode_pixels, read_bytes


def read_image(source: str | Path | bytes) -> Tensor:
    """An image file, or the bytes of one, upright (EXIF orientation applied) and in 8-bit RGB.

    Read: JPEG (also CMYK), PNG, WebP, BMP, TIFF (its first picture), PGM/PPM, whatever the file is called. Transparency
    is composited on white, as viewers show it; 16-bit grey is scaled to 8 bits.
    Returns: uint8 (3, H, W), in memory as it was decoded, colours side by side (channels last). ImageError, one line
    with path and reason, if the file is missing, truncated, not an image or has more than 100 million pixels.
    """
    name, data = ("image", source) if isinstance(source, bytes) else (str(source), read_bytes(source))
    return torch.from_numpy(decode_pixels(data, name)).permute(2, 0, 1)
