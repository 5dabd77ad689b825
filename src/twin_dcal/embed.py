"""Images to embeddings: each image once, whatever the number of pairs it is in."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twin_dcal import distributed
from twin_dcal.checkpoint import LoadedModel
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.dataset import Sample, Unreadable, batch_faults
from twin_dcal.data.images import read_image
from twin_dcal.models.dcal import DCALVerificationModel, FeatureType
from twin_dcal.models.preprocessing import Preprocessing
from twin_dcal.progress import ProgressBar

Prepare = Callable[[str], NDArray[np.uint8]]
"""A file as the network takes it, (rows, columns, 3): the face found and aligned, say. ImageError for one without."""


class Embedded(NamedTuple):
    """vectors: (N, E) float32, unit rows; faults: row to reason of the images that could not be read, whose vectors
    mean nothing."""

    vectors: NDArray[np.float32]
    faults: Mapping[int, str]


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


def embed_loaded(
    model: DCALVerificationModel, own_part: Iterable[Sample], preprocessing: Preprocessing,
    feature_type: FeatureType = "combined",
) -> Embedded:  # fmt: skip
    """Features of all images in every process, from loaders of each process's part (`distributed.shard_range`)."""
    faults: dict[int, str] = {}
    own = embed_batches(model, _images(own_part, faults), preprocessing, feature_type=feature_type)
    everyones = distributed.gather_objects(faults)
    faults = {row: fault for part in everyones for row, fault in part.items()}
    return Embedded(distributed.gather_rows(torch.from_numpy(own)).numpy(), dict(sorted(faults.items())))


def _images(batches: Iterable[Sample], faults: dict[int, str]) -> Iterator[Tensor]:
    """The images of batches; what could not be read is added to `faults`."""
    for batch in batches:
        faults.update(batch_faults(batch))
        yield batch["image"]


def embed_images(
    loaded: LoadedModel,
    names: Sequence[str],
    *,
    batch_size: int,
    num_workers: int = 0,
    feature_type: FeatureType = "combined",
    strict: bool = False,
    prepare: Prepare | None = None,
) -> Embedded:
    """Features of image files, in order, with the checkpoint's own preprocessing. ImageError for a bad file if strict.

    Args: prepare: None takes the central part of each picture, and must be picklable where workers are not forked.
    With several processes each embeds whole batches of its own, and all have all features: the same numbers as one
    process computes.
    """
    device = next(loaded.model.parameters()).device.type
    config = loaded.config.override({"runtime.num_workers": num_workers, "runtime.device": device})
    part = distributed.shard_range(len(names), batch_size)
    read = read_image if prepare is None else partial(_prepared, prepare)
    unreadable: Unreadable = "refuse" if strict else "blank"
    loader = TwinDataModule(config).eval_loader(names, batch_size, part, unreadable, read)
    with ProgressBar(len(part), "embedding", "images", shown=distributed.is_main()) as progress:
        batches = _counted(loader, progress)
        return embed_loaded(loaded.model, batches, loaded.preprocessing, feature_type)


def _counted(batches: Iterable[Sample], progress: ProgressBar) -> Iterator[Sample]:
    for batch in batches:
        yield batch
        progress.update(len(batch["image"]))


def _prepared(prepare: Prepare, path: Path) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(prepare(str(path)))).permute(2, 0, 1)
