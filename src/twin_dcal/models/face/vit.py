"""The vision transformer of InsightFace and CVLface: no class token, every patch token goes into the embedding.

Layouts: github.com/deepinsight/insightface, recognition/arcface_torch/backbones/vit.py, and github.com/mk-minchul/
CVLface, models/vit/vit.py, which have the same tensors. Both hide patches in training; that is left out here.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import FaceInput, FaceNetwork


class Attention(nn.Module):
    """Self-attention of (B, N, F) tokens; queries, keys and values come from one projection."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A pre-norm transformer block whose feed-forward layer uses ReLU6."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, mlp_ratio * width),
                act=nn.ReLU6(),
                fc2=nn.Linear(mlp_ratio * width, width),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchTokens(nn.Module):
    """Square patches as tokens, with their positions added; a rim that no whole patch fits in is cut off."""

    def __init__(self, patch_size: int, width: int, num_patches: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)
        self.position = nn.Parameter(torch.zeros(1, num_patches, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens + self.position


class FaceViT(FaceNetwork):
    """Blocks in `num_stages` stages of equal depth; the head projects all tokens side by side."""

    def __init__(
        self, *, patch_size: int, width: int, depth: int, num_heads: int, mlp_ratio: int, embedding_dim: int = 512,
        num_stages: int = 3, face_input: FaceInput | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input = FaceInput() if face_input is None else face_input
        grid = (self.input.size[0] // patch_size, self.input.size[1] // patch_size)
        num_patches = grid[0] * grid[1]
        blocks = [Block(width, num_heads, mlp_ratio) for _ in range(depth)]
        per_stage = -(-depth // num_stages)
        parts: list[dict[str, nn.Module]] = [
            {"blocks": nn.Sequential(*blocks[at : at + per_stage])} for at in range(0, depth, per_stage)
        ]
        parts[0] = {"tokens": PatchTokens(patch_size, width, num_patches), **parts[0]}
        self.stages = nn.ModuleList(nn.Sequential(OrderedDict(part)) for part in parts)
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.LayerNorm(width),
                flatten=nn.Flatten(),
                feature=nn.Sequential(
                    nn.Linear(width * num_patches, width, bias=False),
                    nn.BatchNorm1d(width, eps=2e-5),
                    nn.Linear(width, embedding_dim, bias=False),
                    nn.BatchNorm1d(embedding_dim, eps=2e-5),
                ),
            )
        )
        self.grids, self.channels = (grid,) * len(parts), (width,) * len(parts)
        self.strides, self.embedding_dim = (patch_size,) * len(parts), embedding_dim

    def patches(self, output: Tensor) -> Tensor:
        return output

    def _map_shape(self, output: Tensor) -> tuple[int, int, int]:
        return int(output.shape[2]), *self.grids[0]


def public_name(key: str, depth: int, num_stages: int = 3) -> str:
    """The published name of one of our tensors."""
    first, rest = key.split(".", 1)
    if first == "head":
        return rest
    stage, part, rest = rest.split(".", 2)
    if part == "tokens":
        return "pos_embed" if rest == "position" else f"patch_embed.{rest}"
    index, rest = rest.split(".", 1)
    return f"blocks.{int(stage) * -(-depth // num_stages) + int(index)}.{rest}"
