"""A face recognition network as the backbone: DCAL starts as that network and can only move away from it.

The class token is the network's own embedding; patch tokens are its feature maps, projected. Blocks of ours are
residual with output projections that start at zero, and nothing is normalised after them, so that before training
every branch's embedding is the network's (docs/method.md, "On top of a face network").

Legend: B images, T = 1 + N tokens, N = h·w patches, C width, E size of the network's embedding.
"""

import copy
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from twin_dcal.data.fit import sides
from twin_dcal.data.templates import TEMPLATES, Points, scale_and_shift
from twin_dcal.errors import ModelError
from twin_dcal.image_size import ImageSize

from .backbone import Frozen, Landmarks, TokenBackbone, Tokens, new_block
from .face.geometry import WHOLE, resample, resampling_of
from .face.network import FaceNetwork
from .memory import memory_format


class FaceBackbone(TokenBackbone):
    """Tokens from the maps of a face network, around its embedding as the class token.

    Args:
        network: with its weights, if any.
        image_size: pixels of the crops that come in: a square's side, or rows and columns.
        crops: landmarks (5, 2) in the square that such crops are the central part of, of side 1; None gives crops to
            the network whole.
        width: C, at least E: wider tokens are padded with zeros, which leaves every cosine as it is.
        feature_strides: maps that patch tokens come from; all are brought to the grid of the finest.
        frozen_stride: stages up to this stride keep their weights; 0 freezes none. The head is frozen with the last.
        keep_untouched: keep a copy of the stages that are trained, as they were.
    ModelError for strides that the network does not have, or a width below E.
    """

    starts_as_verifier = True
    rows: Tensor
    columns: Tensor
    crop_landmarks: Tensor
    """(5, 2) in the square that the crops which come in are the central part of, of side 1."""

    def __init__(
        self, network: FaceNetwork, name: str, *, image_size: ImageSize, crops: Points | None = None,
        width: int, num_heads: int, num_blocks: int, feature_strides: Sequence[int], frozen_stride: int = 0,
        keep_untouched: bool = True, dropout: float = 0.0, drop_path: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.memory_format = memory_format(network)  # how much it matters: benchmarks/face.py
        self.network = network.eval().to(memory_format=self.memory_format)
        if width < network.embedding_dim:
            raise ModelError(
                f"model.attention_dim {width} is below the {network.embedding_dim} numbers of the embedding of "
                f"'{name}', which is the class token; use that or more"
            )
        if width % num_heads:
            raise ModelError(
                f"model.num_heads {num_heads} does not divide the {width} numbers of a token of '{name}'"
            )
        self.skeleton = network.skeleton
        self.width, self.num_heads, self.num_prefix = width, num_heads, 1
        self.taken = _stages_of(network, feature_strides, name)
        self.num_frozen = sum(stride <= frozen_stride for stride in network.strides)
        self.grid = network.grids[self.taken[0]]
        mean, std = network.input.mean / 255, network.input.std / 255
        self.mean, self.std = (mean, mean, mean), (std, std, std)
        self._image_size = image_size
        for buffer in ("rows", "columns", "crop_landmarks"):
            self.register_buffer(buffer, torch.zeros(0))
        self.frame(crops)
        self.project = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(network.channels[i]), nn.Linear(network.channels[i], width))
            for i in self.taken
        )
        self.position = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(
            residual_block(width, num_heads, dropout, drop_path * i / max(1, num_blocks - 1))
            for i in range(num_blocks)
        )
        self.norm = nn.Identity()
        for module in self._frozen():
            module.requires_grad_(False)
        self.untouched: nn.ModuleDict | None = None
        if keep_untouched and not self.is_frozen:
            later = {
                str(place): stage for place, stage in enumerate(network.stages) if place >= self.num_frozen
            }
            copies = {name: copy.deepcopy(part) for name, part in (later | {"head": network.head}).items()}
            self.untouched = nn.ModuleDict(copies).requires_grad_(False)
        if keep_untouched:
            self.untouched_dim = network.embedding_dim

    def frame(self, crops: Points | None) -> None:
        """Cut the network's input out of crops with these landmarks, (5, 2) in a crop of side 1; None: out of all.

        Where the network has no template of its own, crops are given whole too. A crop or an input that is not square
        is the central part of a square as long as its longer side; nothing is ever stretched.
        """
        template = TEMPLATES.get(self.network.input.template)
        where = WHOLE if crops is None or template is None else scale_and_shift(crops, template)
        device = self.rows.device
        rows, columns = resampling_of(sides(self._image_size), self.network.input.size, where)
        self.rows, self.columns = rows.to(device), columns.to(device)
        known = TEMPLATES["ours"] if crops is None else crops
        self.crop_landmarks = torch.tensor(known, dtype=torch.float32, device=device)

    @property
    def landmarks(self) -> Landmarks | None:  # type: ignore[override]
        points = np.round(self.crop_landmarks.cpu().numpy().astype(float), 5)
        if np.abs(points - TEMPLATES["ours"]).max() < 1e-4:
            return None
        return tuple((float(x), float(y)) for x, y in points)

    @property
    def is_frozen(self) -> bool:
        """Whether the whole network is."""
        return self.num_frozen == len(self.network.stages)

    @property
    def pretrained(self) -> nn.Module:
        return self.network

    def train(self, mode: bool = True) -> Self:
        """The network stays in evaluation mode: batch statistics of a few people would replace those of millions."""
        super().train(mode)
        self.network.eval()
        if self.untouched is not None:
            self.untouched.eval()
        return self

    def tokens(self, images: Tensor) -> Tensor:
        return self.read(images).tokens

    def read(self, images: Tensor | Frozen) -> Tokens:
        return self._read_frozen(images if isinstance(images, tuple) else self.frozen(images))

    def frozen(self, images: Tensor) -> Frozen:
        """What the frozen stages say of images: outputs of those whose maps are taken, and what comes after the last:
        its own output, or the embedding where all is frozen. Without a frozen stage, the network's input.

        It does not change in training, so it can be computed once and kept.
        """
        x = resample(images, self.rows, self.columns)
        if self.network.input.channels == "bgr":
            x = x.flip(1)
        x = x.contiguous(memory_format=self.memory_format)
        taken = []
        for place, stage in enumerate(self.network.stages[: self.num_frozen]):
            x = stage(x)
            if place in self.taken:
                taken.append(x)
        return (*taken, self.network.head(x) if self.is_frozen else x)

    def _read_frozen(self, frozen: Frozen) -> Tokens:
        *taken, x = frozen
        maps = dict(zip((place for place in self.taken if place < self.num_frozen), taken, strict=True))
        untouched = x
        if self.untouched is not None:
            for part in self.untouched.values():
                untouched = part(untouched)
        if not self.is_frozen:
            for place, stage in enumerate(self.network.stages[self.num_frozen :], self.num_frozen):
                x = stage(x)
                if place in self.taken:
                    maps[place] = x
            x = self.network.head(x)
        tokens_BTC = self._tokens(x, [maps[place] for place in self.taken])
        return Tokens(tokens_BTC, untouched if self.untouched_dim else None)

    def _tokens(self, embedding_BE: Tensor, outputs: list[Tensor]) -> Tensor:
        unit_BE = F.normalize(embedding_BE.float(), dim=1) * math.sqrt(embedding_BE.shape[1])
        num_more = self.width - unit_BE.shape[1]
        cls_BC = F.pad(unit_BE, (0, num_more)) if num_more else unit_BE
        patches_BNC: Tensor = self.position
        for place, output, project in zip(self.taken, outputs, self.project, strict=True):
            patches_BNC = patches_BNC + self._on_grid(
                project(self.network.patches(output)), self.network.grids[place]
            )
        return torch.cat([cls_BC.to(patches_BNC.dtype).unsqueeze(1), patches_BNC], dim=1)

    def _on_grid(self, patches_BNC: Tensor, grid: tuple[int, int]) -> Tensor:
        """A coarser map's patches repeated on the finest grid."""
        if grid == self.grid:
            return patches_BNC
        map_BChw = patches_BNC.transpose(1, 2).reshape(-1, self.width, *grid)
        return F.interpolate(map_BChw, self.grid, mode="nearest").flatten(2).transpose(1, 2)

    def _frozen(self) -> list[nn.Module]:
        parts: list[nn.Module] = list(self.network.stages[: self.num_frozen])
        return [*parts, self.network.head] if self.is_frozen else parts


def residual_block(width: int, num_heads: int, dropout: float = 0.0, drop_path: float = 0.0) -> Block:
    """A fresh pre-norm block that passes its tokens on unchanged until it is trained."""
    block = new_block(width, num_heads, dropout, drop_path)
    for layer in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return block


def _stages_of(network: FaceNetwork, strides: Sequence[int], name: str) -> tuple[int, ...]:
    """The last stage of each stride, finest first."""
    places = {stride: place for place, stride in enumerate(network.strides)}
    if not strides or any(stride not in places for stride in strides):
        raise ModelError(
            f"model.feature_strides {list(strides)}: '{name}' has feature maps of stride "
            f"{', '.join(map(str, places))}; name one or several"
        )
    return tuple(sorted(places[stride] for stride in set(strides)))
