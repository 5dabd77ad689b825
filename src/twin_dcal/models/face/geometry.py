"""From a crop to what a face network was trained on: other margins and another size, as two matrix products.

Templates are upright, so what leads from one to another is a scale and a shift, and resampling is separable: rows, then
columns. As a product with fixed matrices it is exact, keeps gradients, and exports to any format.
"""

import numpy as np
import torch
from torch import Tensor

WHOLE = (1.0, 0.0, 0.0)
"""Scale and shift that leave a picture as it is."""


def resampling(num_in: int, num_out: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """One axis of a resize of a part, as a matrix (num_out, num_in) whose rows sum to 1.

    Output pixel i, at u = (i + ½) / num_out, shows the input at (u − shift) / scale. The filter is a triangle as
    wide as an output pixel is in the input, at least one pixel to each side, which is Pillow's BILINEAR; beyond its
    edges the input goes on as it ends.
    """
    if num_in < 1 or num_out < 1 or scale <= 0:
        raise ValueError(f"cannot resample {num_in} to {num_out} pixels at scale {scale}")
    centres = ((np.arange(num_out) + 0.5) / num_out - shift) / scale * num_in
    reach = max(1.0, num_in / (num_out * scale))
    centres = np.clip(centres, 0, num_in)
    distance = np.abs(np.arange(num_in)[None] + 0.5 - centres[:, None])
    weights = np.clip(1 - distance / reach, 0, None)
    return torch.tensor(weights / weights.sum(axis=1, keepdims=True), dtype=torch.float32)


def resampling_of(
    given: tuple[int, int], wanted: tuple[int, int], where: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """Matrices for the rows and the columns of a resize of a part, see `resampling`.

    Args: given, wanted: rows and columns, each the central part of a square as long as its longer side. where: scale, x
    and y: a point p of the given square, of side 1, lies at scale · p + (x, y) in the wanted one.
    """
    scale, *shift = where
    rows, columns = (
        _axis(given[at], max(given), wanted[at], max(wanted), scale, shift[1 - at]) for at in (0, 1)
    )
    return rows, columns


def _axis(num_in: int, square_in: int, num_out: int, square_out: int, scale: float, shift: float) -> Tensor:
    share_in, share_out = num_in / square_in, num_out / square_out
    from_edge = shift + scale * (1 - share_in) / 2 - (1 - share_out) / 2
    return resampling(num_in, num_out, scale * share_in / share_out, from_edge / share_out)


def resample(images_BCHW: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, C, H, W) through `rows` (h, H) and `columns` (w, W), to (B, C, h, w)."""
    return rows @ (images_BCHW @ columns.T)
