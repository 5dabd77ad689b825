"""Image transforms on uint8 tensors (torchvision v2): in (3, H, W) of any size, out uint8 (3, S, S).

They draw from torch's global RNG; `FaceDataset` gives each sample a seed of its own and puts the RNG back.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2 as _v2

from .fit import fit

ImageTransform = Callable[[Tensor], Tensor]

v2: Any = _v2  # it re-exports by *, which a strict type check does not follow
_GREY = (128, 128, 128)


def train_transform(
    image_size: int, horizontal_flip: bool, *, min_crop_area: float = 0.7, color_jitter: float = 0.2,
    erase_probability: float = 0.25,
) -> ImageTransform:  # fmt: skip
    """Modest augmentation of aligned faces, so that what tells twins apart survives it.

    A crop of `min_crop_area` to all of the area, stretched by a third of the rest at most, a flip if `horizontal_flip`
    (moles and partings have a side: off keeps them there), some light and colour, at times a small grey patch.
    """
    size = [image_size, image_size]
    aspect = (1 - min_crop_area) / 3
    steps = [
        v2.RandomResizedCrop(
            size, scale=(min_crop_area, 1.0), ratio=(1 - aspect, 1 + aspect), antialias=True
        ),
        *([v2.RandomHorizontalFlip()] if horizontal_flip else []),
        *([v2.ColorJitter(color_jitter, color_jitter, color_jitter)] if color_jitter else []),
        *(
            [v2.RandomErasing(p=erase_probability, scale=(0.02, 0.1), value=_GREY)]
            if erase_probability
            else []
        ),
    ]
    return _compose(steps)


def eval_transform(image_size: int) -> ImageTransform:
    """The central square at `image_size` (antialiased), as in use; a no-op at that size."""
    return partial(_fitted, image_size)


def _fitted(image_size: int, image_CHW: Tensor) -> Tensor:
    if image_CHW.shape[1:] == (image_size, image_size):
        return image_CHW
    pixels = fit(image_CHW.permute(1, 2, 0).numpy(), image_size)
    return torch.tensor(pixels).permute(2, 0, 1).contiguous()


def _compose(steps: list[nn.Module]) -> ImageTransform:
    composed: ImageTransform = v2.Compose(steps)
    return composed
