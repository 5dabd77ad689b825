"""One part of the pictures as its features, in whichever process computes it. Parts are independent of each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from twin_dcal.inference.aligning import prepare_file
from twin_dcal.inference.backend import FeatureType
from twin_dcal.inference.engine import TwinInferenceEngine

from .loading import Loaded, Prepare


@dataclass(frozen=True, eq=False)
class Part:
    """Features (N, E) of the pictures that could be read, their rows in the part, and rows and reasons of the others,
    (M, 2)."""

    features: NDArray[np.float32]
    rows: NDArray[np.intp]
    failed: NDArray[np.str_]


def reading(engine: TwinInferenceEngine) -> Prepare:
    """A picklable function that prepares a file as the engine does."""
    source = engine.source
    return partial(prepare_file, engine.align, source.image_size, source.landmarks, engine.surface)


def embed_part(
    engine: TwinInferenceEngine, loaded: Iterator[Loaded], feature_type: FeatureType, batch_size: int,
    advance: Callable[[int], object] = lambda count: None,
) -> Part:  # fmt: skip
    """Args: loaded: the part's pictures in order; advance: is told how many more were read."""
    features, rows, failed, batch = [], [], [], []
    for row, item in enumerate(loaded):
        if isinstance(item, str):
            failed.append((str(row), item))
        else:
            rows.append(row)
            batch.append(item)
        if len(batch) == batch_size:
            features.append(engine.backend.embed(np.stack(batch), feature_type))
            batch = []
        advance(1)
    if batch:
        features.append(engine.backend.embed(np.stack(batch), feature_type))
    width = np.concatenate(features) if features else np.empty((0, 0), np.float32)
    return Part(width, np.array(rows, np.intp), np.array(failed, np.str_).reshape(-1, 2))
