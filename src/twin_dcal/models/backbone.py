"""Backbones with one interface: images in, tokens out, and the self-attention blocks that follow.

A timm vision transformer with a class token and plain blocks brings its own blocks. Any other network is a feature
extractor: its last map, or its patch tokens, projected to `attention_dim`, get a CLS token, a position embedding and
a few blocks of ours (docs/method.md).
"""

import inspect
import logging
from typing import Any, NamedTuple

import timm
import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from twin_dcal.config import ModelConfig
from twin_dcal.data.fit import sides
from twin_dcal.errors import ModelError
from twin_dcal.image_size import ImageSize

from .blocks import check_block, is_plain
from .feature_maps import measured_layout, takes_no
from .fitting import outlining
from .memory import memory_format
from .pretrained import create_network

logger = logging.getLogger(__name__)


Landmarks = tuple[tuple[float, float], ...]
"""Five points (x, y) in a crop of side 1."""
Frozen = tuple[Tensor, ...]
"""Outputs of a backbone's frozen parts, each with a batch axis in front."""


class Tokens(NamedTuple):
    """tokens: (B, T, C), as they enter the first block. untouched: (B, E), the embedding of the face network as it was
    before training; None where the backbone is none, or does not keep it."""

    tokens: Tensor
    untouched: Tensor | None


class TokenBackbone(nn.Module):
    """What the DCAL model needs to know of a backbone.

    Attributes: blocks: the SA blocks; norm: applied after the last; width: C; num_prefix: tokens before the
    patches, CLS first; grid: (rows, columns) of patches; mean, std: what its pixels were normalised with;
    pretrained: the timm network, whose weights may come from a file, the rest being ours.
    """

    blocks: nn.ModuleList
    norm: nn.Module
    width: int
    num_heads: int
    num_prefix: int
    grid: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    starts_as_verifier = False
    """Whether the class token tells people apart before any training of ours."""
    untouched_dim = 0
    """E of `Tokens.untouched`; 0 where there is none."""
    landmarks: Landmarks | None = None
    """Where faces lie in the crops that come in, if not where `dcal-prepare` places them."""
    num_frozen = 0
    """Stages that are never trained, whose output `frozen` gives."""
    skeleton: bytes | None = None
    """Structure of a network that came as an ONNX file."""

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, rows, columns) normalised images to (B, T, C) tokens, as they enter the first block."""
        raise NotImplementedError

    def read(self, images: Tensor | Frozen) -> Tokens:
        """Tokens of normalised images, or of what `frozen` gave for them."""
        (images,) = images if isinstance(images, tuple) else (images,)
        return Tokens(self.tokens(images), None)

    def frozen(self, images: Tensor) -> Frozen:
        """What parts that are never trained make of normalised images: computed once, it can be kept."""
        return (images,)

    @property
    def pretrained(self) -> nn.Module:
        raise NotImplementedError


class ViTBackbone(TokenBackbone):
    """A timm ViT or DeiT. `norm` and `blocks` are the network's own."""

    def __init__(self, vit: VisionTransformer, name: str) -> None:
        super().__init__()
        if vit.cls_token is None:
            raise ModelError(
                f"backbone '{name}' has no class token, which SA and GLCA embeddings are read from. "
                "Use one that has, such as vit_small_patch16_224 or deit_tiny_patch16_224."
            )
        self.vit = vit
        self.width = vit.embed_dim
        self.num_prefix = vit.num_prefix_tokens
        self.grid = vit.patch_embed.grid_size
        self.num_heads = check_block(vit.blocks[0], name).attn.num_heads
        for block in vit.blocks:
            check_block(block, name)
        self.mean, self.std = _pixel_statistics(vit)

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        return self.vit.blocks  # type: ignore[no-any-return]

    @property
    def norm(self) -> nn.Module:  # type: ignore[override]
        return self.vit.norm  # type: ignore[no-any-return]

    def tokens(self, images: Tensor) -> Tensor:
        vit = self.vit
        tokens: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        return tokens

    @property
    def pretrained(self) -> nn.Module:
        return self.vit  # type: ignore[no-any-return]


class FeatureBackbone(TokenBackbone):
    """A timm network's last features as tokens, and `num_blocks` self-attention blocks of ours.

    `cnn` is the network, which checkpoints call so whatever its kind.
    """

    def __init__(
        self, network: nn.Module, name: str, *, image_size: ImageSize, attention_dim: int, num_heads: int,
        num_blocks: int, dropout: float, drop_path: float, feature_dim: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _check_heads(attention_dim, num_heads)
        self.memory_format = memory_format(network)
        self.cnn = network.to(memory_format=self.memory_format)
        self.mean, self.std = _pixel_statistics(network)
        self.features = measured_layout(network, name, sides(image_size))
        channels, self.grid = self.features.channels, self.features.grid
        if feature_dim not in (None, channels):
            raise ModelError(
                f"model.feature_dim is {feature_dim}, but the last feature map of '{name}' has {channels} "
                "channels. Set it to that, or to null."
            )
        self.width, self.num_heads, self.num_prefix = attention_dim, num_heads, 1
        self.project = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, attention_dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, attention_dim))
        self.position = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], attention_dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(
            new_block(attention_dim, num_heads, dropout, drop_path * i / max(1, num_blocks - 1))
            for i in range(num_blocks)
        )
        self.norm = nn.LayerNorm(attention_dim, eps=1e-6)

    def tokens(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=self.memory_format)
        features: Tensor = self.cnn.forward_features(images)  # type: ignore[operator]
        patches_BNC = self.project(self.features.patches(features))
        cls_B1C = self.cls_token.expand(images.shape[0], -1, -1).to(patches_BNC.dtype)
        return torch.cat([cls_B1C, patches_BNC], dim=1) + self.position

    @property
    def pretrained(self) -> nn.Module:
        return self.cnn


def build_backbone(
    name: str, *, pretrained: bool | str = False, image_size: ImageSize = 224, attention_dim: int = 768,
    num_heads: int = 12, num_blocks: int = 4, dropout: float = 0.0, drop_path: float = 0.0,
    feature_dim: int | None = None,
) -> TokenBackbone:  # fmt: skip
    """A backbone by its timm name.

    Args: pretrained: False for random weights; a path for that file, loaded strictly; True for timm's own.
    ModelError: unknown name, unsupported network, image size that does not fit, weights that do not match.
    """
    if not timm.is_model(name):
        from .face.layouts import hint  # loads every face network, which is needed for this sentence only

        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
        raise ModelError(
            f"timm has no model '{name}'" + (f"; similar names: {close}" if close else "") + hint(name)
        )
    size = sides(image_size)
    with outlining():
        try:
            outline = timm.create_model(name, pretrained=False)
        except RuntimeError as error:
            raise ModelError(_not_outlined(name, error)) from error
    _check_patches(outline, name, size)
    if isinstance(outline, VisionTransformer) and _brings_blocks(outline):
        vit = create_network(
            name, pretrained, img_size=size, proj_drop_rate=dropout, drop_path_rate=drop_path
        )
        backbone = ViTBackbone(vit, name)
        _tell_ignored(backbone, name, attention_dim=attention_dim, num_heads=num_heads, num_blocks=num_blocks)
        return backbone
    if num_blocks == 0:
        raise ModelError(
            f"model.num_blocks 0: '{name}' has no embedding of its own, as a face network has; use 1 or more"
        )
    if hasattr(outline, "patch_embed"):
        logger.info("backbone '%s' gives patch tokens; %d blocks of ours follow", name, num_blocks)
    return FeatureBackbone(
        create_network(name, pretrained, **_size_option(outline, name, size)), name, image_size=size,
        attention_dim=attention_dim, num_heads=num_heads, num_blocks=num_blocks, dropout=dropout,
        drop_path=drop_path, feature_dim=feature_dim,
    )  # fmt: skip


def _brings_blocks(vit: VisionTransformer) -> bool:
    """Whether a ViT has what our attentions are cut from: a class token, and plain blocks only."""
    return vit.cls_token is not None and all(is_plain(block) for block in vit.blocks)


def _check_patches(outline: Any, name: str, size: tuple[int, int]) -> None:
    """ModelError if the network would leave out a rim that fills no patch."""
    patches = getattr(getattr(outline, "patch_embed", None), "patch_size", None)
    for side, patch in zip(size, sides(patches or 1), strict=True):
        if side % patch:
            low = side // patch * patch
            raise ModelError(
                f"data.image_size {side} is not a multiple of the {patch}-pixel patches of '{name}'; "
                f"use {low or patch} or {low + patch}"
            )


def _size_option(outline: nn.Module, name: str, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """The argument that tells a network its input's size, where it has one. ModelError if the size does not fit."""
    if not timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
        return {}
    if "img_size" not in inspect.signature(type(outline).__init__).parameters:
        return {}
    try:
        with outlining():
            timm.create_model(name, pretrained=False, img_size=size)
    except Exception as error:
        raise takes_no(name, size, error) from error
    return {"img_size": size}


def _tell_ignored(vit: ViTBackbone, name: str, **given: int) -> None:
    """Warn of sizes of our blocks that were asked for and that the ViT does not have.

    One that is the default was not asked for: every saved configuration holds it.
    """
    own = {"attention_dim": vit.width, "num_heads": vit.num_heads, "num_blocks": len(vit.blocks)}
    ignored = [
        f"model.{key} {value} (it has {own[key]})"
        for key, value in given.items()
        if value not in (own[key], ModelConfig.model_fields[key].default)
    ]
    if ignored:
        logger.warning(
            "backbone '%s' is a ViT and keeps its own blocks; left out: %s", name, ", ".join(ignored)
        )


def _check_heads(width: int, num_heads: int) -> None:
    if width < 1 or num_heads < 1 or width % num_heads:
        raise ModelError(f"attention_dim {width} is not a multiple of num_heads {num_heads}; use one that is")


def _not_outlined(name: str, error: Exception) -> str:
    """Why timm does not build a network it knows on the meta device: the tag is none, or a library too old."""
    known, _, tag = name.partition(".")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{known}.*")]
    if not tag or tag in tags:
        reason = " ".join(str(error).split())[:200]
        return (
            f"backbone '{name}': timm {timm.__version__} and torch {torch.__version__} cannot describe it without "
            f"building it, which is how models are checked ({reason}). Use newer ones, or another backbone."
        )
    there = f"those of '{known}' are {', '.join(tags[:8])}" if tags else f"'{known}' has none"
    return f"timm has no weights '{tag}' for the model '{known}'; {there}"


def new_block(width: int, num_heads: int, dropout: float = 0.0, drop_path: float = 0.0) -> Block:
    """A fresh pre-norm block with timm's initialisation, like those of its ViTs. ModelError if heads do not divide."""
    _check_heads(width, num_heads)
    block = Block(width, num_heads, qkv_bias=True, proj_drop=dropout, drop_path=drop_path)
    for module in block.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return block


def _pixel_statistics(network: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    return tuple(network.pretrained_cfg["mean"]), tuple(network.pretrained_cfg["std"])
