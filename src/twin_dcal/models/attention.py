"""Attention as pure functions (docs/method.md).

Legend: B images, T tokens (prefix first, then patches), Q query tokens, H heads, D head width, C = H·D.
All softmaxes are over the last axis with scores scaled by 1/√D.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def split_heads(x_BTC: Tensor, num_heads: int) -> Tensor:
    """(B, T, C) to (B, H, T, D), a view."""
    num_images, num_tokens, _ = x_BTC.shape
    return x_BTC.view(num_images, num_tokens, num_heads, -1).transpose(1, 2)


def merge_heads(x_BHTD: Tensor) -> Tensor:
    """(B, H, T, D) to (B, T, C)."""
    return x_BHTD.transpose(1, 2).flatten(2)


def attend(q_BHQD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(Q Kᵀ / √D) V. With Q = T tokens this is self-attention; with kept rows only, GLCA's.

    Returns (B, H, Q, D). `dropout` is the probability on attention weights, 0 outside training.
    """
    return F.scaled_dot_product_attention(q_BHQD, k_BHTD, v_BHTD, dropout_p=dropout)


def pair_attend(
    q_BHQD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, partner_B: Tensor, dropout: float = 0.0
) -> Tensor:
    """Pair-wise cross-attention: each image attends to itself and its distractor under one softmax.

    softmax(Q₁ [K₁; K₂]ᵀ / √D) [V₁; V₂] over 2T scores (DCAL eq. 6).

    Args: partner_B: (B,) integer index of each image's distractor in the same batch.
    Returns: (B, H, Q, D). With ``partner_B = arange(B)`` this equals `attend`, to rounding.
    """
    k_BHSD = torch.cat([k_BHTD, k_BHTD[partner_B]], dim=2)
    v_BHSD = torch.cat([v_BHTD, v_BHTD[partner_B]], dim=2)
    return attend(q_BHQD, k_BHSD, v_BHSD, dropout)


def random_partners(num_images: int, generator: torch.Generator | None = None) -> Tensor:
    """A distractor for every image: uniform among the other images of the batch, each used once.

    A random cyclic order, everybody's partner being the next: no image is its own partner.
    Returns (B,) int64 on the CPU. ValueError for fewer than 2 images.
    """
    if num_images < 2:
        raise ValueError(f"a pair needs 2 images, the batch has {num_images}")
    order = torch.randperm(num_images, generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner


def twin_partners(people_B: Tensor, families_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The twin as the distractor (AHAN, arXiv 2602.21503): a random image of another person of the same family.

    An image whose twin is not in the batch gets a random partner, as in `random_partners`.
    Returns (B,) int64 on the CPU. ValueError for fewer than 2 images.
    """
    partner = random_partners(len(people_B), generator)
    people_B, families_B = people_B.cpu(), families_B.cpu()
    twin_BB = (families_B[:, None] == families_B[None]) & (people_B[:, None] != people_B[None])
    has_twin = twin_BB.any(1)
    if has_twin.any():
        partner[has_twin] = torch.multinomial(twin_BB[has_twin].float(), 1, generator=generator).squeeze(1)
    return partner
