"""Starting from an earlier model of ours: what is taken, what is not, what is refused; and epoch 0."""

import json
import logging

import pytest
import torch
from tiny_face import EMBEDDING, tiny_face_onnx

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.training.initial import initial_model
from twin_dcal.training.run import train


def configuration(**changes):
    values = {
        "model.backbone": "test_resnet", "model.pretrained": False, "model.attention_dim": 16, "model.num_heads": 2,
        "model.num_blocks": 2, "data.image_size": 32,
    }  # fmt: skip
    return TwinVerificationConfig().override(values | changes)


def saved(path, config, seed=3, **training):
    torch.manual_seed(seed)
    model = DCALVerificationModel.from_config(config)
    save_model(path, model, config, training=training)
    return model.state_dict()


def test_weights_are_taken_and_told(tmp_path, caplog):
    weights = saved(tmp_path / "best_model.pth", configuration(), epoch=7)
    with caplog.at_level(logging.INFO):
        model = initial_model(configuration(**{"model.init_from": str(tmp_path)}))
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert "epoch 7" in caplog.text
    assert f"{len(weights)} tensors taken" in caplog.text


def test_branches_may_differ_and_that_is_told(tmp_path, caplog):
    saved(tmp_path / "sa.pth", configuration(**{"model.branches": ["sa"]}))
    with caplog.at_level(logging.INFO):
        initial_model(configuration(**{"model.init_from": str(tmp_path / "sa.pth")}))
    assert "new and untrained: glca_block" in caplog.text
    saved(tmp_path / "all.pth", configuration())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        initial_model(
            configuration(**{"model.init_from": str(tmp_path / "all.pth"), "model.branches": ["sa"]})
        )
    assert "not used: glca_block" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.attention_dim", 32), ("data.image_size", 64), ("model.backbone", "test_efficientnet")],
)
def test_another_geometry_is_one_line_with_both_values(tmp_path, key, value):
    saved(tmp_path / "m.pth", configuration())
    with pytest.raises(ModelError, match=key.replace(".", r"\.")) as error:
        initial_model(configuration(**{"model.init_from": str(tmp_path / "m.pth"), key: value}))
    assert repr(value) in str(error.value)
    assert "\n" not in str(error.value)


def face_configuration(file, **changes):
    face = {"model.backbone": "onnx", "model.pretrained": str(file), "model.attention_dim": EMBEDDING}
    return configuration(**(face | changes))


def test_a_face_network_comes_along_with_its_untouched_self(tmp_path):
    tiny_face_onnx(tmp_path / "tiny.onnx")
    config = face_configuration(tmp_path / "tiny.onnx", **{"model.frozen_stride": 4})
    model = DCALVerificationModel.from_config(config)
    images = torch.randn(2, 3, 32, 32)
    untouched = model.backbone.read(images).untouched
    with torch.no_grad():
        for value in model.backbone.network.stages[2:].parameters():
            value.add_(0.1)
    save_model(tmp_path / "m.pth", model, config)
    start = {"model.init_from": str(tmp_path / "m.pth"), "model.pretrained": "gone.onnx"}
    for frozen in (4, 0):
        again = initial_model(face_configuration("gone.onnx", **(start | {"model.frozen_stride": frozen})))
        torch.testing.assert_close(again.backbone.read(images).untouched, untouched)
        torch.testing.assert_close(again.eval().embed(images), model.eval().embed(images))
    with pytest.raises(ModelError, match="frozen_stride 4"):
        initial_model(face_configuration("gone.onnx", **(start | {"model.frozen_stride": 16})))


@pytest.fixture
def face_run(tmp_path, tiny_faces):
    def run(name, **changes):
        tiny_face_onnx(tmp_path / "tiny.onnx")
        values = {
            "data.data_dir": str(tiny_faces), "runtime.output_dir": str(tmp_path / name), "runtime.num_workers": 0,
            "training.batch_size": 8, "training.images_per_person": 2, "training.num_epochs": 1,
            "runtime.device": "cpu",
            "loss.head": "pairs",
        }  # fmt: skip
        config = face_configuration(tmp_path / "tiny.onnx", **(values | changes))
        return config, train(config)

    return run


def test_no_epoch_gives_the_face_network_with_a_threshold(face_run, tmp_path):
    config, result = face_run("zero", **{"training.num_epochs": 0})
    loaded = load_model(result.best_model)
    fresh = DCALVerificationModel.from_config(config).eval()
    images = torch.randn(3, 3, 32, 32)
    unit = fresh.embed(images, "sa")
    ours = loaded.model.embed(images)
    torch.testing.assert_close(ours @ ours.T, unit @ unit.T, atol=1e-5, rtol=0)
    assert loaded.threshold is not None
    assert loaded.training["epoch"] == 0


def test_epoch_0_competes(face_run, tmp_path):
    """A learning rate that ruins the network leaves best_model.pth as it came."""
    _, result = face_run("ruined", **{"training.learning_rate": 50.0, "training.clip_norm": None})
    assert load_model(result.best_model).training["epoch"] == 0
    lines = [json.loads(line) for line in (tmp_path / "ruined" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert lines[0]["val/all_eer"] <= lines[1]["val/all_eer"]
