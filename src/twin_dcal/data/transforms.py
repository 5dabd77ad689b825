"""Image transforms on uint8 tensors (torchvision v2): in (3, H, W) of any size, out uint8 (3, S, S).

They draw from torch's global RNG; `FaceDataset` gives each sample a seed of its own and puts the RNG back.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import v2 as _v2

ImageTransform = Callable[[Tensor], Tensor]

v2: Any = _v2  # it re-exports by *, which a strict type check does not follow
_GREY = (128, 128, 128)


def train_transform(image_size: int, horizontal_flip: bool) -> ImageTransform:
    """Modest augmentation of aligned faces, so that what tells twins apart survives it.

    A crop of 70–100 % of the area, a flip if `horizontal_flip` (moles and partings have a side: off keeps
    them there), some light and colour, at times a small grey patch.
    """
    size = [image_size, image_size]
    steps = [
        v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.9, 1.1), antialias=True),
        *([v2.RandomHorizontalFlip()] if horizontal_flip else []),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        v2.RandomErasing(p=0.25, scale=(0.02, 0.1), value=_GREY),
    ]
    return _compose(steps)


def eval_transform(image_size: int) -> ImageTransform:
    """The shorter side to `image_size` (antialiased), then the centre; a no-op at that size."""
    return _compose([v2.Resize(image_size, antialias=True), v2.CenterCrop(image_size)])


def _compose(steps: list[nn.Module]) -> ImageTransform:
    composed: ImageTransform = v2.Compose(steps)
    return composed
