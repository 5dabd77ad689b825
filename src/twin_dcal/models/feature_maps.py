"""How a timm network's features hold its patches: as a map, as a map with channels last, or as tokens."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Axes = Literal["NCHW", "NHWC", "NLC"]


@dataclass(frozen=True)
class FeatureLayout:
    """Axes of a network's features, their channels, and (rows, columns) of patches after `num_prefix` tokens."""

    axes: Axes
    channels: int
    grid: tuple[int, int]
    num_prefix: int = 0

    def patches(self, features: Tensor) -> Tensor:
        """(B, N, F), row by row."""
        if self.axes == "NLC":
            return features[:, self.num_prefix :]
        if self.axes == "NHWC":
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)


def feature_layout(network: Any, features: Tensor, image_size: tuple[int, int]) -> FeatureLayout:
    """The layout of the features that `network` gave for an image of this size. ValueError if it cannot be told."""
    channels, shape = int(network.num_features), tuple(features.shape)
    if len(shape) == 4:
        last = getattr(network, "output_fmt", "") == "NHWC" or shape[1] != channels
        if shape[3 if last else 1] == channels:
            return FeatureLayout("NHWC" if last else "NCHW", channels, shape[1:3] if last else shape[2:])
    elif len(shape) == 3 and shape[2] == channels:
        has_class_token = getattr(network, "cls_token", None) is not None
        num_prefix = int(getattr(network, "num_prefix_tokens", has_class_token))
        grid = _token_grid(network, shape[1] - num_prefix, image_size)
        if grid is not None:
            return FeatureLayout("NLC", channels, grid, num_prefix)
    raise ValueError(f"features of shape {shape} are neither a map nor tokens of {channels} channels")


def _token_grid(network: Any, num_patches: int, image_size: tuple[int, int]) -> tuple[int, int] | None:
    grids = [getattr(getattr(network, "patch_embed", None), "grid_size", None)]
    # Networks that merge tokens on the way end on a coarser grid than they began with.
    info = getattr(network, "feature_info", None) or [{}]
    reduction = (info[-1] if isinstance(info, list) else {}).get("reduction")
    if reduction:
        grids.append((image_size[0] // reduction, image_size[1] // reduction))
    for grid in grids:
        if grid is not None and math.prod(grid) == num_patches:
            return int(grid[0]), int(grid[1])
    return None
