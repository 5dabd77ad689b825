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


def lr_factor(step: int, *, total: int, warmup: int, scheduler: str) -> float:
    """Share of the peak rate at optimizer step `step` (0-based): linear warm-up, then cosine to 0 or constant."""
    if step < warmup:
        return (step + 1) / warmup
    if scheduler == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def build_optimizer(
    model: DCALVerificationModel, loss: nn.Module, config: TrainingConfig, peak_rate: float
) -> torch.optim.Optimizer:
    """AdamW or SGD with momentum 0.9 over four groups: pretrained or new, with or without weight decay.

    Norms, biases, class tokens, position embeddings and branch weights (everything below 2 dimensions, or a
    token) are not decayed. Each group carries its `peak_lr`. A backbone factor of 0 freezes the backbone.
    """
    pretrained = {id(parameter) for parameter in model.backbone.pretrained.parameters()}
    if config.backbone_lr_factor == 0:
        model.backbone.pretrained.requires_grad_(False)
    groups = []
    for is_backbone in (True, False):
        rate = peak_rate * (config.backbone_lr_factor if is_backbone else 1.0)
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in _named_parameters(model, loss)
                if parameter.requires_grad
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
