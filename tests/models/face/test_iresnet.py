"""InsightFace's and AdaFace's residual networks against their published description, in float64, tensor by tensor."""

import pytest
import torch
import torch.nn.functional as F
from face_weights import random_table

from twin_dcal.errors import ModelError
from twin_dcal.models.face import adaface, iresnet, layouts
from twin_dcal.models.face.layouts import LAYOUTS, Layout, load
from twin_dcal.models.face.network import FaceInput

WIDTHS, SIZE, DEPTHS = (4, 6, 8, 10), (32, 24), (2, 1, 3, 2)
GRID = 2 * 2
"""32 × 24 pixels, halved four times."""


def norm(x, table, name):
    stored = (table[f"{name}.running_mean"], table[f"{name}.running_var"])
    return F.batch_norm(x, *stored, table.get(f"{name}.weight"), table.get(f"{name}.bias"))


def batch_norm(name, width, affine=True):
    shapes = {
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }
    return shapes | ({f"{name}.weight": (width,), f"{name}.bias": (width,)} if affine else {})


def arcface_shapes(depths=DEPTHS, widths=WIDTHS, grid=GRID, size=7):
    """Names and shapes of a `backbone.pth`."""
    shapes = {
        "conv1.weight": (widths[0], 3, 3, 3),
        **batch_norm("bn1", widths[0]),
        "prelu.weight": (widths[0],),
    }
    before = widths[0]
    for layer, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        for unit in range(depth):
            name = f"layer{layer}.{unit}"
            shapes |= batch_norm(f"{name}.bn1", before) | batch_norm(f"{name}.bn2", width)
            shapes |= batch_norm(f"{name}.bn3", width)
            shapes[f"{name}.conv1.weight"] = (width, before, 3, 3)
            shapes[f"{name}.prelu.weight"] = (width,)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            if unit == 0:
                shapes[f"{name}.downsample.0.weight"] = (width, before, 1, 1)
                shapes |= batch_norm(f"{name}.downsample.1", width)
            before = width
    shapes |= batch_norm("bn2", before) | {"fc.weight": (size, before * grid), "fc.bias": (size,)}
    return shapes | batch_norm("features", size)


def arcface(table, x):
    x = F.prelu(norm(F.conv2d(x, table["conv1.weight"], padding=1), table, "bn1"), table["prelu.weight"])
    for layer, depth in enumerate(DEPTHS, 1):
        for unit in range(depth):
            name, stride = f"layer{layer}.{unit}", 2 if unit == 0 else 1
            y = F.conv2d(norm(x, table, f"{name}.bn1"), table[f"{name}.conv1.weight"], padding=1)
            y = F.prelu(norm(y, table, f"{name}.bn2"), table[f"{name}.prelu.weight"])
            y = norm(
                F.conv2d(y, table[f"{name}.conv2.weight"], stride=stride, padding=1), table, f"{name}.bn3"
            )
            if unit == 0:
                x = norm(
                    F.conv2d(x, table[f"{name}.downsample.0.weight"], stride=2), table, f"{name}.downsample.1"
                )
            x = x + y
    x = F.linear(norm(x, table, "bn2").flatten(1), table["fc.weight"], table["fc.bias"])
    return norm(x, table, "features")


def adaface_shapes(depths=DEPTHS, widths=WIDTHS, grid=GRID, size=7):
    """Names and shapes of an AdaFace network, without Lightning's `model.`."""
    shapes = {"input_layer.0.weight": (widths[0], 3, 3, 3), "input_layer.2.weight": (widths[0],)}
    shapes |= batch_norm("input_layer.1", widths[0])
    before, body = widths[0], 0
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            name = f"body.{body}"
            shapes |= batch_norm(f"{name}.res_layer.0", before) | batch_norm(f"{name}.res_layer.2", width)
            shapes |= batch_norm(f"{name}.res_layer.5", width)
            shapes[f"{name}.res_layer.1.weight"] = (width, before, 3, 3)
            shapes[f"{name}.res_layer.3.weight"] = (width,)
            shapes[f"{name}.res_layer.4.weight"] = (width, width, 3, 3)
            if before != width:
                shapes[f"{name}.shortcut_layer.0.weight"] = (width, before, 1, 1)
                shapes |= batch_norm(f"{name}.shortcut_layer.1", width)
            before, body = width, body + 1
    shapes |= batch_norm("output_layer.0", before) | batch_norm("output_layer.4", size, affine=False)
    return shapes | {"output_layer.3.weight": (size, before * grid), "output_layer.3.bias": (size,)}


def adaface_forward(table, x):
    x = norm(F.conv2d(x, table["input_layer.0.weight"], padding=1), table, "input_layer.1")
    x, body = F.prelu(x, table["input_layer.2.weight"]), 0
    for depth in DEPTHS:
        for unit in range(depth):
            name, stride = f"body.{body}", 2 if unit == 0 else 1
            y = F.conv2d(
                norm(x, table, f"{name}.res_layer.0"), table[f"{name}.res_layer.1.weight"], padding=1
            )
            y = F.prelu(norm(y, table, f"{name}.res_layer.2"), table[f"{name}.res_layer.3.weight"])
            y = F.conv2d(y, table[f"{name}.res_layer.4.weight"], stride=stride, padding=1)
            if f"{name}.shortcut_layer.0.weight" in table:
                x = F.conv2d(x, table[f"{name}.shortcut_layer.0.weight"], stride=stride)
                x = norm(x, table, f"{name}.shortcut_layer.1")
            else:
                x = x[:, :, ::stride, ::stride]  # a maximum over one pixel
            x, body = x + norm(y, table, f"{name}.res_layer.5"), body + 1
    x = norm(x, table, "output_layer.0").flatten(1)
    x = F.linear(x, table["output_layer.3.weight"], table["output_layer.3.bias"])
    return norm(x, table, "output_layer.4")


def tiny_arcface():
    return iresnet.IResNet(DEPTHS, WIDTHS, embedding_dim=7, face_input=FaceInput(SIZE))


def tiny_adaface():
    return iresnet.IResNet(
        DEPTHS, WIDTHS, embedding_dim=7, face_input=FaceInput(SIZE, "bgr"), pooled=True, scaled=False
    )


CASES = {
    "arcface": (Layout("tiny", tiny_arcface, iresnet.public_name, "", ""), arcface_shapes, arcface),
    "adaface": (
        Layout("tiny", tiny_adaface, lambda key: adaface.public_name(key, DEPTHS), "", "", ("head.",)),
        adaface_shapes, adaface_forward,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_the_published_layout_gives_the_published_embedding(case):
    layout, shapes, forward = CASES[case]
    table = random_table(shapes())
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network = load(layout, table, "file").double()
    expected = forward({key: value.double() for key, value in table.items()}, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_geometry_is_what_running_it_gives(case):
    network = CASES[case][0].build()
    told = network.strides, network.channels, network.grids, network.embedding_dim
    network.measure()
    assert told == (network.strides, network.channels, network.grids, network.embedding_dim)
    assert network.grids == ((16, 12), (8, 6), (4, 3), (2, 2))
    assert network.strides == (2, 4, 8, 16)


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_missing_left_over_or_of_another_shape_is_one_line(case, monkeypatch):
    monkeypatch.setattr(layouts, "resembling", lambda shapes: "")
    layout, shapes, _ = CASES[case]
    table = random_table(shapes())
    first = next(iter(table))
    with pytest.raises(ModelError, match=rf"1 tensor is missing \({first}\)") as error:
        load(layout, {key: value for key, value in table.items() if key != first}, "file")
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"1 are left over \(gate\)"):
        load(layout, table | {"gate": torch.zeros(1)}, "file")
    with pytest.raises(ModelError, match=r"1 have another shape \(.* \[5\] for"):
        load(layout, table | {first: torch.zeros(5)}, "file")


PUBLISHED = {
    "iresnet18": (2, 2, 2, 2), "iresnet34": (3, 4, 6, 3), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6), "adaface_ir18": (2, 2, 2, 2), "adaface_ir34": (3, 4, 6, 3),
    "adaface_ir50": (3, 4, 14, 3), "adaface_ir101": (3, 13, 30, 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", PUBLISHED)
def test_full_size_networks_have_the_published_tensors(kind):
    shapes = adaface_shapes if kind.startswith("adaface") else arcface_shapes
    listed = shapes(PUBLISHED[kind], (64, 128, 256, 512), 7 * 7, 512)
    assert {key: shape for key, (_, shape) in LAYOUTS[kind].names().items()} == listed
    with torch.device("meta"):
        network = LAYOUTS[kind].build()
    assert network.input == FaceInput(channels="bgr" if kind.startswith("adaface") else "rgb")
    assert network.grids == ((56, 56), (28, 28), (14, 14), (7, 7))
