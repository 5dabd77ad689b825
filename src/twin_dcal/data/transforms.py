"""Image transforms on uint8 tensors (torchvision v2): in (3, H, W) of any size, out uint8 (3, rows, columns).

They draw from torch's global RNG; `FaceDataset` gives each sample a seed of its own and puts the RNG back.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2 as _v2

from twin_dcal.image_size import ImageSize

from .fit import central, fit, sides

ImageTransform = Callable[[Tensor], Tensor]

v2: Any = _v2  # it re-exports by *, which a strict type check does not follow
_GREY = (128, 128, 128)
_LUMA = np.array([0.2989, 0.587, 0.114], np.float32)


def train_transform(
    image_size: ImageSize, horizontal_flip: bool, *, min_crop_area: float = 0.7, color_jitter: float = 0.2,
    erase_probability: float = 0.25,
) -> ImageTransform:  # fmt: skip
    """Modest augmentation of aligned faces, so that what tells twins apart survives it.

    A crop of `min_crop_area` to all of the area, stretched by a third of the rest at most, a flip if `horizontal_flip`
    (moles and partings have a side: off keeps them there), some light and colour, at times a small grey patch. For an
    input that is not square the area is that of the central part of its shape, as in use.
    """
    rows, columns = sides(image_size)
    shape, aspect = columns / rows, (1 - min_crop_area) / 3
    steps = [
        *([CentralPart((rows, columns))] if rows != columns else []),
        v2.RandomResizedCrop(
            [rows, columns],
            scale=(min_crop_area, 1.0),
            ratio=(shape * (1 - aspect), shape * (1 + aspect)),
            antialias=True,
        ),
        *([v2.RandomHorizontalFlip()] if horizontal_flip else []),
        *([ColorJitter(color_jitter)] if color_jitter else []),
        *(
            [v2.RandomErasing(p=erase_probability, scale=(0.02, 0.1), value=_GREY)]
            if erase_probability
            else []
        ),
    ]
    return _compose(steps)


class CentralPart(nn.Module):
    """The largest central part of a picture that has the input's shape, in its own pixels."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image_CHW: Tensor) -> Tensor:
        """(3, H, W) to a view of it."""
        return image_CHW[:, *central(image_CHW.shape[1:], self.size)]

    def extra_repr(self) -> str:
        return f"size={self.size}"


class ColorJitter(nn.Module):
    """Brightness, contrast and saturation, each times 1 - strength to 1 + strength, in random order.

    torchvision's `ColorJitter` in a third of its time: all three are affine in a pixel's colour (contrast keeps the
    image's mean grey where it is), so that one matrix does them, rounded and clipped once.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, image_CHW: Tensor) -> Tensor:
        """uint8 (3, H, W) to the same."""
        pixels_CP = image_CHW.contiguous().flatten(1).float()
        factors = (1 + self.strength * (2 * torch.rand(3) - 1)).tolist()
        matrix, shift_C = _jitter(factors, torch.randperm(3).tolist(), pixels_CP.mean(1).numpy())
        half_up_C1 = torch.from_numpy(shift_C + 0.5)[:, None]
        changed_CP = torch.addmm(half_up_C1, torch.from_numpy(matrix), pixels_CP)
        bytes_CP = (
            changed_CP.clamp_(0, 255).numpy().astype(np.uint8)
        )  # an eighth of the time of torch's own cast
        return torch.from_numpy(bytes_CP).view(image_CHW.shape)


def _jitter(
    factors: Sequence[float], order: Sequence[int], mean_C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (3, 3) and shift (3) of brightness, contrast and saturation (0, 1, 2) in the given order."""
    matrix: np.ndarray = np.eye(3, dtype=np.float32)
    shift_C: np.ndarray = np.zeros(3, np.float32)
    for step in order:
        factor = np.float32(factors[step])
        if step == 2:
            blend = factor * np.eye(3, dtype=np.float32) + (1 - factor) * _LUMA
            matrix, shift_C = blend @ matrix, blend @ shift_C
        else:
            grey = _LUMA @ (matrix @ mean_C + shift_C) if step == 1 else np.float32(0)
            matrix, shift_C = factor * matrix, factor * shift_C + (1 - factor) * grey
    return matrix, shift_C


def eval_transform(image_size: ImageSize) -> ImageTransform:
    """The central part of the input's shape at `image_size` (antialiased), as in use; a no-op at that size."""
    return partial(_fitted, image_size)


def _fitted(image_size: ImageSize, image_CHW: Tensor) -> Tensor:
    if image_CHW.shape[1:] == sides(image_size):
        return image_CHW.contiguous()
    pixels = fit(image_CHW.permute(1, 2, 0).numpy(), image_size)
    return torch.tensor(pixels).permute(2, 0, 1).contiguous()


def _compose(steps: list[nn.Module]) -> ImageTransform:
    composed: ImageTransform = v2.Compose(steps)
    return composed
