"""From images to the loss of the global batch, in one module: DDP and FSDP see one forward pass."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from twin_dcal.data.fit import sides
from twin_dcal.distributed import gather_rows, gather_with_gradient, rank, row_counts, world_size
from twin_dcal.image_size import ImageSize
from twin_dcal.losses import DCALLoss
from twin_dcal.models.attention import twin_partners
from twin_dcal.models.backbone import Frozen
from twin_dcal.models.dcal import DCALVerificationModel


class Outcome(NamedTuple):
    """loss: what this process takes the gradient of; figures: (1 + branches,) joint and branch losses of the global
    batch, detached; image_index: images of the global batch, int64 on the CPU."""

    loss: Tensor
    figures: Tensor
    image_index: Tensor


class Objective(nn.Module):
    """Model and loss as one.

    With several processes embeddings are gathered and every process computes the loss of the global batch: the twin
    and all other people of the batch are there, and the figures do not depend on the number of processes. With
    ``across_ranks=False`` each process computes the loss of its own images, in which both twins are; losses are then
    weighted by the share of images. In both cases the mean over processes of the gradients is the gradient.
    """

    def __init__(
        self, model: DCALVerificationModel, loss: DCALLoss, *, across_ranks: bool, amp_dtype: torch.dtype | None,
        twin_partners: bool = False,
    ) -> None:  # fmt: skip
        """Args: twin_partners: PWCA's distractor is an image of the twin, where the batch has one."""
        super().__init__()
        self.model, self.loss = model, loss
        self.across_ranks, self.amp_dtype, self.twin_partners = across_ranks, amp_dtype, twin_partners

    def forward(self, images: Tensor | Frozen, people: Tensor, families: Tensor, index: Tensor) -> Outcome:
        """Args: images: (B, 3, S, S), normalised, or what the backbone's frozen parts gave for them; people, families:
        (B,) labels; index: (B,) on the CPU."""
        partner = twin_partners(people, families) if self.twin_partners and len(people) > 1 else None
        with torch.autocast(people.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            branches = self.model(images, partner)
        embeddings = {name: rows.float() for name, rows in branches.active().items()}
        untouched = branches.untouched if self.loss.config.strangers_weight else None
        counts = row_counts(len(people))
        all_index = gather_rows(index, counts)
        if world_size() > 1 and self.across_ranks:
            rows_BRC = torch.stack(list(embeddings.values()), dim=1)
            all_BRC = gather_with_gradient(rows_BRC, counts)
            embeddings = dict(zip(embeddings, all_BRC.unbind(1), strict=True))
            people, families = gather_rows(torch.stack([people, families], 1), counts).unbind(1)
            untouched = None if untouched is None else gather_rows(untouched.detach(), counts)
        loss, losses = self.loss(embeddings, people, families, untouched)
        figures = torch.stack([loss.detach(), *losses.values()])
        if world_size() > 1 and not self.across_ranks:
            share = counts[rank()] / sum(counts)
            figures = gather_rows((share * figures)[None]).sum(0)
            loss = loss * (share * world_size())
        return Outcome(loss, figures, all_index)


def two_images(size: ImageSize, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch that `Objective` takes: grey pictures of a pair of twins."""
    people = torch.tensor([0, 1], device=device)
    return torch.zeros(2, 3, *sides(size), device=device), people, torch.zeros_like(people), torch.arange(2)
