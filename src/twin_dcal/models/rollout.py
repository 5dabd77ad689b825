"""Attention rollout of the CLS token without a T×T product (docs/method.md).

Ŝ = S̄_L … S̄_1 with S̄ = ½ mean_h(P_h) + ½ I. Its CLS row needs vector-matrix products only: start from e_CLS
and go from the last block to the first, r ← ½ r + ½ mean_h(rᵀ P_h). The last block needs one row of P. Of the
others P is made again from Q and K, for as many images at a time as stay in cache, and forgotten at once.

Legend: B images, T tokens, H heads, D head width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_SCORES_AT_ONCE = {"cpu": 1 << 18, "other": 1 << 26}


class QueryKey(NamedTuple):
    """Queries and keys of one self-attention block, each (B, H, T, D)."""

    q: Tensor
    k: Tensor


@torch.no_grad()
def rollout_cls(layers: Sequence[QueryKey]) -> Tensor:
    """Share of each input token in the final CLS token (Abnar & Zuidema 2020; docs/method.md).

    Args: layers: first block to last; CLS is token 0.
    Returns: (B, T) float32, rows sum to 1. ValueError if `layers` is empty.
    """
    device = layers[0].q.device.type if layers else "cpu"
    with torch.autocast(
        device, enabled=False
    ):  # attention in the type of q and k, everything after in float32
        return _rollout_cls(layers)


def _rollout_cls(layers: Sequence[QueryKey]) -> Tensor:
    if not layers:
        raise ValueError("rollout needs the queries and keys of at least one block")
    last = layers[-1]
    cls_row_BHT = _attention(last.q[:, :, :1], last.k)[:, :, 0]
    r_BT = 0.5 * cls_row_BHT.mean(1)
    r_BT[:, 0] += 0.5
    for layer in reversed(layers[:-1]):
        r_BT = 0.5 * r_BT + 0.5 * _weigh_rows(layer, r_BT)
    return r_BT


def top_tokens(rollout_BT: Tensor, num_prefix: int, ratio: float) -> Tensor:
    """Tokens that become GLCA queries: CLS, then the share `ratio` of patches with the highest rollout.

    Register or distillation tokens (1 … num_prefix-1) are never chosen. At least one patch is.
    Returns (B, 1 + max(1, round(ratio·N))) int64 indices into T, CLS first, patches by falling rollout.
    """
    num_patches = rollout_BT.shape[1] - num_prefix
    num_kept = max(1, round(ratio * num_patches))
    patches_BK = rollout_BT[:, num_prefix:].topk(num_kept, dim=1).indices + num_prefix
    return torch.cat([torch.zeros_like(patches_BK[:, :1]), patches_BK], dim=1)


def _attention(q_BHQD: Tensor, k_BHTD: Tensor) -> Tensor:
    scores_BHQT = (q_BHQD * q_BHQD.shape[-1] ** -0.5) @ k_BHTD.transpose(-2, -1)
    return torch.softmax(scores_BHQT, -1, dtype=torch.float32)


def _weigh_rows(layer: QueryKey, r_BT: Tensor) -> Tensor:
    """mean_h(rᵀ P_h), (B, T)."""
    if torch.compiler.is_compiling():  # a traced loop would fix the number of images
        return _weigh_rows_at_once(layer, r_BT)
    num_images, num_heads, num_tokens, _ = layer.q.shape
    limit = _SCORES_AT_ONCE["cpu" if r_BT.device.type == "cpu" else "other"]
    step = max(1, limit // (num_heads * num_tokens**2))
    out_BT = torch.empty_like(r_BT)
    for start in range(0, num_images, step):
        rows = slice(start, start + step)
        out_BT[rows] = _weigh_rows_at_once(QueryKey(layer.q[rows], layer.k[rows]), r_BT[rows])
    return out_BT


def _weigh_rows_at_once(layer: QueryKey, r_BT: Tensor) -> Tensor:
    num_heads = layer.q.shape[1]
    p_BUT = _attention(layer.q, layer.k).flatten(1, 2)
    r_B1U = (r_BT / num_heads).repeat(1, num_heads).unsqueeze(1)
    return torch.bmm(r_B1U, p_BUT).squeeze(1)
