"""Where a model attends: rollout of SA, and what GLCA's class token reads (METHOD §1).

These maps are the same whatever the picture is compared with. Legend: B images, T tokens, N = h·w patches, H heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from twin_dcal.models.attention import attend, merge_heads
from twin_dcal.models.blocks import finish, project_qkv
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.rollout import QueryKey, rollout_cls, top_tokens


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
    """Args: images: (B, 3, S, S), normalised, on the model's device; the model in evaluation mode."""
    backbone = model.backbone
    x_BTC, layers = backbone.tokens(images), []
    for block in backbone.blocks:
        ((q, k, v),) = project_qkv(block, x_BTC)
        layers.append(QueryKey(q, k))
        x_BTC = finish(block, x_BTC, merge_heads(attend(q, k, v)))
    rollout_BT = rollout_cls(layers)
    if "glca" not in model.branches:
        return AttentionMaps(_on_grid(model, rollout_BT), None, None)
    kept_BK = top_tokens(rollout_BT, backbone.num_prefix, model.local_ratio)
    chosen_BT = torch.zeros_like(rollout_BT, dtype=torch.bool).scatter(1, kept_BK, True)
    return AttentionMaps(
        _on_grid(model, rollout_BT),
        _on_grid(model, _glca_attention(model, x_BTC)),
        _on_grid(model, chosen_BT),
    )


def _glca_attention(model: DCALVerificationModel, x_BTC: Tensor) -> Tensor:
    """(B, T): softmax(q_CLS Kᵀ / √D) of the GLCA block, mean of the heads."""
    ((q_BHTD, k_BHTD, _),) = project_qkv(model.glca_block, x_BTC)
    cls_BH1D = q_BHTD[:, :, :1] * q_BHTD.shape[-1] ** -0.5
    return torch.softmax(cls_BH1D @ k_BHTD.transpose(-2, -1), -1, dtype=torch.float32)[:, :, 0].mean(1)


def _on_grid(model: DCALVerificationModel, values_BT: Tensor) -> Tensor:
    return values_BT[:, model.backbone.num_prefix :].reshape(-1, *model.backbone.grid)
