"""What can be read off features without labels: statistics, neighbours, all similarities; files of groups."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.csvfile import csv_text
from twin_dcal.errors import ConfigError
from twin_dcal.files import fitting, replacing, write_text
from twin_dcal.inference.clusters import MAX_IMAGES, Clusters
from twin_dcal.metrics.fusion import Fusion, similarity_matrix

Features = NDArray[np.float32]

MAX_MATRIX = 20_000
"""Images of a similarity matrix: 1.6 GB."""
_ROWS_AT_ONCE = 1024


def statistics(features: Features) -> dict[str, Any]:
    """Plain values: number, width, and mean and spread of the cosines of a fixed sample of up to 100,000 pairs."""
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, len(features), (2, 100_000))
    different = one != two
    cosines = np.einsum("pd,pd->p", features[one[different]], features[two[different]])
    told: dict[str, Any] = {"num_images": len(features), "feature_dim": features.shape[1]}
    if cosines.size:
        told["cosines_of_random_pairs"] = {
            "num_pairs": int(cosines.size), "mean": float(cosines.mean()), "std": float(cosines.std()),
            "quantiles": {str(q): float(np.quantile(cosines, q)) for q in (0.01, 0.25, 0.5, 0.75, 0.99)},
        }  # fmt: skip
    variances = features.var(axis=0, dtype=np.float64)
    told["num_constant_dimensions"] = int((variances < 1e-12).sum())
    # Participation ratio of the covariance's spectrum: how many directions share the variance.
    spectrum = np.linalg.svd(features[:5000] - features[:5000].mean(axis=0), compute_uv=False) ** 2
    told["effective_dimensions"] = (
        float(spectrum.sum() ** 2 / np.square(spectrum).sum()) if spectrum.any() else 0.0
    )
    return told


def top_k(features: Features, k: int, fusion: Fusion | None = None) -> tuple[NDArray[np.intp], Features]:
    """The k most similar other images of each, most similar first.

    Returns rows (N, k) and similarities (N, k): cosines, or what `fusion` makes of them.
    """
    num_images = len(features)
    k = min(k, num_images - 1)
    rows, scores = np.empty((num_images, k), np.intp), np.empty((num_images, k), np.float32)
    for start in range(0, num_images, _ROWS_AT_ONCE):
        block = similarity_matrix(features[start : start + _ROWS_AT_ONCE], features, fusion)
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        nearest = np.argpartition(-block, k - 1, axis=1)[:, :k] if k else np.empty((len(block), 0), np.intp)
        found = np.take_along_axis(block, nearest, axis=1)
        order = np.lexsort((nearest, -found), axis=1)
        rows[start : start + len(block)] = np.take_along_axis(nearest, order, axis=1)
        scores[start : start + len(block)] = np.take_along_axis(found, order, axis=1)
    return rows, np.clip(scores, -1, 1)


def check_matrix(num_images: int) -> None:
    """ConfigError where a similarity matrix would not fit."""
    if num_images > MAX_MATRIX:
        raise ConfigError(
            f"--similarity_matrix: at most {MAX_MATRIX:,} images, given {num_images:,}; use --top_k_similar"
        )


def check_grouped(num_images: int) -> None:
    """ConfigError where groups of so many would take too much memory."""
    if num_images > MAX_IMAGES:
        raise ConfigError(f"--cluster_features: at most {MAX_IMAGES:,} images, given {num_images:,}")


def write_matrix(path: Path, features: Features, names: Sequence[str], fusion: Fusion | None = None) -> None:
    check_matrix(len(names))
    matrix = np.clip(similarity_matrix(features, features, fusion), -1, 1)
    with replacing(path) as file:
        np.savez(file, similarity_matrix=matrix, image_paths=np.array(names, np.str_))


def write_top_k(
    path: Path, features: Features, names: Sequence[str], k: int, fusion: Fusion | None = None
) -> None:
    rows, scores = top_k(features, k, fusion)
    listed = [
        {
            "image": name,
            "similar": [
                {"image": names[row], "similarity": round(float(score), 6)}
                for row, score in zip(found, alike, strict=True)
            ],
        }
        for name, found, alike in zip(names, rows, scores, strict=True)
    ]
    write_text(path, json.dumps(listed, indent=1, ensure_ascii=False) + "\n")


def write_clusters(path: Path, found: Clusters) -> None:
    rows = ((row["cluster"], row["image"]) for row in found.records())
    write_text(path, csv_text(("cluster", "image"), rows))


def write_individual(folder: Path, features: Features, ids: Sequence[str]) -> None:
    """One .npy a picture, below `folder` under its id, cut where that is too long for a file."""
    for vector, name in zip(features, ids, strict=True):
        place = folder / name
        with replacing(place.with_name(fitting(place.name, ".npy"))) as file:
            np.save(file, vector)
