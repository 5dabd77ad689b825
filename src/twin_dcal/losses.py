"""Losses on embeddings (docs/method.md): classification heads, twin-first triplets, learned branch weights.

Each equation is a function of tensors; modules own parameters only. Legend: B images, C width, K identities.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LossConfig


def cosface_logits(cosine_BK: Tensor, labels_B: Tensor, *, scale: float, margin: float) -> Tensor:
    """s·(cos θ − m·[own class]) (CosFace, Wang et al. 2018, eq. 4). Returns (B, K); the input is left alone."""
    own_BK = F.one_hot(labels_B, cosine_BK.shape[1]).to(cosine_BK.dtype)
    return scale * (cosine_BK - margin * own_BK)


def arcface_logits(cosine_BK: Tensor, labels_B: Tensor, *, scale: float, margin: float) -> Tensor:
    """s·cos(θ + m) for the own class, s·cos θ for others (ArcFace, Deng et al. 2019, eq. 3).

    `margin` in radians. Past θ + m = π the cosine would rise again; there cos θ − m·sin m goes on falling, as in
    the authors' code. Returns (B, K); the input is left alone.
    """
    cosine_B1 = cosine_BK.gather(1, labels_B[:, None])
    sine_B1 = (1 - cosine_B1.square()).clamp(min=1e-12).sqrt()
    rotated_B1 = cosine_B1 * math.cos(margin) - sine_B1 * math.sin(margin)
    past_pi_B1 = cosine_B1 < -math.cos(margin)
    target_B1 = torch.where(past_pi_B1, cosine_B1 - margin * math.sin(margin), rotated_B1)
    return scale * cosine_BK.scatter(1, labels_B[:, None], target_B1)


def pair_loss(embedding_BC: Tensor, labels_B: Tensor, *, scale: float, margin: float) -> Tensor:
    """Mean over genuine pairs (a, p) of log(1 + Σ_n exp(s·(cos_an − cos_ap + m))), n being all images of other people.

    The supervised contrastive loss (Khosla et al. 2020, eq. 2) with one positive at a time in the denominator and an
    additive margin m: without a classifier to be learned first, its gradient is that of cosines from the first step.
    A scalar; 0, still attached to the graph, when the batch has no genuine pair.
    """
    unit_BC = F.normalize(embedding_BC, dim=1)
    logits_BB = scale * (unit_BC @ unit_BC.T)
    same_BB = labels_B[:, None] == labels_B[None]
    genuine_BB = same_BB & ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    if not genuine_BB.any():
        return embedding_BC.sum() * 0
    impostors_B1 = logits_BB.masked_fill(same_BB, -math.inf).logsumexp(1, keepdim=True)
    return F.softplus(impostors_B1 - logits_BB + scale * margin)[genuine_BB].mean()


def strangers_loss(embedding_BC: Tensor, untouched_BE: Tensor, families_B: Tensor) -> Tensor:
    """Mean squared difference of the cosines of images of different families to those of a reference network's.

    A scalar; 0, still attached to the graph, when the batch is of one family.
    """
    stranger_BB = families_B[:, None] != families_B[None]
    if not stranger_BB.any():
        return embedding_BC.sum() * 0
    unit_BC, reference_BE = F.normalize(embedding_BC, dim=1), F.normalize(untouched_BE, dim=1)
    return (unit_BC @ unit_BC.T - reference_BE @ reference_BE.T)[stranger_BB].square().mean()


class IdentityHead(nn.Module):
    """Classifier over training identities: plain softmax, CosFace or ArcFace logits from an embedding."""

    def __init__(self, width: int, num_people: int, config: LossConfig) -> None:
        super().__init__()
        self.kind, self.scale, self.margin = config.head, config.scale, config.margin
        self.weight = nn.Parameter(torch.empty(num_people, width))
        self.bias = nn.Parameter(torch.zeros(num_people)) if self.kind == "softmax" else None
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, embedding_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Logits (B, K); the labels place the margin."""
        if self.kind == "softmax":
            return F.linear(embedding_BC, self.weight, self.bias)
        cosine_BK = F.normalize(embedding_BC, dim=1) @ F.normalize(self.weight, dim=1).T
        with_margin = cosface_logits if self.kind == "cosface" else arcface_logits
        return with_margin(cosine_BK, labels_B, scale=self.scale, margin=self.margin)


class Triplets(NamedTuple):
    """Indices into the batch, one entry per anchor that has both a positive and a negative."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


@torch.no_grad()
def mine_twin_first(distance_BB: Tensor, labels_B: Tensor, families_B: Tensor) -> Triplets:
    """Hardest positive, and the hardest twin as negative; the hardest other image where no twin is present.

    Args: distance_BB: any distance; labels_B, families_B: person and family of each image.
    Masks only, so unequal counts per identity are fine. Anchors without positive or negative are dropped.
    """
    same_BB = labels_B[:, None] == labels_B[None]
    positive_BB = same_BB & ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    twin_BB = (families_B[:, None] == families_B[None]) & ~same_BB
    negative_BB = torch.where(twin_BB.any(1, keepdim=True), twin_BB, ~same_BB)
    anchor = (positive_BB.any(1) & negative_BB.any(1)).nonzero().squeeze(1)
    positive = distance_BB.masked_fill(~positive_BB, -math.inf).argmax(1)
    negative = distance_BB.masked_fill(~negative_BB, math.inf).argmin(1)
    return Triplets(anchor, positive[anchor], negative[anchor])


def triplet_loss(embedding_BC: Tensor, labels_B: Tensor, families_B: Tensor, *, margin: float) -> Tensor:
    """Mean over anchors of max(0, d(a, p) − d(a, n) + margin), d = 1 − cosine, mined twin first.

    A scalar; 0, still attached to the graph, when the batch has no triplet.
    """
    unit_BC = F.normalize(embedding_BC, dim=1)
    distance_BB = 1 - unit_BC @ unit_BC.T
    anchor, positive, negative = mine_twin_first(distance_BB, labels_B, families_B)
    if len(anchor) == 0:
        return embedding_BC.sum() * 0
    return F.relu(distance_BB[anchor, positive] - distance_BB[anchor, negative] + margin).mean()


def joint_loss(losses: Tensor, log_variances: Tensor) -> Tensor:
    """½ Σ_i (e^{−w_i} L_i + w_i) over branches (DCAL §3.4, after Kendall et al. 2018). Both (branches,)."""
    return 0.5 * (torch.exp(-log_variances) * losses + log_variances).sum()


class DCALLoss(nn.Module):
    """Cross-entropy plus triplet per branch, combined with learned weights.

    SA and PWCA share one classifier, GLCA has its own. In evaluation PWCA is absent and simply not counted.
    """

    def __init__(self, width: int, num_people: int, branches: tuple[str, ...], config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleDict()
        if config.head != "pairs":
            for branch in ("sa", "glca") if "glca" in branches else ("sa",):
                self.heads[branch] = IdentityHead(width, num_people, config)
        self.branches = tuple(branches)
        self.log_variances = nn.Parameter(
            torch.zeros(len(branches)), requires_grad=config.uncertainty_weighting
        )

    def forward(
        self, embeddings: Mapping[str, Tensor], labels_B: Tensor, families_B: Tensor,
        untouched_BE: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """The joint loss and, detached, each branch's own: ``{"sa": …, "glca": …, "pwca": …}``.

        Args: untouched_BE: embeddings of the untouched face network, which `loss.strangers_weight` needs.
        """
        losses = {
            branch: self._branch_loss(branch, embedding_BC, labels_B, families_B)
            for branch, embedding_BC in embeddings.items()
        }
        if untouched_BE is not None and self.config.strangers_weight:
            for branch, embedding_BC in embeddings.items():
                strangers = strangers_loss(embedding_BC.float(), untouched_BE.float(), families_B)
                losses[branch] = losses[branch] + self.config.strangers_weight * strangers
        weights = self.log_variances[[self.branches.index(branch) for branch in losses]]
        total = joint_loss(torch.stack(list(losses.values())), weights)
        return total, {branch: loss.detach() for branch, loss in losses.items()}

    def _branch_loss(self, branch: str, embedding_BC: Tensor, labels_B: Tensor, families_B: Tensor) -> Tensor:
        config, embedding_BC = self.config, embedding_BC.float()
        if config.head == "pairs":
            loss = pair_loss(embedding_BC, labels_B, scale=config.scale, margin=config.margin)
        else:
            loss = self._classification_loss(branch, embedding_BC, labels_B)
        if config.triplet_weight:
            triplet = triplet_loss(embedding_BC, labels_B, families_B, margin=config.triplet_margin)
            loss = loss + config.triplet_weight * triplet
        return loss

    def _classification_loss(self, branch: str, embedding_BC: Tensor, labels_B: Tensor) -> Tensor:
        head = self.heads["glca" if branch == "glca" else "sa"]
        logits_BK, targets_B = head(embedding_BC, labels_B), labels_B
        if self.config.softmax_over == "batch":
            present, targets_B = torch.unique(labels_B, return_inverse=True)
            logits_BK = logits_BK[:, present]
        return F.cross_entropy(logits_BK, targets_B, label_smoothing=self.config.label_smoothing)
