"""Batch normalisation by the statistics of the global batch, whatever the number of processes."""

from functools import partial

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from twin_dcal.distributed import sum_with_gradient


def share_statistics(model: nn.Module, device: torch.device) -> None:
    """Make every batch normalisation below `model` use the images of all processes, in place.

    On a GPU torch's SyncBatchNorm takes their place (timm's kind keeps the activation that is part of some). It has no
    CPU kernel, so there the same equations are written out; names in the state stay the same in both cases.
    """
    if device.type == "cuda":
        convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: _BatchNorm, x: Tensor) -> Tensor:
    """The module's own forward pass with mean and variance over all processes. `x` is (B, C, …)."""
    if not module.training:
        return type(module).forward(module, x)
    given, axes = x.dtype, [0, *range(2, x.ndim)]
    shape = (1, -1, *[1] * (x.ndim - 2))
    num = x.numel() // x.shape[1]
    # Under autocast x has 8 bits: too few to count images with, and torch's own kernel adds up in 32 as well.
    x = x.to(torch.promote_types(given, torch.float32))
    sums = sum_with_gradient(torch.cat([x.sum(axes), x.new_full((1,), num)]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = x - mean.view(shape)
    variance = sum_with_gradient(centred.square().sum(axes)) / total
    _update(module, mean.detach(), variance.detach(), total)
    out = centred * (variance + module.eps).rsqrt().view(shape)
    if module.affine:
        out = out * module.weight.view(shape) + module.bias.view(shape)
    out = out.to(given)
    for name in ("drop", "act"):  # timm's BatchNormAct2d
        if hasattr(module, name):
            out = getattr(module, name)(out)
    return out


@torch.no_grad()
def _update(module: _BatchNorm, mean: Tensor, variance: Tensor, num: Tensor) -> None:
    if not module.track_running_stats:
        return
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    share = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    for running, value in (
        (module.running_mean, mean),
        (module.running_var, variance * num / (num - 1)),
    ):
        assert running is not None
        running.lerp_(value.to(running.dtype), share)


class BatchStatistics:
    """The running statistics of a model's normalisations, which can be taken back after a batch that spoiled them.

    They are the only buffers that a forward pass changes: those of BatchNorm, InstanceNorm and timm's EvoNorm. A model
    without any, such as a ViT, costs nothing; neither do parts that are in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [
            (module, buffer)
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if name.startswith("running_") or name == "num_batches_tracked"
        ]
        self._saved: list[tuple[Tensor, Tensor]] = []

    def save(self) -> None:
        """Remember the statistics as they are now."""
        self._saved = [(buffer, buffer.clone()) for module, buffer in self._buffers if module.training]

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what `save` remembered."""
        for buffer, before in self._saved:
            buffer.copy_(before)
