"""Backbones with one interface: images in, tokens out, and the self-attention blocks that follow.

A timm vision transformer brings its own blocks. A convolutional network is a feature extractor whose last
map, projected to `attention_dim`, gets a CLS token, a position embedding and a few blocks of ours (METHOD §2).
"""

import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.models import load_state_dict as read_weights
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from twin_dcal.config import ModelConfig
from twin_dcal.errors import ModelError
from twin_dcal.privacy import hub_allowed

from .blocks import check_block

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
        """(B, 3, S, S) normalised images to (B, T, C) tokens, as they enter the first block."""
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


class CNNBackbone(TokenBackbone):
    """A timm CNN's last feature map as tokens, and `num_blocks` self-attention blocks of ours."""

    def __init__(
        self, cnn: nn.Module, name: str, *, image_size: int, attention_dim: int, num_heads: int,
        num_blocks: int, dropout: float, drop_path: float, feature_dim: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        # Depthwise convolutions train 1.7 times faster in this layout on a CPU, and tensor cores like it too.
        self.cnn = cnn.to(memory_format=torch.channels_last)
        self.mean, self.std = _pixel_statistics(cnn)
        channels, self.grid = _feature_map(cnn, name, image_size)
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
        images = images.contiguous(memory_format=torch.channels_last)
        map_BFhw: Tensor = self.cnn.forward_features(images)  # type: ignore[operator]
        patches_BNC = self.project(map_BFhw.flatten(2).transpose(1, 2))
        cls_B1C = self.cls_token.expand(images.shape[0], -1, -1).to(patches_BNC.dtype)
        return torch.cat([cls_B1C, patches_BNC], dim=1) + self.position

    @property
    def pretrained(self) -> nn.Module:
        return self.cnn


def build_backbone(
    name: str, *, pretrained: bool | str = False, image_size: int = 224, attention_dim: int = 768,
    num_heads: int = 12, num_blocks: int = 4, dropout: float = 0.0, drop_path: float = 0.0,
    feature_dim: int | None = None,
) -> TokenBackbone:  # fmt: skip
    """A backbone by its timm name.

    Args: pretrained: False for random weights; a path for that file, loaded strictly; True for timm's own.
    ModelError: unknown name, unsupported network, image size that does not fit, weights that do not match.
    """
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
        raise ModelError(f"timm has no model '{name}'" + (f"; similar names: {close}" if close else ""))
    with torch.device("meta"):
        outline = timm.create_model(name, pretrained=False)
    if isinstance(outline, VisionTransformer):
        patch = outline.patch_embed.patch_size[0]
        if image_size % patch:
            low = image_size // patch * patch
            raise ModelError(
                f"data.image_size {image_size} is not a multiple of the {patch}-pixel patches of '{name}'; "
                f"use {low or patch} or {low + patch}"
            )
        vit = _create(name, pretrained, img_size=image_size, proj_drop_rate=dropout, drop_path_rate=drop_path)
        backbone = ViTBackbone(vit, name)
        _tell_ignored(backbone, name, attention_dim=attention_dim, num_heads=num_heads, num_blocks=num_blocks)
        return backbone
    return CNNBackbone(
        _create(name, pretrained), name, image_size=image_size, attention_dim=attention_dim,
        num_heads=num_heads, num_blocks=num_blocks, dropout=dropout, drop_path=drop_path,
        feature_dim=feature_dim,
    )  # fmt: skip


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


def new_block(width: int, num_heads: int, dropout: float = 0.0, drop_path: float = 0.0) -> Block:
    """A fresh pre-norm block with timm's initialisation, like those of its ViTs."""
    block = Block(width, num_heads, qkv_bias=True, proj_drop=dropout, drop_path=drop_path)
    for module in block.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return block


def _create(name: str, pretrained: bool | str, **options: Any) -> Any:
    """The timm network without its classifier; weights, if any, loaded with no key missing or left over."""
    if pretrained is True:
        try:
            # With the classifier the weights came with: timm then loads strictly.
            if _is_cached(name):
                network = timm.create_model(name, pretrained=True, **options)
            else:
                logger.warning(
                    "model.pretrained: asking the network: weights of '%s' from timm's model hub", name
                )
                with hub_allowed():
                    network = timm.create_model(name, pretrained=True, **options)
        except Exception as error:
            raise ModelError(
                f"the pretrained weights of '{name}' could not be fetched or do not fit "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no detail'}). "
                "Set model.pretrained to the path of a weights file, or to false."
            ) from error
        network.reset_classifier(0)
        return network
    network = timm.create_model(name, pretrained=False, num_classes=0, **options)
    if pretrained:
        _load_file(network, name, Path(pretrained))
    return network


def _is_cached(name: str) -> bool:
    """Whether the hub's weights of a timm model lie on this machine already; looks at files only."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return False
    names = (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in names if file)


def _load_file(network: Any, name: str, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"model.pretrained: no weights file {path}")
    try:
        weights = read_weights(str(path), weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{path}: not a weights file that can be read safely ({reason})") from error
    filter_weights = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if filter_weights is not None:
        weights = filter_weights(weights, network)
    classifier = network.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    weights = {key: value for key, value in weights.items() if key.rpartition(".")[0] not in heads}
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{path}: these are not weights of '{name}': {_shorten(str(error))}") from error
    logger.info("loaded %d tensors of '%s' from %s", len(weights), name, path)


def _shorten(text: str, limit: int = 400) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _feature_map(cnn: Any, name: str, image_size: int) -> tuple[int, tuple[int, int]]:
    """Channels and (rows, columns) of the last feature map, by running one empty image.

    Parameters that the map does not use (some families keep layers of their head) are frozen on the way.
    """
    was_training = cnn.training
    try:
        with torch.enable_grad():
            features = cnn.eval().forward_features(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:
        reason = _shorten(str(error), 150) or type(error).__name__
        raise ModelError(
            f"backbone '{name}' takes no {image_size}-pixel images ({reason}). Use a convolutional network or a "
            "plain ViT, or another data.image_size."
        ) from error
    cnn.train(was_training)
    channels = int(cnn.num_features)
    if features.ndim != 4 or features.shape[1] != channels:
        raise ModelError(
            f"backbone '{name}' gives features of shape {tuple(features.shape)}; needed is a map "
            f"(1, {channels}, rows, columns). Use a convolutional network or a plain ViT."
        )
    parameters = list(cnn.parameters())
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
    return channels, (int(features.shape[2]), int(features.shape[3]))


def _pixel_statistics(network: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    return tuple(network.pretrained_cfg["mean"]), tuple(network.pretrained_cfg["std"])
