"""Where a model attends: rollout of SA, and what GLCA's class token reads (docs/method.md).

These maps are the same whatever the picture is compared with. Legend: B images, T tokens, N = h·w patches, H heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from twin_dcal.errors import ConfigError
from twin_dcal.models.blocks import project_qkv
from twin_dcal.models.dcal import DCALVerificationModel, Encoded
from twin_dcal.models.rollout import rollout_cls, top_tokens


@dataclass(frozen=True)
class AttentionMaps:
    """Maps over the model's own patches, each (B, h, w).

    rollout: share of each patch in SA's class token, below 1 in sum (the rest is the class token's). glca: attention of
    GLCA's class token, mean of the heads, scaled like it. glca_chosen: bool, the patches with the highest rollout that
    become GLCA's local queries. The last two are None for a model without GLCA.
    """

    rollout: Tensor
    glca: Tensor | None
    glca_chosen: Tensor | None


@torch.no_grad()
def attention_maps(model: DCALVerificationModel, images: Tensor) -> AttentionMaps:
    """Args: images: (B, 3, H, W), normalised, on the model's device; the model in evaluation mode. ConfigError for a
    model that attends to nothing."""
    refuse_without_attention(model)
    encoded = model.encode(images)
    return _maps(model, encoded, rollout_cls(encoded.layers))


@torch.no_grad()
def features_and_maps(model: DCALVerificationModel, images: Tensor) -> tuple[Tensor, AttentionMaps]:
    """`model.embed(images)`, (B, E), and `attention_maps` from one pass. Arguments and errors as there."""
    refuse_without_attention(model)
    encoded = model.encode(images)
    rollout_BT = rollout_cls(encoded.layers)
    return model.features_of(encoded, rollout_BT)["combined"], _maps(model, encoded, rollout_BT)


def attends(model: DCALVerificationModel) -> bool:
    """Whether a model has blocks to look into, as a face network alone has not."""
    return len(model.backbone.blocks) > 0


def refuse_without_attention(model: DCALVerificationModel) -> None:
    """ConfigError, in one line, for a face network alone."""
    if not attends(model):
        raise ConfigError(
            "this model is a face network alone (model.num_blocks 0), without attention to explain its decisions by; "
            "use one that was trained with blocks"
        )


def _maps(model: DCALVerificationModel, encoded: Encoded, rollout_BT: Tensor) -> AttentionMaps:
    if "glca" not in model.branches:
        return AttentionMaps(_on_grid(model, rollout_BT), None, None)
    kept_BK = top_tokens(rollout_BT, model.backbone.num_prefix, model.local_ratio)
    chosen_BT = torch.zeros_like(rollout_BT, dtype=torch.bool).scatter(1, kept_BK, True)
    return AttentionMaps(
        _on_grid(model, rollout_BT),
        _on_grid(model, _glca_attention(model, encoded.sa_BTC)),
        _on_grid(model, chosen_BT),
    )


def _glca_attention(model: DCALVerificationModel, x_BTC: Tensor) -> Tensor:
    """(B, T): softmax(q_CLS Kᵀ / √D) of the GLCA block, mean of the heads."""
    ((q_BHTD, k_BHTD, _),) = project_qkv(model.glca_block, x_BTC)
    cls_BH1D = q_BHTD[:, :, :1] * q_BHTD.shape[-1] ** -0.5
    return torch.softmax(cls_BH1D @ k_BHTD.transpose(-2, -1), -1, dtype=torch.float32)[:, :, 0].mean(1)


def _on_grid(model: DCALVerificationModel, values_BT: Tensor) -> Tensor:
    return values_BT[:, model.backbone.num_prefix :].reshape(-1, *model.backbone.grid)
