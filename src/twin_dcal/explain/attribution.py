"""What made THIS pair alike or different: the cosine of its embeddings, attributed to regions of both pictures.

All is joint: the two pictures change together, since a cosine belongs to neither alone. How the methods were chosen and
how faithful they are: docs/explanations.md. Legend: pair = (2, 3, H, W) normalised pictures, G cells a side, K = G²
cells, E size of an embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from twin_dcal.data.fit import sides
from twin_dcal.image_size import ImageSize

Embed = Callable[[Tensor], Tensor]
"""(B, 3, H, W) normalised pictures to (B, E) unit rows."""

CELLS_AT_ONCE = 16


@dataclass(frozen=True)
class Hidden:
    """Embeddings (2, E) of a pair, and (2, K, E) of each picture with each cell hidden."""

    shown: Tensor
    hidden: Tensor

    def by_place(self) -> Tensor:
        """(K,): how much the cosine falls when the same cell is hidden in both pictures."""
        return (self.shown[0] @ self.shown[1]) - (self.hidden[0] * self.hidden[1]).sum(-1)

    def by_picture(self) -> Tensor:
        """(2, K): how much the cosine falls when a cell is hidden in one picture and the other is left alone."""
        return (self.shown[0] @ self.shown[1]) - torch.einsum("ike,ie->ik", self.hidden, self.shown.flip(0))

    def shares(self) -> Tensor:
        """(2, K): the fall by place shared out between the pictures; their Shapley values, so they sum to it.

        A cell of one picture gets the mean of what hiding it costs before and after the other picture's is hidden.
        """
        by_picture = self.by_picture()
        return (self.by_place() + by_picture - by_picture.flip(0)) / 2

    def interactions(self) -> Tensor:
        """(K, K): what cell m of the first and cell n of the second picture add to the cosine between them.

        c(A, B) - c(A∖m, B) - c(A, B∖n) + c(A∖m, B∖n), which is (a - a∖m)·(b - b∖n).
        """
        effect = self.shown.unsqueeze(1) - self.hidden
        return effect[0] @ effect[1].T


@torch.no_grad()
def hide_cells(embed: Embed, pair: Tensor, grid: int) -> Hidden:
    """Embeddings with each cell in turn hidden under its picture's mean colour; 2 + 2 G² pictures are embedded."""
    windows_K1HW = windows(grid, (pair.shape[2], pair.shape[3])).to(pair).unsqueeze(1)
    hidden = []
    for picture, mean in zip(pair, pair.mean((2, 3), keepdim=True), strict=True):
        parts = torch.split(windows_K1HW, CELLS_AT_ONCE)
        hidden.append(torch.cat([embed(picture + part * (mean - picture)) for part in parts]))
    return Hidden(embed(pair), torch.stack(hidden))


def integrated_gradients(embed: Embed, pair: Tensor, grid: int, num_steps: int) -> Tensor:
    """Integrated gradients of the cosine from the pair's mean picture to the pair, summed over cells: (2, G, G).

    Sundararajan, Taly & Yan 2017, with both pictures on the path at once: A(t) = M + t (A - M), B(t) = M + t (B - M),
    M = (A + B) / 2. Since c(M, M) = 1, the maps sum to c(A, B) - 1, to the error of `num_steps` steps: all that makes
    the two different is shared out among their regions. 2 num_steps pictures go forward and backward.
    """
    start = pair.mean(0, keepdim=True)
    ts = (torch.arange(num_steps, device=pair.device) + 0.5) / num_steps
    total = torch.zeros_like(pair)
    for t in ts:
        with torch.enable_grad():
            there = (start + t * (pair - start)).detach().requires_grad_()
            one, two = embed(there)
            (gradient,) = torch.autograd.grad(one @ two, there)
        total += gradient
    shares_2HW = (total / num_steps * (pair - start)).sum(1)
    return cell_sums(shares_2HW, grid)


def windows(grid: int, size: ImageSize) -> Tensor:
    """(K, H, W) in [0, 1]: each cell, with edges soft over a fifth of its side; row by row."""
    rows, columns = sides(size)
    down, across = _profile(grid, rows), _profile(grid, columns)
    return (down[:, None, :, None] * across[None, :, None, :]).reshape(grid**2, rows, columns)


def _profile(grid: int, num_pixels: int) -> Tensor:
    """(G, num_pixels) of one axis."""
    side = num_pixels / grid
    centres = (torch.arange(grid) + 0.5) * side
    distance = (torch.arange(num_pixels) + 0.5 - centres[:, None]).abs() / side
    return torch.sigmoid((0.5 - distance) / 0.1)


def cell_sums(values_BHW: Tensor, grid: int) -> Tensor:
    """(B, G, G) sums over equal cells; a pixel across a border is shared out, so the total is kept."""
    shares_GH, shares_GW = (_shares(grid, num_pixels).to(values_BHW) for num_pixels in values_BHW.shape[1:])
    return shares_GH @ values_BHW @ shares_GW.T


def _shares(grid: int, num_pixels: int) -> Tensor:
    """(G, num_pixels): how much of each pixel of an axis is each cell's."""
    edges = torch.arange(grid + 1, dtype=torch.float64) * (num_pixels / grid)
    first, last = torch.arange(num_pixels), torch.arange(num_pixels) + 1
    return (torch.minimum(last, edges[1:, None]) - torch.maximum(first, edges[:-1, None])).clamp(min=0)
