"""InsightFace's improved residual networks for faces, and the same network as AdaFace spells it.

Layout of `arcface_torch`'s backbone.pth: github.com/deepinsight/insightface,
recognition/arcface_torch/backbones/iresnet.py. AdaFace's is in `adaface`, which has the same layers under other names.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from .network import FaceInput, FaceNetwork

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
"""Units of each stage."""

WIDTHS = (64, 128, 256, 512)


class ResidualUnit(nn.Module):
    """Two 3×3 convolutions between batch norms, added to the unit's input."""

    def __init__(self, width_in: int, width: int, stride: int, *, pooled: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, stride, pooled)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        out: Tensor = self.bn3(y) + self.shortcut(x)
        return out


class IResNet(FaceNetwork):
    """A 3×3 stem at full resolution, four stages that each halve it, and one linear layer over the last map.

    Args: depths: units of each stage. pooled: a unit that halves the map without widening it drops every other
    pixel on its shortcut (AdaFace) instead of convolving (InsightFace). scaled: the last batch norm has a scale and
    a shift (InsightFace) or neither (AdaFace).
    """

    def __init__(
        self, depths: Sequence[int], widths: Sequence[int] = WIDTHS, *, embedding_dim: int = 512,
        face_input: FaceInput | None = None, pooled: bool = False, scaled: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input = FaceInput() if face_input is None else face_input
        stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.PReLU(widths[0]),
        )
        self.stages = nn.ModuleList()
        before, grids = widths[0], [self.input.size]
        for depth, width in zip(depths, widths, strict=True):
            units = nn.Sequential(ResidualUnit(before, width, 2, pooled=pooled))
            units.extend(ResidualUnit(width, width, 1, pooled=pooled) for _ in range(depth - 1))
            parts = {"units": units} if self.stages else {"stem": stem, "units": units}
            self.stages.append(nn.Sequential(OrderedDict(parts)))
            grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
            before = width
        # Dropout before `fc`, as in training from scratch, is left out: it would change scores at the first step.
        features = nn.BatchNorm1d(embedding_dim, affine=scaled)
        if scaled:
            features.weight.requires_grad_(False)  # published fixed at one
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm2d(before),
                flatten=nn.Flatten(),
                fc=nn.Linear(before * grids[-1][0] * grids[-1][1], embedding_dim),
                features=features,
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.grids = tuple(grids[1:])
        self.channels = tuple(widths)
        self.strides = tuple(2 ** (stage + 1) for stage in range(len(widths)))
        self.embedding_dim = embedding_dim


def public_name(key: str) -> str:
    """The name in `backbone.pth` of one of our tensors."""
    first, _, rest = key.partition(".")
    if first == "head":
        part, _, leaf = rest.partition(".")
        return f"{'bn2' if part == 'norm' else part}.{leaf}"
    stage, part, index, leaf = rest.split(".", 3)
    if part == "stem":
        return f"{('conv1', 'bn1', 'prelu')[int(index)]}.{leaf}"
    return f"layer{int(stage) + 1}.{index}.{leaf.replace('shortcut.', 'downsample.')}"


def _shortcut(width_in: int, width: int, stride: int, pooled: bool) -> nn.Module:
    if width_in == width and stride == 1:
        return nn.Identity()
    if width_in == width and pooled:
        return nn.MaxPool2d(1, stride)
    return nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
