"""The Inception-ResNet of facenet-pytorch.

Layout: github.com/timesler/facenet-pytorch, models/inception_resnet_v1.py; its weights are FaceNet's, converted.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from .network import FaceInput, FaceNetwork

FACENET_INPUT = FaceInput((160, 160), mean=127.5, std=128.0, template="none")
"""Pictures of MTCNN's boxes, not aligned."""


class ConvNorm(nn.Module):
    """A convolution, batch norm and ReLU."""

    def __init__(
        self,
        width_in: int,
        width: int,
        size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Branches side by side, their outputs one after another along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, x: Tensor) -> Tensor:
        branches = [part for name, part in self.named_children() if name.startswith("branch")]
        return torch.cat([branch(x) for branch in branches], dim=1)


class ResidualBranches(Branches):
    """Branches, projected, scaled and added to their input; ReLU unless `last`."""

    def __init__(
        self, *branches: nn.Module, width_in: int, width: int, scale: float, last: bool = False
    ) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(width_in, width, 1)
        self.scale, self.last = scale, last

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2d(super().forward(x)) * self.scale + x
        return y if self.last else torch.relu(y)


class InceptionResnetV1(FaceNetwork):
    """Stages of stride 2, 4, 8, 16 and 32, and a linear layer over the mean of the last map.

    Args: repeats: residual units of the three kinds; the published network has 5, 10 and 5.
    """

    def __init__(
        self, repeats: tuple[int, int, int] = (5, 10, 5), face_input: FaceInput = FACENET_INPUT
    ) -> None:
        super().__init__()
        self.input = face_input
        a, b, c = repeats
        parts: list[dict[str, nn.Module]] = [
            {
                "conv2d_1a": ConvNorm(3, 32, 3, 2), "conv2d_2a": ConvNorm(32, 32, 3),
                "conv2d_2b": ConvNorm(32, 64, 3, padding=1),
            },
            {
                "maxpool_3a": nn.MaxPool2d(3, 2), "conv2d_3b": ConvNorm(64, 80, 1),
                "conv2d_4a": ConvNorm(80, 192, 3),
            },
            {"conv2d_4b": ConvNorm(192, 256, 3, 2), "repeat_1": nn.Sequential(*(_block35() for _ in range(a)))},
            {"mixed_6a": _mixed_6a(), "repeat_2": nn.Sequential(*(_block17() for _ in range(b)))},
            {
                "mixed_7a": _mixed_7a(), "repeat_3": nn.Sequential(*(_block8(0.2) for _ in range(c))),
                "block8": _block8(1.0, last=True),
            },
        ]  # fmt: skip
        self.stages = nn.ModuleList(nn.Sequential(OrderedDict(part)) for part in parts)
        self.head = nn.Sequential(
            OrderedDict(
                avgpool_1a=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                last_linear=nn.Linear(1792, 512, bias=False),
                last_bn=nn.BatchNorm1d(512, eps=1e-3),
            )
        )
        self.strides, self.channels, self.embedding_dim = (2, 4, 8, 16, 32), (64, 192, 256, 896, 1792), 512
        grid, grids = face_input.size, []
        for shrinks in (
            ((3, 2), (3, 1)),
            ((3, 2), (3, 1)),
            ((3, 2),),
            ((3, 2),),
            ((3, 2),),
        ):  # kernel and stride
            for kernel, stride in shrinks:
                grid = ((grid[0] - kernel) // stride + 1, (grid[1] - kernel) // stride + 1)
            grids.append(grid)
        self.grids = tuple(grids)


def public_name(key: str) -> str:
    """The published name of one of our tensors."""
    return key.split(".", 1)[1] if key.startswith("head.") else key.split(".", 2)[2]


def _block35() -> nn.Module:
    return ResidualBranches(
        ConvNorm(256, 32, 1),
        nn.Sequential(ConvNorm(256, 32, 1), ConvNorm(32, 32, 3, padding=1)),
        nn.Sequential(ConvNorm(256, 32, 1), ConvNorm(32, 32, 3, padding=1), ConvNorm(32, 32, 3, padding=1)),
        width_in=96, width=256, scale=0.17,
    )  # fmt: skip


def _block17() -> nn.Module:
    across = nn.Sequential(
        ConvNorm(896, 128, 1),
        ConvNorm(128, 128, (1, 7), padding=(0, 3)),
        ConvNorm(128, 128, (7, 1), padding=(3, 0)),
    )
    return ResidualBranches(ConvNorm(896, 128, 1), across, width_in=256, width=896, scale=0.1)


def _block8(scale: float, *, last: bool = False) -> nn.Module:
    across = nn.Sequential(
        ConvNorm(1792, 192, 1),
        ConvNorm(192, 192, (1, 3), padding=(0, 1)),
        ConvNorm(192, 192, (3, 1), padding=(1, 0)),
    )
    return ResidualBranches(ConvNorm(1792, 192, 1), across, width_in=384, width=1792, scale=scale, last=last)


def _mixed_6a() -> nn.Module:
    deep = nn.Sequential(ConvNorm(256, 192, 1), ConvNorm(192, 192, 3, padding=1), ConvNorm(192, 256, 3, 2))
    return Branches(ConvNorm(256, 384, 3, 2), deep, nn.MaxPool2d(3, 2))


def _mixed_7a() -> nn.Module:
    return Branches(
        nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 384, 3, 2)),
        nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 256, 3, 2)),
        nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 256, 3, padding=1), ConvNorm(256, 256, 3, 2)),
        nn.MaxPool2d(3, 2),
    )
