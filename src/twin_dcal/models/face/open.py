"""A face network by name, with what its file says, as the backbone of a DCAL model."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.templates import TEMPLATES, Points
from twin_dcal.errors import ModelError
from twin_dcal.image_size import ImageSize
from twin_dcal.models.face_backbone import FaceBackbone

from .layouts import LAYOUTS, TIMM, build_face_network, load_face_network
from .network import FaceInput, FaceNetwork
from .onnx_network import OnnxNetwork
from .timm_face import HUB, describe, described_by

ONNX = "onnx"
"""The backbone whose layout is in its file."""


@dataclass(frozen=True)
class Skeleton:
    """A face network's structure without weights, as its network tells it, and the bytes that its weights may take."""

    graph: bytes
    max_bytes: int


@dataclass(frozen=True)
class FaceOptions:
    """The keys of a configuration that only face networks need; see `ModelConfig` and `DataConfig`."""

    feature_strides: tuple[int, ...] = (8,)
    frozen_stride: int = 0
    face_template: str = "auto"
    face_pixels: str = "auto"
    crop_template: str = "auto"

    @classmethod
    def of(cls, config: TwinVerificationConfig) -> Self:
        model, crops = config.model, config.data.crop_template
        return cls(model.feature_strides, model.frozen_stride, model.face_template, model.face_pixels, crops)


def is_face_network(backbone: str) -> bool:
    """Whether a backbone's name is that of a face network rather than timm's."""
    return backbone == ONNX or backbone in LAYOUTS or _is_timms(backbone)


def comes_with_structure(backbone: str) -> bool:
    """Whether a checkpoint holds the structure of this backbone, which no name tells."""
    return backbone == ONNX or _is_timms(backbone)


def _is_timms(backbone: str) -> bool:
    return backbone == TIMM or backbone.startswith(HUB)


def build_face_backbone(
    backbone: str, pretrained: bool | str, options: FaceOptions, *, image_size: ImageSize, skeleton: Skeleton | None,
    attention_dim: int | None, num_heads: int, num_blocks: int, dropout: float, drop_path: float,
) -> FaceBackbone:  # fmt: skip
    """The network that `backbone` and `pretrained` name. ModelError where they do not fit."""
    # A network described by its file is cut by what it computes, so it is made wherever the rest is; its size is known
    # to be that of its weights.
    is_described = skeleton is not None and comes_with_structure(backbone)
    with torch.device("cpu") if is_described else nullcontext():
        network = _network(backbone, pretrained, skeleton)
    network.input = _with_options(network.input, options)
    return FaceBackbone(
        network, backbone, image_size=image_size, crops=_landmarks(options.crop_template),
        width=attention_dim or network.embedding_dim, num_heads=num_heads, num_blocks=num_blocks,
        dropout=dropout, drop_path=drop_path,
        feature_strides=options.feature_strides, frozen_stride=options.frozen_stride,
    )  # fmt: skip


def _network(backbone: str, pretrained: bool | str, skeleton: Skeleton | None) -> FaceNetwork:
    if _is_timms(backbone):
        return _timms(backbone, pretrained, skeleton)
    if backbone != ONNX:
        if pretrained is True:
            raise ModelError(
                f"model.backbone {backbone}: set model.pretrained to the weights file of that network"
            )
        return load_face_network(backbone, pretrained) if pretrained else build_face_network(backbone)
    if skeleton is not None:
        return OnnxNetwork.from_skeleton(skeleton.graph, backbone, skeleton.max_bytes)
    if not isinstance(pretrained, str):
        raise ModelError("model.backbone onnx: set model.pretrained to the .onnx file of a face network")
    return OnnxNetwork.from_file(pretrained)


def _timms(backbone: str, pretrained: bool | str, skeleton: Skeleton | None) -> FaceNetwork:
    """A network in timm's format: of a folder or a name on the hub, or of a checkpoint's description."""
    if skeleton is not None:
        return build_face_network(TIMM, described_by(skeleton.graph, skeleton.max_bytes))
    source = pretrained if isinstance(pretrained, str) else backbone
    if source == TIMM:
        raise ModelError(
            "model.backbone timm: set model.pretrained to a folder with config.json and weights, or to "
            "hf_hub:owner/name"
        )
    return load_face_network(TIMM, source) if pretrained else build_face_network(TIMM, describe(source))


def _with_options(found: FaceInput, options: FaceOptions) -> FaceInput:
    changes: dict[str, Any] = {}
    if options.face_template != "auto":
        changes["template"] = options.face_template
    if options.face_pixels != "auto":
        channels, scale = options.face_pixels.split("/")
        changes |= {"channels": channels, "std": float(scale), "mean": 0.0 if scale == "1" else 127.5}
    return replace(found, **changes)


def _landmarks(crops: str) -> Points | None:
    """Of crops on a named template; "auto" crops are taken for ours until they are measured."""
    return None if crops == "none" else TEMPLATES["ours" if crops == "auto" else crops]
