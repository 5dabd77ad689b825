"""What the DCAL model needs to know of a face recognition network.

A network is a row of stages, each ending where its feature map is smallest so far, and a head that turns the last map
into the embedding. Early stages can be frozen and their output kept; tokens are taken from the maps of chosen stages.

Legend: B images, F channels, h × w positions of a map, N = h·w, E size of the embedding.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Channels = Literal["rgb", "bgr"]
Template = Literal["arcface112", "ours", "none"]
MAX_SIDE = 1024
"""Pixels of a network's input; more than any network for faces takes."""


@dataclass(frozen=True)
class FaceInput:
    """What a network was trained to be given.

    size: (rows, columns) in pixels. channels: their order. mean, std: of a pixel on the 0 … 255 scale; the network sees
    (pixel − mean) / std. template: where the face lies, see `geometry`.
    """

    size: tuple[int, int] = (112, 112)
    channels: Channels = "rgb"
    mean: float = 127.5
    std: float = 127.5
    template: Template = "arcface112"


class FaceNetwork(nn.Module):
    """A face network cut into stages. Subclasses fill the attributes below in `__init__` and may override `patches`.

    Attributes:
        stages: run one after another; the first takes (B, 3, rows, columns) as `input` says, in its channel order.
        head: takes the last stage's output and gives the embedding, (B, E), not normalised.
        input: what the network expects.
        strides: of each stage's output, in pixels of the network's input; they never fall.
        channels: F of each stage's output.
        grids: (h, w) of each stage's output.
        embedding_dim: E.
    """

    stages: nn.ModuleList
    head: nn.Module
    input: FaceInput
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    embedding_dim: int
    skeleton: bytes | None = None
    """Structure of a network that came as an ONNX file; layouts that have a name need none."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, rows, columns), in the network's own scale and channel order, to (B, E)."""
        x = images
        for stage in self.stages:
            x = stage(x)
        embedding: Tensor = self.head(x)
        return embedding

    def patches(self, output: Tensor) -> Tensor:
        """A stage's output as patch tokens, (B, N, F), row by row. Override where it is not a (B, F, h, w) map."""
        return output.flatten(2).transpose(1, 2)

    def measure(self) -> None:
        """Fill strides, channels, grids and embedding_dim by running one empty image (on the weights' own device)."""
        weight = next(self.parameters())
        was_training = self.training
        self.eval()
        with torch.no_grad():
            x = torch.zeros(1, 3, *self.input.size, device=weight.device, dtype=weight.dtype)
            shapes = []
            for stage in self.stages:
                x = stage(x)
                shapes.append(self._map_shape(x))
            embedding = self.head(x)
        self.train(was_training)
        self.channels = tuple(shape[0] for shape in shapes)
        self.grids = tuple((shape[1], shape[2]) for shape in shapes)
        self.strides = _strides(self.input.size[0], self.grids)
        self.embedding_dim = int(embedding.shape[1])

    def _map_shape(self, output: Tensor) -> tuple[int, int, int]:
        """(F, h, w) of a stage's output."""
        _, channels, rows, columns = output.shape
        return int(channels), int(rows), int(columns)


def _strides(rows: int, grids: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Pixels between neighbours of each map, which uneven sizes (7 to 4 or to 3) tell only roughly."""
    strides = [round(rows / grids[0][0])]
    for before, after in pairwise(grids):
        strides.append(strides[-1] * 2 ** round(math.log2(before[0] / after[0])))
    return tuple(strides)
