"""In which order a convolutional network keeps the numbers of its maps in memory."""

import torch
from torch import nn

_FEW_CHANNELS = 32


def memory_format(network: nn.Module) -> torch.memory_format:
    """Channels last, in which depthwise convolutions are faster on a CPU and which tensor cores like; contiguous for a
    network that torch 2.14 cannot train in it.

    On a CPU the backward pass of a 1x1 convolution with a stride, of 16 channels or fewer, writes past its memory: the
    process dies at once, or later in another network. RepVGG, MobileOne and FastViT begin with one.
    """
    is_unsafe = any(_overruns(module) for module in network.modules() if isinstance(module, nn.Conv2d))
    return torch.contiguous_format if is_unsafe else torch.channels_last


def _overruns(convolution: nn.Conv2d) -> bool:
    """With some room to the channels that were seen to fail: which they are may depend on the processor."""
    is_strided = any(
        size == 1 < step for size, step in zip(convolution.kernel_size, convolution.stride, strict=True)
    )
    return is_strided and convolution.in_channels < _FEW_CHANNELS
