"""What happens to pixels between the aligned crop and the network; it travels with the checkpoint."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.image_size import ImageSize

from .backbone import Landmarks, TokenBackbone

_IDENTITY = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Preprocessing:
    """Input size in pixels, and the mean and deviation of each channel on the [0, 1] scale.

    image_size: a square's side, or rows and columns. landmarks: (5, 2) where faces lie in the crops, of side 1 (one
    that is not square is the central part of a square), if these are not those of `dcal-prepare`.
    """

    image_size: ImageSize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    landmarks: Landmarks | None = None

    @classmethod
    def of(cls, backbone: TokenBackbone, config: TwinVerificationConfig) -> Self:
        mean, std = (backbone.mean, backbone.std) if config.data.normalize else _IDENTITY
        return cls(config.data.image_size, mean, std, backbone.landmarks)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        landmarks = values.get("landmarks")  # absent in files of earlier releases
        points = None if landmarks is None else tuple((float(x), float(y)) for x, y in landmarks)
        size = values["image_size"]
        size = int(size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        return cls(size, tuple(values["mean"]), tuple(values["std"]), points)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, rows, columns) uint8 in 0…255, or float in [0, 1], to the network's float32 input."""
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        mean, std = (torch.tensor(x, device=images.device).view(3, 1, 1) for x in (self.mean, self.std))
        return (images.float() - mean * scale) / (std * scale)
