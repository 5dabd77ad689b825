"""Each layout as the backbone of a run: it starts as its network, trains, is saved, read again and exported."""

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from face_weights import random_table
from test_timm_face import CASES, write

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.errors import ModelError
from twin_dcal.models.backbone import build_backbone
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.face import inception_resnet, iresnet, layouts, timm_face, vit
from twin_dcal.models.face.layouts import LAYOUTS, load_face_network
from twin_dcal.models.face.network import FaceInput
from twin_dcal.training.loop import Trainer

SIZE = FaceInput((32, 32))
RESIDUAL = partial(iresnet.IResNet, (1, 1, 1, 1), (4, 4, 6, 6), embedding_dim=8)
VIT = partial(vit.FaceViT, patch_size=8, width=12, depth=12, num_heads=2, mlp_ratio=2, embedding_dim=8)
TINY = {
    "iresnet18": partial(RESIDUAL, face_input=SIZE),
    "adaface_ir18": partial(RESIDUAL, pooled=True, scaled=False, face_input=replace(SIZE, channels="bgr")),
    "cvlface_vit_small": partial(VIT, face_input=SIZE),
    "inception_resnet_v1": partial(
        inception_resnet.InceptionResnetV1,
        (1, 1, 1),
        FaceInput((80, 80), mean=127.5, std=128.0, template="none"),
    ),
}
KINDS = [
    "iresnet18", "adaface_ir18", "cvlface_vit_small",
    pytest.param("inception_resnet_v1", marks=pytest.mark.slow), "timm: pooled vit", "timm: convnext",
]  # fmt: skip


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A file of a kind with random weights; gives what `model.backbone` and `model.pretrained` take."""

    def make(kind):
        if kind.startswith("timm: "):
            architecture, arguments, _, fixed, _ = CASES[kind.removeprefix("timm: ")]
            write(tmp_path / "face", architecture, arguments, (64, 64), fixed, classes=8)
            return "timm", str(tmp_path / "face")
        depths = {"depths": (1, 1, 1, 1)} if kind.startswith("adaface") else {}
        names = partial(LAYOUTS[kind].public_name, **depths) if depths else LAYOUTS[kind].public_name
        tiny = replace(LAYOUTS[kind], build=TINY[kind], public_name=names)
        monkeypatch.setitem(layouts.LAYOUTS, kind, tiny)
        table = random_table({key: shape for key, (_, shape) in tiny.names().items()})
        torch.save(table, tmp_path / "face.pth")
        return kind, str(tmp_path / "face.pth")

    return make


def configuration(backbone, pretrained, **changes):
    values = {
        "model.backbone": backbone, "model.pretrained": pretrained, "model.attention_dim": None, "model.num_heads": 2,
        "model.num_blocks": 1, "model.frozen_stride": 2, "data.image_size": 64, "data.crop_template": "none",
        "runtime.device": "cpu", "runtime.num_workers": 0, "runtime.num_threads": 1,
    }  # fmt: skip
    return TwinVerificationConfig().override(values | changes)


def pixels(num=2):
    return torch.randint(
        0, 256, (num, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_begin_with_the_networks_own_cosine(stored, kind):
    backbone, pretrained = stored(kind)
    network = load_face_network(backbone, pretrained)
    model = DCALVerificationModel.from_config(configuration(backbone, pretrained)).eval()
    wide = F.interpolate(
        pixels().float(), network.input.size, mode="bilinear", antialias=True, align_corners=False
    )
    given = (wide - network.input.mean) / network.input.std
    given = given.flip(1) if network.input.channels == "bgr" else given
    normalised = (pixels().float() / 255 - model.backbone.mean[0]) / model.backbone.std[0]
    with torch.no_grad():
        wanted = F.cosine_similarity(*network(given), dim=0)
        embeddings = model.embed(normalised, "sa")
    assert float(F.cosine_similarity(*embeddings, dim=0)) == pytest.approx(float(wanted), abs=2e-5)
    assert abs(float(wanted)) < 0.9999, "pictures that the random network cannot tell apart prove nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_saves_and_is_read_again_without_the_file(stored, tiny_faces, tmp_path, kind):
    backbone, pretrained = stored(kind)
    config = configuration(
        backbone, pretrained,
        **{
            "data.data_dir": str(tiny_faces), "training.batch_size": 8, "training.images_per_person": 2,
            "training.num_epochs": 1, "training.warmup_epochs": 0, "training.learning_rate": 0.01,
            "training.lr_reference_batch": None, "loss.head": "pairs",
        },
    )  # fmt: skip
    data = TwinDataModule(config)
    data.setup()
    trainer = Trainer(config, data, tmp_path / "run")
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.fit()
    after = trainer.model.state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert any(key.startswith("backbone.network.stages.1") for key in moved) or kind == "cvlface_vit_small"
    assert any(key.startswith("backbone.blocks") for key in moved)
    save_model(tmp_path / "model.pth", trainer.model, config)
    for file in (tmp_path / "face.pth", *(tmp_path / "face").glob("*")):
        file.unlink(missing_ok=True)
    loaded = load_model(tmp_path / "model.pth")
    with torch.no_grad():
        images = loaded.preprocessing.normalize(pixels())
        assert torch.equal(loaded.model.embed(images), trainer.model.eval().embed(images))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_model_gives_the_same(stored, tmp_path, kind):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    from twin_dcal.export.graph import to_onnx

    config = configuration(*stored(kind))
    torch.manual_seed(0)
    save_model(tmp_path / "model.pth", DCALVerificationModel.from_config(config), config)
    loaded = load_model(tmp_path / "model.pth")
    session = runtime.InferenceSession(to_onnx(loaded).SerializeToString())
    given = pixels(3)
    (combined, *_) = session.run(None, {session.get_inputs()[0].name: given.permute(0, 2, 3, 1).numpy()})
    with torch.no_grad():
        wanted = loaded.model.features(loaded.preprocessing.normalize(given))["combined"]
    np.testing.assert_allclose(combined, wanted.numpy(), rtol=1e-3, atol=1e-4)


def test_a_hubs_name_is_a_backbone(monkeypatch, tmp_path):
    write(tmp_path / "face", *CASES["convnext"][:4], classes=8)
    asked = []
    monkeypatch.setattr(
        timm_face, "_hub_file", lambda name, files: asked.append(name) or tmp_path / "face" / files[0]
    )
    model = DCALVerificationModel.from_config(configuration("hf_hub:some/face", True))
    assert model.backbone.network.embedding_dim == 8
    assert set(asked) == {"hf_hub:some/face"}


def test_a_description_that_asks_for_more_than_the_weights_is_refused(stored, tmp_path):
    config = configuration(*stored("timm: convnext"))
    path = tmp_path / "model.pth"
    save_model(path, DCALVerificationModel.from_config(config), config)
    content = torch.load(path, weights_only=True)
    graph = bytes(content["face_graph"].numpy()).replace(b'"dims": [4, 6, 8, 10]', b'"dims": [4, 6, 8, 9000]')
    content["face_graph"] = torch.frombuffer(bytearray(graph), dtype=torch.uint8)
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"description asks for \d+ bytes, its weights are \d+"):
        load_model(path)
    content["face_graph"] = torch.frombuffer(bytearray(b"{}"), dtype=torch.uint8)
    torch.save(content, path)
    with pytest.raises(ModelError, match="description of a face network is damaged"):
        load_model(path)


@pytest.mark.parametrize(
    ("backbone", "pretrained", "message"),
    [
        ("timm", True, "set model.pretrained to a folder with config.json and weights, or to hf_hub:"),
        ("iresnet50", True, "model.backbone iresnet50: set model.pretrained to the weights file"),
    ],
)
def test_a_missing_file_is_one_line(backbone, pretrained, message):
    with pytest.raises(ModelError, match=message):
        DCALVerificationModel.from_config(configuration(backbone, pretrained))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ir_50", "face networks: adaface_ir50, cvlface_ir50"),
        ("iresnet-50", "face networks: iresnet50"),
        ("r100", "face networks: iresnet100"),
        ("facenet", "face networks: inception_resnet_v1"),
        ("buffalo_l", "set model.backbone to onnx and model.pretrained to its w600k_r50.onnx"),
        ("face.onnx", "set model.backbone to onnx and model.pretrained to the file"),
    ],
)
def test_a_name_that_is_no_backbone_says_what_to_set(name, hint):
    with pytest.raises(ModelError, match=f"timm has no model '{name}'.*{hint}"):
        build_backbone(name)


def test_a_file_in_place_of_a_name_says_what_to_set(tmp_path):
    (tmp_path / "backbone.pth").touch()
    with pytest.raises(ModelError, match="model.backbone names the layout"):
        build_backbone(str(tmp_path / "backbone.pth"))


def test_the_weights_are_told(stored, caplog):
    backbone, pretrained = stored("iresnet18")
    with caplog.at_level(logging.INFO):
        DCALVerificationModel.from_config(configuration(backbone, pretrained))
    assert f"of 'iresnet18' from {pretrained}" in caplog.text
