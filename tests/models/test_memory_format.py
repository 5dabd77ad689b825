"""Which networks keep channels last: all but those whose first convolution would write past its memory."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from twin_dcal.models.backbone import build_backbone
from twin_dcal.models.memory import memory_format

OURS = {"attention_dim": 16, "num_heads": 2, "num_blocks": 1}


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "format"),
    [
        (3, 1, 2, torch.contiguous_format),
        (16, 1, 2, torch.contiguous_format),
        (16, (1, 3), (2, 1), torch.contiguous_format),
        (3, 1, 1, torch.channels_last),
        (3, 3, 2, torch.channels_last),
        (3, 2, 2, torch.channels_last),
        (64, 1, 2, torch.channels_last),
    ],
)
def test_a_strided_convolution_of_single_pixels_of_few_channels_decides(channels, kernel, stride, format):
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(channels, 8, kernel, stride)))
    assert memory_format(network) is format


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_convolutions_run_channels_last(name):
    backbone = build_backbone(name, image_size=64, **OURS)
    first, seen = next(module for module in backbone.cnn.modules() if isinstance(module, nn.Conv2d)), []
    first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    backbone.tokens(torch.zeros(2, 3, 64, 64))
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["repvgg_a0", "fastvit_t8", "mobileone_s0"])
def test_families_that_begin_with_such_a_convolution_stay_contiguous(name):
    with torch.device("meta"):
        assert memory_format(timm.create_model(name)) is torch.contiguous_format


TRAIN = """
import sys, torch
from twin_dcal.models.backbone import build_backbone
torch.set_num_threads(1)
for name, size in (("fastvit_t8", 224), ("fastvit_t8", 128), ("repvgg_a0", 112), ("test_resnet", 64)):
    backbone = build_backbone(name, image_size=size, attention_dim=16, num_heads=2, num_blocks=1)
    for _ in range(2):
        backbone.tokens(torch.randn(2, 3, size, size)).square().sum().backward()
    rest = [torch.randn(number % 3000 + 1) for number in range(10000)]
"""


@pytest.mark.slow
def test_they_train_and_leave_the_memory_of_others_alone():
    """In a process of its own: what goes wrong ends it, at once or in a later network."""
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
