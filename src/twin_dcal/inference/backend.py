"""What an engine runs on: a checkpoint through torch, or an exported model through ONNX Runtime.

A backend turns pixels into embeddings and says what its model file says; deciding is the engine's. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ModelError
from twin_dcal.image_size import ImageSize
from twin_dcal.metrics.calibration import Calibration
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.templates import TemplateDecision
from twin_dcal.model_file.familiarity import Familiarity

from .given import as_path

FeatureType = Literal["combined", "sa", "glca"]


@dataclass(frozen=True)
class ModelSource:
    """A model file: where it is, what it holds, and how its decisions were set.

    image_size in pixels, a side or rows and columns; mean and std (3,) on the [0, 1] scale; training: plain values of
    the run, may be empty.
    """

    path: str
    sha256: str
    format: Literal["torch", "onnx"]
    backbone: str
    branches: tuple[str, ...]
    image_size: ImageSize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    threshold: Threshold | None
    calibration: Calibration | None
    error_curve: ErrorCurve | None
    training: Mapping[str, Any] = field(default_factory=dict)
    fusion: Fusion | None = None
    """What makes a pair's score of its two features; None takes their cosine."""
    familiarity: Familiarity | None = None
    """What its training pictures look like; None where the file does not say."""
    landmarks: tuple[tuple[float, float], ...] | None = None
    """(5, 2) where faces lie in the crops it takes, of side 1; None where `dcal-prepare` places them."""
    templates: tuple[TemplateDecision, ...] = ()
    """What decides on several photographs of each; empty where the file does not say."""

    def feature_types(self) -> tuple[FeatureType, ...]:
        """What can be extracted: both branches together, or each."""
        return ("combined", "sa", "glca") if "glca" in self.branches else ("combined", "sa")

    def described(self) -> dict[str, Any]:
        """Plain values that tell which model a result is from."""
        return {
            "path": self.path, "sha256": self.sha256, "format": self.format, "backbone": self.backbone,
            "branches": list(self.branches),
        }  # fmt: skip


_ROUNDING = 1e-2


class Backend(Protocol):
    """A loaded model on a device. Safe to call from several threads."""

    @property
    def source(self) -> ModelSource: ...

    @property
    def device(self) -> str: ...

    def embed(
        self, pixels_BSSC: NDArray[np.uint8], feature_type: FeatureType = "combined"
    ) -> NDArray[np.float32]:
        """(B, E) float32 with unit rows, from (B, H, W, 3) uint8 RGB of the model's image size; B may be 0."""
        ...


def unit_rows(features_BE: NDArray[np.float32], path: str) -> NDArray[np.float32]:
    """Features as a model gave them. ModelError unless every row has length 1: overflow or damage decides nothing."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(features_BE, axis=-1)
    if not (np.abs(lengths - 1) < _ROUNDING).all():  # also for NaN
        raise ModelError(
            f"{path}: damaged: its network gives features without length or with numbers that are none"
        )
    return features_BE


def open_backend(path: str | Path, device: str = "auto") -> Backend:
    """A model file on a device. ModelError for a file that is none, ConfigError for a device that is not there."""
    path = checkpoint_in(path)
    if path.suffix.lower() == ".onnx":
        from .onnx_backend import OnnxBackend

        return OnnxBackend(path, device)
    from .torch_backend import TorchBackend

    return TorchBackend(path, device)


def checkpoint_in(path: str | Path) -> Path:
    """The file itself, or the best_model.pth of a run's folder. ModelError where there is none."""
    path = as_path(path, "model", ModelError)
    if path.is_dir():
        found = path / "best_model.pth"
        if not found.is_file():
            raise ModelError(f"{path}: a folder without best_model.pth; name a model file")
        path = found
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    return path
