"""How far a map can be trusted: does the cosine follow it, does it point at the truth, does it depend on the weights?

Pure functions over one pair; `study` runs them over many. Legend: pair = (2, 3, H, W) normalised pictures, G cells a
side, K = G² cells, T steps.
"""

import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .attribution import Embed

BLUR = 1 / 12
"""Standard deviation of what hides a cell, as a share of the picture's longer side: shapes stay, features go."""
HALF = 0.5
TOLERANCE = 1 / 32
"""How far from the region a hit may lie, as a share of the picture's longer side: 2 pixels of 64."""

Network = TypeVar("Network", bound=nn.Module)
Map = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Deletion:
    """Cosines (T + 1,) while cells are hidden in both pictures, none to all: those that support "same" the most first,
    and last."""

    most_first: NDArray[np.float64]
    least_first: NDArray[np.float64]

    @property
    def deletion(self) -> float:
        """Mean cosine while the most supporting cells are hidden first; low for a faithful map."""
        return _area(self.most_first)

    @property
    def insertion(self) -> float:
        """Mean cosine while the most supporting cells are shown first, which is hiding the least supporting ones first,
        read backwards; high for a faithful map."""
        return _area(self.least_first)


def _area(curve: NDArray[np.float64]) -> float:
    return float((curve[1:] + curve[:-1]).mean() / 2)


@torch.no_grad()
def deletion_curves(
    embed: Embed, pair: Tensor, maps_2GG: NDArray[np.floating], num_steps: int = 8
) -> Deletion:
    """Hide cells in the order of each picture's own map (Petsiuk, Das & Saenko 2018), in both pictures in step.

    What hides them is the picture blurred, not the mean colour that occlusion attributes with, so that it has no home
    game. Ties keep the order of rows.
    """
    hidden = blurred(pair, BLUR * max(pair.shape[-2:]))
    num_cells, grid = maps_2GG[0].size, maps_2GG[0].shape[0]
    counts = np.linspace(0, num_cells, num_steps + 1).round().astype(int)
    curves = []
    for sign in (-1, 1):
        ranks_2K = np.argsort(np.argsort(sign * maps_2GG.reshape(2, -1), axis=1, kind="stable"), axis=1)
        steps = []
        for count in counts:
            mask_2GG = torch.from_numpy((ranks_2K < count).reshape(2, 1, grid, grid)).to(pair)
            mask = F.interpolate(mask_2GG, size=pair.shape[-2:], mode="nearest")
            steps.append(pair + mask * (hidden - pair))
        one, two = embed(torch.cat(steps)).reshape(len(steps), 2, -1).unbind(1)
        curves.append((one * two).sum(-1).double().cpu().numpy())
    return Deletion(*curves)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """(B, 3, H, W) through a Gaussian of `sigma` pixels, edges repeated."""
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).to(images)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, weights, groups=images.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=images.shape[1])


def half_of(difference: Map) -> NDArray[np.bool_]:
    """The smallest set of pixels that holds half of a difference map's sum; ties with the last are in."""
    falling = np.sort(difference, axis=None)[::-1]
    sums = np.cumsum(falling, dtype=np.float64)
    return np.asarray(difference >= falling[np.searchsorted(sums, HALF * sums[-1])])


def widened(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region and all pixels within the tolerance of it, by row and by column."""
    reach = max(1, round(TOLERANCE * max(region.shape)))
    mask = torch.from_numpy(region.astype(np.float32))[None, None]
    return np.asarray(F.max_pool2d(mask, 2 * reach + 1, 1, reach)[0, 0].numpy() > 0)


def points_at(map_HW: Map, target: NDArray[np.bool_]) -> bool:
    """The pointing game (Zhang et al. 2016): is the map's highest pixel in the target?"""
    return bool(target.flat[int(map_HW.argmax())])


def ranking(map_HW: Map, target: NDArray[np.bool_], within: NDArray[np.bool_]) -> float:
    """Chance that a pixel of the target has a higher value than another, both `within`; ties count half, NaN if one of
    the two is missing."""
    values, inside = map_HW[within], target[within]
    if inside.all() or not inside.any():
        return float("nan")
    num = int(inside.sum())
    return float((_ranks(values)[inside].sum() - num * (num - 1) / 2) / (num * (inside.size - num)))


def rank_correlation(one: Map, two: Map) -> float:
    """Spearman's, over all cells of two maps; 0 where one is constant."""
    first, second = (_ranks(values.ravel()) for values in (one, two))
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / length if length else 0.0


def _ranks(values: Map) -> NDArray[np.float64]:
    """(N,) from 0; equal values share the mean of theirs."""
    _, order = np.unique(values, return_inverse=True)
    counts = np.bincount(order)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[order], np.float64)


def with_shuffled_weights(model: Network, seed: int) -> Network:
    """A copy whose weights keep their values but not their places: the sanity check of Adebayo et al. 2018."""
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            flat = parameter.flatten().cpu()
            parameter.copy_(flat[torch.randperm(flat.numel(), generator=generator)].view_as(parameter))
    return shuffled
