"""How faithful the explanations of a model are: maps and baselines over many pairs, with intervals by family."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twin_dcal.data.fit import fit
from twin_dcal.data.images import read_image
from twin_dcal.image_size import ImageSize
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.progress import track

from .attention import attention_maps
from .faithfulness import (
    deletion_curves,
    half_of,
    points_at,
    rank_correlation,
    ranking,
    widened,
    with_shuffled_weights,
)
from .overlays import resized, seen
from .pair import METHODS, Explainable, attributions, normalized
from .sample import KnownTruth, StudyPair

logger = logging.getLogger(__name__)

Maps = NDArray[np.floating]

MEASURED_GRID = 7
"""Cells a side that are hidden: of no method's own grid, so that none is measured on its own ground."""
SANITY_PAIRS = 10
SIGNED = METHODS
UNSIGNED = ("rollout", "glca", "pixels", "centre")


@dataclass(frozen=True)
class Row:
    """One map of one pair.

    deletion, insertion: see `Deletion`. For twins whose difference is known, means over the two pictures: pointing,
    whether the map's strongest "different" lies on it; chance, that of a random pixel; ranking, see
    `faithfulness.ranking`.
    """

    name: str
    kind: str
    family: str
    deletion: float
    insertion: float
    pointing: float = float("nan")
    chance: float = float("nan")
    ranking: float = float("nan")


@dataclass(frozen=True, eq=False)
class Study:
    """Rows of every map and pair; sanity: rank correlations (pairs,) of each map with that of shuffled weights."""

    rows: Sequence[Row]
    sanity: Mapping[str, NDArray[np.float64]]


def study(
    source: Explainable,
    pairs: Sequence[StudyPair],
    truth: KnownTruth | None,
    seed: int,
) -> Study:
    """Measure every map on every pair; some 200 pictures are embedded for each."""
    model, rng = source.model, np.random.default_rng((seed, 8))
    shuffled = with_shuffled_weights(model, seed)
    rows: list[Row] = []
    sanity: dict[str, list[float]] = {}
    with torch.inference_mode(False):
        for number, pair in enumerate(track(pairs, "explaining", "pairs")):
            images = normalized(source, read_pair(pair, model.image_size))
            maps = _explained(model, images)
            if number < SANITY_PAIRS:
                others = _explained(shuffled, images)
                for name, map_ in others.items():
                    sanity.setdefault(name, []).append(_agreement(maps[name], map_))
            maps |= _baselines(images, rng)
            rows += _measured(model.embed, images, maps, pair, truth)
    return Study(rows, {name: np.array(values) for name, values in sanity.items()})


def read_pair(pair: StudyPair, size: ImageSize) -> NDArray[np.uint8]:
    """(2, rows, columns, 3) as the network sees them. ImageError for a file that cannot be read."""
    pictures = (read_image(Path(name)).permute(1, 2, 0).numpy() for name in (pair.first, pair.second))
    return np.stack([fit(pixels, size) for pixels in pictures])


def _explained(model: DCALVerificationModel, images: Tensor) -> dict[str, Maps]:
    maps = attributions(model, images)
    attended = attention_maps(model, images)
    maps["rollout"] = attended.rollout.cpu().numpy()
    if attended.glca is not None:
        maps["glca"] = attended.glca.cpu().numpy()
    return maps


def _baselines(images: Tensor, rng: np.random.Generator) -> dict[str, Maps]:
    """Where the pixels of the two differ, the centre of the picture, and chance."""
    down, across = ((np.arange(size) + 0.5 - size / 2) / max(images.shape[2:]) for size in images.shape[2:])
    centre = np.exp(-(down[:, None] ** 2 + across**2) / (2 * 0.2**2))
    apart = (images[0] - images[1]).abs().amax(0).cpu().numpy()
    return {
        "pixels": np.stack([apart, apart]), "centre": np.stack([centre, centre]),
        "random": rng.standard_normal((2, MEASURED_GRID, MEASURED_GRID)),
    }  # fmt: skip


def _measured(
    embed: Callable[[Tensor], Tensor], images: Tensor, maps: Mapping[str, Maps], pair: StudyPair,
    truth: KnownTruth | None,
) -> list[Row]:  # fmt: skip
    size = (images.shape[2], images.shape[3])
    known = truth.differences(pair) if truth is not None and pair.kind == "twin" else None
    rows = []
    for name, map_ in maps.items():
        full = np.stack([resized(side, size) for side in map_])
        cells = np.stack([resized(side, MEASURED_GRID) for side in full])
        curves = deletion_curves(embed, images, cells)
        pointing = {} if known is None else _pointed(full if name not in SIGNED else -full, known)
        rows.append(Row(name, pair.kind, pair.family, curves.deletion, curves.insertion, **pointing))
    return rows


def _pointed(maps_2HW: Maps, known: tuple[tuple[Maps, Maps], tuple[Maps, Maps]]) -> dict[str, float]:
    """Means over the two pictures; a picture whose difference is out of sight counts as nothing."""
    hits, chances, ranks = [], [], []
    for map_, difference, face in zip(maps_2HW, *known, strict=True):
        size = (map_.shape[0], map_.shape[1])
        difference = seen(difference, size)
        if difference.max() <= 0:
            continue
        target = half_of(resized(difference, size))
        wide = widened(target)
        hits.append(points_at(map_, wide))
        chances.append(float(wide.mean()))
        ranks.append(ranking(map_, target, resized(seen(face, size), size) > 0.5))
    if not hits:
        return {}
    return {
        "pointing": float(np.mean(hits)),
        "chance": float(np.mean(chances)),
        "ranking": float(np.mean(ranks)),
    }


def _agreement(one: Maps, two: Maps) -> float:
    return float(np.mean([rank_correlation(*sides) for sides in zip(one, two, strict=True)]))
