"""Features on a plane: t-SNE and principal components, coloured by folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twin_dcal.files import replacing
from twin_dcal.plural import plural
from twin_dcal.report.projection import principal_components, tsne
from twin_dcal.report.rendering import render
from twin_dcal.report.theme import LIGHT, drawing
from twin_dcal.report.wording import shown

MAX_IMAGES = 2000
MAX_NAMED = 10
_CYCLE = ("genuine", "twin", "unrelated", "one", "two", "all", "other")
_SIGNS = "o^sDv"


def plot_features(
    features: NDArray[np.float32], names: Sequence[str], folder: Path, seed: int = 0
) -> list[Path]:
    """features_pca.png and, where scikit-learn is installed, features_tsne.png, of up to 2,000 images drawn at random.

    Returns what was written.
    """
    chosen = np.arange(len(names))
    if len(names) > MAX_IMAGES:
        chosen = np.sort(np.random.default_rng(seed).choice(len(names), MAX_IMAGES, replace=False))
    vectors = features[chosen].astype(np.float64)
    folders = [Path(names[row]).parent.name for row in chosen.tolist()]
    written = []
    planes = [("features_pca", "principal components", principal_components(vectors))]
    plane, method = tsne(vectors, seed)
    if method != "PCA":
        planes.append(("features_tsne", method, plane))
    for stem, title, places in planes:
        with drawing(stem):
            figure = plane_figure(
                places, folders, f"{title}: {chosen.size:,} of {plural(len(names), 'image')}"
            )
            picture = render(figure, stem, "png")
        with replacing(folder / f"{stem}.png") as file:
            file.write(picture)
        written.append(folder / f"{stem}.png")
    return written


def plane_figure(places: NDArray[np.float64], folders: Sequence[str], title: str) -> Figure:
    """Images as dots; up to ten folders are named, others share the colours."""
    figure = Figure((6, 4.7), layout="constrained")
    axes = figure.subplots()
    members = sorted(set(folders))
    for number, member in enumerate(members):
        x, y = places[[row for row, folder in enumerate(folders) if folder == member]].T
        axes.plot(
            x, y, _SIGNS[number // len(_CYCLE) % len(_SIGNS)], color=LIGHT[_CYCLE[number % len(_CYCLE)]],
            markersize=4, markeredgewidth=0, alpha=0.75, label=shown(member),
        )  # fmt: skip
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    axes.set_title(f"{title}, {plural(len(members), 'folder')}", loc="left")
    if 1 < len(members) <= MAX_NAMED:
        legend = figure.legend(loc="outside right upper", frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure
