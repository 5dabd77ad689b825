"""A checkpoint through torch, on a CPU or a GPU."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twin_dcal.checkpoint import load_model, store_decision
from twin_dcal.device import process_device
from twin_dcal.explain.attention import AttentionMaps, features_and_maps
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.models.dcal import DCALVerificationModel

from .backend import FeatureType, ModelSource, unit_rows
from .deciding import Deciding


class TorchBackend:
    """A `best_model.pth` in evaluation mode.

    Nothing global is touched (threads, seeds, precision), so engines on several devices live side by side.
    """

    def __init__(self, path: str | Path, device: str = "auto") -> None:
        self._device = process_device(device)
        loaded = load_model(path, self._device)
        self.loaded = loaded
        self.model: DCALVerificationModel = loaded.model
        self.preprocessing = loaded.preprocessing
        self.source = ModelSource(
            path=str(path), sha256=loaded.sha256, format="torch", backbone=loaded.config.model.backbone,
            branches=tuple(loaded.model.branches), image_size=loaded.preprocessing.image_size,
            mean=loaded.preprocessing.mean, std=loaded.preprocessing.std, threshold=loaded.threshold,
            calibration=loaded.calibration, error_curve=loaded.error_curve, training=loaded.training,
            landmarks=loaded.preprocessing.landmarks, fusion=loaded.fusion,
            familiarity=loaded.familiarity, templates=loaded.templates,
        )  # fmt: skip

    @property
    def device(self) -> str:
        return str(self._device)

    def normalized(self, pixels_BSSC: NDArray[np.uint8]) -> torch.Tensor:
        """(B, 3, H, W) float32 on the model's device: what the network takes."""
        images = torch.tensor(pixels_BSSC).permute(0, 3, 1, 2)
        return self.preprocessing.normalize(images.to(self._device))

    def store(self, deciding: Deciding) -> None:
        """Write threshold, calibration, error curve and those of templates into the file, and take them for its own.
        ModelError if it has changed since it was loaded."""
        origin = {name: value for name, value in deciding.origin.items() if name != "set_by"}
        threshold = Threshold(deciding.required(), origin)
        store_decision(
            self.source.path, threshold, deciding.calibration, deciding.error_curve, deciding.templates,
            expected_sha256=self.source.sha256,
        )  # fmt: skip
        sha256 = hashlib.sha256(Path(self.source.path).read_bytes()).hexdigest()
        self.source = replace(
            self.source, sha256=sha256, threshold=threshold, calibration=deciding.calibration,
            error_curve=deciding.error_curve, templates=deciding.templates,
        )  # fmt: skip

    @torch.inference_mode()
    def embed(
        self, pixels_BSSC: NDArray[np.uint8], feature_type: FeatureType = "combined"
    ) -> NDArray[np.float32]:
        """(B, E) float32 with unit rows, from (B, H, W, 3) uint8 RGB. In full precision, whatever the device."""
        return unit_rows(
            _array(self.model.embed(self.normalized(pixels_BSSC), feature_type)), self.source.path
        )

    @torch.inference_mode()
    def embed_and_look(self, pixels_BSSC: NDArray[np.uint8]) -> tuple[NDArray[np.float32], AttentionMaps]:
        """The combined features, and where the model attended, from one pass."""
        features, maps = features_and_maps(self.model, self.normalized(pixels_BSSC))
        return unit_rows(_array(features), self.source.path), maps


def _array(features: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(features.float().cpu().numpy())
