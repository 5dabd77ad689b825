"""Images to embeddings: each image once, whatever the number of pairs it is in."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twin_dcal.models.dcal import DCALVerificationModel, FeatureType
from twin_dcal.models.preprocessing import Preprocessing


@torch.inference_mode()
def embed_batches(
    model: DCALVerificationModel, batches: Iterable[Tensor], preprocessing: Preprocessing, *,
    feature_type: FeatureType = "combined", amp_dtype: torch.dtype | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Features of batches of (B, 3, S, S) uint8 or [0, 1] images, in their order.

    Runs in evaluation mode on the model's device and restores the mode. `amp_dtype` turns on autocast.
    Returns (N, E) float32 with unit rows; (0, E) for no batch.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    rows = [np.empty((0, model.embedding_dim(feature_type)), np.float32)]
    try:
        for images in batches:
            normalized = preprocessing.normalize(images.to(device, non_blocking=True))
            with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
                features = model.embed(normalized, feature_type)
            rows.append(features.float().cpu().numpy())
    finally:
        model.train(was_training)
    return np.concatenate(rows)
