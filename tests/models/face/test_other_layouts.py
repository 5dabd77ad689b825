"""facenet-pytorch's Inception-ResNet and InsightFace's and CVLface's ViT against their published descriptions."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from face_weights import random_table

from twin_dcal.errors import ModelError
from twin_dcal.models.face import inception_resnet, layouts, vit
from twin_dcal.models.face.layouts import LAYOUTS, Layout, load
from twin_dcal.models.face.network import FaceInput

REPEATS, FACENET_SIZE = (1, 2, 1), (99, 110)

# Name, input and output channels, kernel (rows, columns), stride, padding (rows, columns) of facenet's convolutions.
ONE, THREE = (1, 1), (3, 3)


def unit_branches(kind):
    return {
        "repeat_1": [
            [(256, 32, ONE, 1, (0, 0))],
            [(256, 32, ONE, 1, (0, 0)), (32, 32, THREE, 1, (1, 1))],
            [(256, 32, ONE, 1, (0, 0)), (32, 32, THREE, 1, (1, 1)), (32, 32, THREE, 1, (1, 1))],
        ],
        "repeat_2": [
            [(896, 128, ONE, 1, (0, 0))],
            [(896, 128, ONE, 1, (0, 0)), (128, 128, (1, 7), 1, (0, 3)), (128, 128, (7, 1), 1, (3, 0))],
        ],
        "repeat_3": [
            [(1792, 192, ONE, 1, (0, 0))],
            [(1792, 192, ONE, 1, (0, 0)), (192, 192, (1, 3), 1, (0, 1)), (192, 192, (3, 1), 1, (1, 0))],
        ],
        "mixed_6a": [
            [(256, 384, THREE, 2, (0, 0))],
            [(256, 192, ONE, 1, (0, 0)), (192, 192, THREE, 1, (1, 1)), (192, 256, THREE, 2, (0, 0))],
        ],
        "mixed_7a": [
            [(896, 256, ONE, 1, (0, 0)), (256, 384, THREE, 2, (0, 0))],
            [(896, 256, ONE, 1, (0, 0)), (256, 256, THREE, 2, (0, 0))],
            [(896, 256, ONE, 1, (0, 0)), (256, 256, THREE, 1, (1, 1)), (256, 256, THREE, 2, (0, 0))],
        ],
    }[kind]


STEM = {
    "conv2d_1a": (3, 32, THREE, 2, (0, 0)), "conv2d_2a": (32, 32, THREE, 1, (0, 0)),
    "conv2d_2b": (32, 64, THREE, 1, (1, 1)), "conv2d_3b": (64, 80, ONE, 1, (0, 0)),
    "conv2d_4a": (80, 192, THREE, 1, (0, 0)), "conv2d_4b": (192, 256, THREE, 2, (0, 0)),
}  # fmt: skip


def units(repeats):
    """(name, kind, scale, whether ReLU follows) of every residual unit, in order, and the two reductions."""
    a, b, c = repeats
    yield from ((f"repeat_1.{i}", "repeat_1", 0.17, True) for i in range(a))
    yield "mixed_6a", "mixed_6a", None, False
    yield from ((f"repeat_2.{i}", "repeat_2", 0.1, True) for i in range(b))
    yield "mixed_7a", "mixed_7a", None, False
    yield from ((f"repeat_3.{i}", "repeat_3", 0.2, True) for i in range(c))
    yield "block8", "repeat_3", 1.0, False


def convolutions(repeats):
    yield from STEM.items()
    for name, kind, _, _ in units(repeats):
        for place, branch in enumerate(unit_branches(kind)):
            for index, convolution in enumerate(branch):
                yield f"{name}.branch{place}" + (f".{index}" if len(branch) > 1 else ""), convolution


def facenet_shapes(repeats):
    shapes = {}
    for name, (inside, outside, kernel, _, _) in convolutions(repeats):
        shapes[f"{name}.conv.weight"] = (outside, inside, *kernel)
        shapes |= {
            f"{name}.bn.{leaf}": (outside,) for leaf in ("weight", "bias", "running_mean", "running_var")
        }
        shapes[f"{name}.bn.num_batches_tracked"] = ()
    for name, kind, scale, _ in units(repeats):
        if scale is not None:
            branches = unit_branches(kind)
            shapes[f"{name}.conv2d.weight"] = (
                branches[0][0][0],
                sum(branch[-1][1] for branch in branches),
                1,
                1,
            )
            shapes[f"{name}.conv2d.bias"] = (branches[0][0][0],)
    shapes["last_linear.weight"] = (512, 1792)
    shapes |= {f"last_bn.{leaf}": (512,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {"last_bn.num_batches_tracked": ()}


def facenet(table, x, repeats):
    described = dict(convolutions(repeats))

    def norm(x, name):
        stored = (table[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *stored, eps=0.001)

    def convolve(x, name):
        _, _, _, stride, padding = described[name]
        return F.relu(
            norm(F.conv2d(x, table[f"{name}.conv.weight"], stride=stride, padding=padding), f"{name}.bn")
        )

    def branches(x, name, kind):
        parts = []
        for place, branch in enumerate(unit_branches(kind)):
            y = x
            for index in range(len(branch)):
                y = convolve(y, f"{name}.branch{place}" + (f".{index}" if len(branch) > 1 else ""))
            parts.append(y)
        return torch.cat(parts + ([F.max_pool2d(x, 3, 2)] if kind.startswith("mixed") else []), dim=1)

    for name in STEM:
        x = F.max_pool2d(x, 3, 2) if name == "conv2d_3b" else x
        x = convolve(x, name)
    for name, kind, scale, relu in units(repeats):
        y = branches(x, name, kind)
        if scale is None:
            x = y
        else:
            x = F.conv2d(y, table[f"{name}.conv2d.weight"], table[f"{name}.conv2d.bias"]) * scale + x
            x = F.relu(x) if relu else x
    return norm(F.linear(x.mean((2, 3)), table["last_linear.weight"]), "last_bn")


FACENET = Layout(
    "tiny", partial(inception_resnet.InceptionResnetV1, REPEATS, FaceInput(FACENET_SIZE)),
    inception_resnet.public_name, "", "", ("logits.",),
)  # fmt: skip


def test_facenet_gives_the_published_embedding_and_its_classifier_is_left_out():
    table = random_table(facenet_shapes(REPEATS))
    logits = {"logits.weight": torch.zeros(9, 512), "logits.bias": torch.zeros(9)}
    images = torch.randn(1, 3, *FACENET_SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network = load(FACENET, table | logits, "file").double()
    expected = facenet({key: value.double() for key, value in table.items()}, images, REPEATS)
    assert expected.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


def test_the_full_facenet_has_the_published_tensors_and_maps():
    names = LAYOUTS["inception_resnet_v1"].names()
    assert {key: shape for key, (_, shape) in names.items()} == facenet_shapes((5, 10, 5))
    network = inception_resnet.InceptionResnetV1((1, 1, 1))
    told = network.strides, network.channels, network.grids, network.embedding_dim
    assert network.strides == (2, 4, 8, 16, 32)
    network.measure()
    assert told == (network.strides, network.channels, network.grids, network.embedding_dim)
    assert network.input == FaceInput((160, 160), "rgb", 127.5, 128.0, "none")


def vit_shapes(patch, width, depth, ratio, patches, size):
    """Names and shapes of InsightFace's and CVLface's ViT."""
    shapes = {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    shapes["pos_embed"] = (1, patches, width)
    for block in range(depth):
        name = f"blocks.{block}"
        shapes |= {
            f"{name}.{norm}.{leaf}": (width,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")
        }
        shapes |= {f"{name}.attn.qkv.weight": (3 * width, width), f"{name}.attn.proj.weight": (width, width)}
        shapes |= {
            f"{name}.mlp.fc1.weight": (ratio * width, width),
            f"{name}.mlp.fc2.weight": (width, ratio * width),
        }
        shapes |= {f"{name}.attn.proj.bias": (width,), f"{name}.mlp.fc2.bias": (width,)}
        shapes[f"{name}.mlp.fc1.bias"] = (ratio * width,)
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    shapes |= {"feature.0.weight": (width, width * patches), "feature.2.weight": (size, width)}
    for index, length in ((1, width), (3, size)):
        shapes |= {
            f"feature.{index}.{leaf}": (length,) for leaf in ("weight", "bias", "running_mean", "running_var")
        }
        shapes[f"feature.{index}.num_batches_tracked"] = ()
    return shapes


def vit_forward(table, images, patch, heads, depth):
    """Patch by patch and head by head."""
    batch, _, rows, columns = images.shape
    tokens = []
    for top in range(0, rows - patch + 1, patch):
        for left in range(0, columns - patch + 1, patch):
            pixels = images[:, :, top : top + patch, left : left + patch].flatten(1)
            tokens.append(
                pixels @ table["patch_embed.proj.weight"].flatten(1).T + table["patch_embed.proj.bias"]
            )
    x = torch.stack(tokens, 1) + table["pos_embed"]
    width = x.shape[2]

    def norm(x, name):
        return F.layer_norm(x, (width,), table[f"{name}.weight"], table[f"{name}.bias"])

    for block in range(depth):
        name, size = f"blocks.{block}", width // heads
        q, k, v = (norm(x, f"{name}.norm1") @ table[f"{name}.attn.qkv.weight"].T).split(width, dim=2)
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            shares = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)).softmax(-1)
            mixed.append(shares @ v[..., part])
        x = x + torch.cat(mixed, 2) @ table[f"{name}.attn.proj.weight"].T + table[f"{name}.attn.proj.bias"]
        y = norm(x, f"{name}.norm2") @ table[f"{name}.mlp.fc1.weight"].T + table[f"{name}.mlp.fc1.bias"]
        x = x + y.clamp(0, 6) @ table[f"{name}.mlp.fc2.weight"].T + table[f"{name}.mlp.fc2.bias"]
    x = norm(x, "norm").reshape(batch, -1)
    for index in (0, 2):
        x = x @ table[f"feature.{index}.weight"].T
        leaves = (
            table[f"feature.{index + 1}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.batch_norm(x, *leaves, eps=2e-5)
    return x


SIZE, PATCH, WIDTH, DEPTH, HEADS = (20, 15), 4, 12, 5, 3
TINY_VIT = Layout(
    "tiny",
    partial(
        vit.FaceViT, patch_size=PATCH, width=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, embedding_dim=6,
        face_input=FaceInput(SIZE),
    ),
    partial(vit.public_name, depth=DEPTH), "", "", ("mask_token", "head."),
)  # fmt: skip


def test_the_vit_gives_the_published_embedding():
    table = random_table(vit_shapes(PATCH, WIDTH, DEPTH, 2, 5 * 3, 6))
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network = load(TINY_VIT, table | {"mask_token": torch.zeros(1, 1, WIDTH)}, "file").double()
    expected = vit_forward({key: value.double() for key, value in table.items()}, images, PATCH, HEADS, DEPTH)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


def test_the_vits_stages_give_patch_tokens_and_no_patch_is_hidden_in_training():
    network = TINY_VIT.build().train()
    told = network.strides, network.channels, network.grids, network.embedding_dim
    assert told == ((4, 4, 4), (12, 12, 12), ((5, 3),) * 3, 6)
    network.measure()
    assert told[1:] == (network.channels, network.grids, network.embedding_dim)
    x = torch.rand(2, 3, *SIZE)
    for stage in network.stages:
        x = stage(x)
        assert network.patches(x).shape == (2, 15, 12)


def test_a_vit_that_needs_landmarks_is_refused(monkeypatch):
    monkeypatch.setattr(layouts, "resembling", lambda shapes: "")
    table = random_table(vit_shapes(PATCH, WIDTH, DEPTH, 2, 5 * 3, 6)) | {
        "keypoint_linear.weight": torch.zeros(3, 4)
    }
    with pytest.raises(ModelError, match=r"1 are left over \(keypoint_linear.weight\)"):
        load(TINY_VIT, table, "file")


@pytest.mark.parametrize(
    ("kind", "patch", "width", "depth", "ratio", "patches"),
    [
        ("arcface_vit_t", 9, 256, 12, 4, 144), ("arcface_vit_s", 9, 512, 12, 4, 144),
        ("arcface_vit_b", 9, 512, 24, 4, 144), ("arcface_vit_l", 9, 768, 24, 4, 144),
        ("cvlface_vit_small", 8, 512, 12, 5, 196), ("cvlface_vit_base", 8, 512, 24, 3, 196),
    ],
)  # fmt: skip
def test_full_size_vits_have_the_published_tensors(kind, patch, width, depth, ratio, patches):
    names = {key: shape for key, (_, shape) in LAYOUTS[kind].names().items()}
    assert names == vit_shapes(patch, width, depth, ratio, patches, 512)
    with torch.device("meta"):
        network = LAYOUTS[kind].build()
    heads = {block.attn.num_heads for stage in network.stages for block in stage.blocks}
    assert heads == {16 if kind == "cvlface_vit_base" else 8}
