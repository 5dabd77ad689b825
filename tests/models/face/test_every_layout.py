"""Every layout that docs/face_networks.md lists, with a tiny random file: loaded, trained for two steps, saved,
evaluated, exported; and what is said of a file of another layout.

Stand-ins have the layout's own units and names in narrow layers, but fewer units: half as many, or a tenth in the
deepest. That full sizes have the published tensors is tested where each layout is.
"""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from face_weights import random_table
from safetensors.torch import save_file
from test_timm_face import write
from tiny_face import tiny_face_onnx
from whole_use import exported_differs_by, saved_and_read, trained_two_steps

from twin_dcal.cli import evaluate
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.face import inception_resnet, iresnet, layouts, vit
from twin_dcal.models.face.layouts import LAYOUTS
from twin_dcal.models.face.network import FaceInput

SIZE = 32
WIDTHS = (4, 4, 6, 6)
VIT = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}

# Networks in timm's format: architecture, arguments, whether the input's size is fixed.
TIMM = {
    "timm-face vit_tiny": ("vit_tiny_patch16_224", VIT, True),
    "timm-face vit_small gap": ("vit_small_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}, True),
    "timm-face convnext": ("convnext_atto", {"dims": [4, 6, 8, 10], "depths": [1, 1, 2, 1], "patch_size": 2}, False),
}  # fmt: skip
HEAVY = {"inception_resnet_v1"}


def tiny(layout):
    """The layout with narrow layers on 32 x 32 pixels."""
    full, given = layout.build, dict(layout.build.keywords if isinstance(layout.build, partial) else {})
    if full is inception_resnet.InceptionResnetV1:  # its first layers alone need a picture of this size
        small = FaceInput((80, 80), mean=127.5, std=128.0, template="none")
        return replace(layout, build=partial(full, (1, 1, 1), small))
    face_input = replace(given.get("face_input") or FaceInput(), size=(SIZE, SIZE))
    if full.func is iresnet.IResNet:
        depths = full.args[0]
        fewer = 2 if sum(depths) <= 24 else 10
        depths = tuple(max(1, depth // fewer) for depth in depths)
        build = partial(
            iresnet.IResNet, depths, WIDTHS, **given | {"embedding_dim": 8, "face_input": face_input}
        )
        takes_depths = isinstance(layout.public_name, partial)
        name = partial(layout.public_name.func, depths=depths) if takes_depths else layout.public_name
        return replace(layout, build=build, public_name=name)
    assert full.func is vit.FaceViT
    small = {"width": 12, "depth": 3, "num_heads": 2, "embedding_dim": 8, "face_input": face_input}
    return replace(
        layout, build=partial(vit.FaceViT, **given | small), public_name=partial(vit.public_name, depth=3)
    )


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    """Every layout is a tiny one, in every place that knows layouts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "LAYOUTS", {name: tiny(layout) for name, layout in LAYOUTS.items()})
        patch.setattr(layouts, "_TIMM", {"blocks.0.attn.qkv.weight": ("test_vit",)})
        yield


def weights_of(name):
    known = layouts.LAYOUTS[name]
    return random_table({key: shape for key, (_, shape) in known.names().items()})


def stored(kind, folder):
    """What `model.backbone` and `model.pretrained` take for a tiny random file of a layout, as it is published."""
    if kind == "onnx":
        tiny_face_onnx(folder / "face.onnx")
        return "onnx", folder / "face.onnx"
    if kind in TIMM:
        architecture, arguments, is_fixed = TIMM[kind]
        write(folder / "face", architecture, arguments, (SIZE, SIZE), is_fixed, classes=8)
        return "timm", folder / "face"
    table = weights_of(kind)
    if kind.startswith("adaface"):
        path = folder / "face.ckpt"
        content = {f"model.{key}": value for key, value in table.items()} | {"head.kernel": torch.zeros(8, 3)}
        torch.save({"epoch": 3, "state_dict": content}, path)
    elif kind.startswith("cvlface"):
        path = folder / "model.safetensors"
        save_file({f"model.net.{key}": value for key, value in table.items()}, path)
    else:
        path = folder / "backbone.pth"
        torch.save(table, path)
    return kind, path


def configuration(backbone, path):
    return TwinVerificationConfig().override(
        {"model.backbone": backbone, "model.pretrained": str(path), "model.attention_dim": None, "model.num_heads": 2,
         "model.num_blocks": 1, "model.frozen_stride": 2, "data.image_size": SIZE, "data.crop_template": "none",
         "model.feature_strides": [9] if backbone.startswith("arcface_vit") else [8], "model.drop_path": 0.0}
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model of each layout after two steps, as read from its checkpoint alone; its file's path."""
    known = {}

    def make(kind):
        if kind not in known:
            folder = tmp_path_factory.mktemp("layout")
            backbone, path = stored(kind, folder)
            config = configuration(backbone, path)
            torch.manual_seed(0)
            model = DCALVerificationModel.from_config(config)
            moved = trained_two_steps(model, config)
            assert any(name.startswith("backbone.network.stages") for name in moved), (
                "the network itself is trained"
            )
            assert not any(name.startswith("backbone.untouched") for name in moved)
            for file in [path] if path.is_file() else path.iterdir():
                file.unlink()
            known[kind] = saved_and_read(model, config, folder / "best_model.pth"), folder / "best_model.pth"
        return known[kind]

    return make


KINDS = ["onnx", *LAYOUTS, *TIMM]
SOME_SLOW = [pytest.param(kind, marks=pytest.mark.slow) if kind in HEAVY else kind for kind in KINDS]


@pytest.mark.parametrize("kind", SOME_SLOW)
def test_a_layout_is_loaded_trained_saved_and_evaluated(kind, made, tiny_faces, tmp_path, capsys):
    loaded, path = made(kind)
    assert loaded.model.backbone.network.embedding_dim == {"onnx": 16, "inception_resnet_v1": 512}.get(
        kind, 8
    )
    code = evaluate.main(
        ["--model", str(path), "--data_dir", str(tiny_faces), "--output_dir", str(tmp_path), "--num_replicates", "0",
         "--num_workers", "0"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert 0 <= figures["twin"]["eer"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_model_of_a_layout_gives_the_same(kind, made):
    pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
    loaded, _ = made(kind)
    assert exported_differs_by(loaded) < 1e-4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HEAVY])
def test_a_file_of_another_layout_is_one_line_that_says_which_it_resembles(kind, tmp_path):
    wrong = "iresnet18" if kind != "iresnet18" else "cvlface_vit_small"
    torch.save({f"module.{key}": value for key, value in weights_of(wrong).items()}, tmp_path / "wrong.pth")
    backbone = "timm" if kind in TIMM else kind
    with pytest.raises(ModelError) as error:
        DCALVerificationModel.from_config(configuration(backbone, tmp_path / "wrong.pth"))
    told = str(error.value)
    assert str(tmp_path / "wrong.pth") in told
    assert f"They resemble {wrong} (100 % fit)" in told
    assert "\n" not in told


def test_a_file_of_no_known_layout_says_so(tmp_path):
    torch.save({"decoder.weight": torch.zeros(3, 2)}, tmp_path / "wrong.pth")
    for kind in ("onnx", "timm", "iresnet50"):
        with pytest.raises(ModelError, match=r"They resemble none of the layouts in docs/face_networks\.md"):
            DCALVerificationModel.from_config(configuration(kind, tmp_path / "wrong.pth"))


def test_the_document_lists_every_layout():
    import re
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "face_networks.md").read_text()
    listed = set(
        re.findall(r"`([a-z0-9_]+)`", text.split("## Which networks")[1].split("`timm` is the format")[0])
    )
    assert {*LAYOUTS, "onnx", "timm"} <= listed
