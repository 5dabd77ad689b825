"""Optimizer, parameter groups and learning-rate schedule, as functions of the configuration."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from twin_dcal.config import TrainingConfig
from twin_dcal.models.dcal import DCALVerificationModel


def learning_rate(config: TrainingConfig, effective_batch: int) -> float:
    """The peak rate: scaled linearly by effective batch / lr_reference_batch, where one is set."""
    if config.lr_reference_batch is None:
        return config.learning_rate
    return config.learning_rate * effective_batch / config.lr_reference_batch


def rate_factor(config: TrainingConfig, epoch: int, batch: int, num_batches: int) -> float:
    """Share of the peak rate of the optimizer step that comes after `batch` of `num_batches` batches of `epoch`.

    Counted in epochs: those of families of mixed size differ in their number of batches, so how many steps a run will
    have is not known at its start; how many epochs is. Each of an epoch's steps is an equal part of it.
    """
    steps = math.ceil(num_batches / config.accumulation_steps)
    number = math.ceil(batch / config.accumulation_steps)
    return lr_factor(
        epoch + (number - 1) / steps, epoch + number / steps, total=config.num_epochs,
        warmup=config.warmup_epochs, scheduler=config.scheduler,
    )  # fmt: skip


def lr_factor(begin: float, end: float, *, total: float, warmup: float, scheduler: str) -> float:
    """Share of the peak rate of an optimizer step that lasts from `begin` to `end` of `total`, in any one unit.

    Linear warm-up, in which the rate never falls; then constant, or a cosine that never rises and ends just above 0.
    """
    if begin < warmup:
        return min(1.0, end / warmup)
    if scheduler == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (begin - warmup) / (total - warmup)))


def freeze_backbone(model: DCALVerificationModel) -> None:
    """Have the pretrained network left as it is. Its batch statistics stay only in evaluation mode."""
    model.backbone.pretrained.requires_grad_(False)


GROUPS = ("backbone", "backbone", "new", "new")
"""Whose parameters each group of `build_optimizer` holds: with weight decay, then without."""


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The rate that each of `GROUPS` has now."""
    groups = zip(GROUPS, optimizer.param_groups, strict=True)
    return {name: float(group["lr"]) for name, group in groups}


def build_optimizer(
    model: DCALVerificationModel, loss: nn.Module, config: TrainingConfig, peak_rate: float
) -> torch.optim.Optimizer:
    """AdamW or SGD with momentum 0.9 over four groups: pretrained or new, with or without weight decay.

    Norms, biases, class tokens, position embeddings and branch weights (everything below 2 dimensions, or a
    token) are not decayed. Each group carries its `peak_lr`. With a backbone factor of 0 the backbone's groups are
    empty.
    """
    pretrained = {id(parameter) for parameter in model.backbone.pretrained.parameters()}
    groups = []
    for is_backbone in (True, False):
        rate = peak_rate * (config.backbone_lr_factor if is_backbone else 1.0)
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in _named_parameters(model, loss)
                if parameter.requires_grad
                and rate > 0
                and (id(parameter) in pretrained) == is_backbone
                and _is_decayed(name, parameter) == decayed
            ]
            decay = config.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "lr": rate, "peak_lr": rate})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=peak_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=peak_rate)


def _named_parameters(*modules: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    for module in modules:
        yield from module.named_parameters()


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    tokens = ("cls_token", "reg_token", "dist_token", "pos_embed", "position")
    return parameter.ndim >= 2 and not name.endswith(tokens)
