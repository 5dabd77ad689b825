"""What is written beside features: statistics always, the rest where it is wanted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twin_dcal.evaluation.match_names import short_ids
from twin_dcal.files import write_text
from twin_dcal.inference.clusters import grouped
from twin_dcal.metrics.fusion import Fusion

from . import analysis

Thumbnails = Literal["images", "blurred", "none"]
SAMPLED = 200_000
"""Statistics of more features are those of a sample, every so many-th, so that one file at a time is in memory."""


@dataclass(frozen=True)
class Wanted:
    """top_k: neighbours of each picture; cluster_at: similarity at which groups part; None leaves either out.
    clusters_page: thumbnails on the page of groups, None for no page; left_out: why other pictures are not grouped.
    fusion: what makes a similarity of two features, None for their cosine."""

    similarity_matrix: bool = False
    top_k: int | None = None
    cluster_at: float | None = None
    clusters_page: Thumbnails | None = None
    left_out: Sequence[str] = ()
    individual: bool = False
    plots: bool = False
    fusion: Fusion | None = None

    @property
    def needs_all(self) -> bool:
        """Whether anything but statistics is wanted: that is made of all features together."""
        at = (self.top_k, self.cluster_at)
        return self.similarity_matrix or self.individual or self.plots or any(each is not None for each in at)


def write_beside(files: Sequence[Path], wanted: Wanted) -> list[Path]:
    """Analyze the features of all files together; the paths of what was written. All are held in memory if anything but
    statistics is wanted."""
    folder = files[0].parent
    written = [folder / "feature_statistics.json"]
    write_text(written[0], json.dumps(_statistics(files), indent=2) + "\n")
    if not wanted.needs_all:
        return written
    parts = []
    for path in files:
        with np.load(path) as stored:
            parts.append([stored[key] for key in ("features", "image_paths")])
    features, paths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    names = paths.tolist()
    ids = short_ids(names)  # of all shards: the ids in one of them are short for that shard alone
    if wanted.similarity_matrix:
        written.append(folder / "similarity_matrix.npz")
        analysis.write_matrix(written[-1], features, names, wanted.fusion)
    if wanted.top_k is not None:
        written.append(folder / "top_k_similar.json")
        analysis.write_top_k(written[-1], features, names, wanted.top_k, wanted.fusion)
    if wanted.cluster_at is not None:
        written.append(folder / "clusters.csv")
        groups = grouped(features, names, wanted.cluster_at, wanted.fusion, wanted.left_out)
        analysis.write_clusters(written[-1], groups)
        if wanted.clusters_page is not None:
            from twin_dcal.report.clusters_page import write_clusters_page  # jinja

            shown = wanted.clusters_page
            written.append(folder / "clusters.html")
            write_clusters_page(groups, written[-1], images=shown != "none", blur=shown == "blurred")
    if wanted.individual:
        written.append(folder / "individual")
        analysis.write_individual(written[-1], features, ids)
    if wanted.plots:
        from .plots import plot_features  # matplotlib

        written += plot_features(features, names, folder)
    return written


def _statistics(files: Sequence[Path]) -> dict[str, Any]:
    """Of all features, or of every so many-th of them in order."""
    numbers = []
    for path in files:
        with np.load(path) as stored:
            numbers.append(int(stored["num_images"]))
    every, start, sample = max(1, -(-sum(numbers) // SAMPLED)), 0, []
    for path, number in zip(files, numbers, strict=True):
        with np.load(path) as stored:
            sample.append(stored["features"][-start % every :: every])
        start += number
    told = analysis.statistics(np.concatenate(sample))
    return told if every == 1 else told | {"num_images": start, "num_sampled": told["num_images"]}
