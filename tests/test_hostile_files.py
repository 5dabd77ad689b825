"""Exported models, face networks and files that training starts from: what they claim is checked before it is made."""

import json
import math
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_values

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.cli import train as train_command
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.inference import backend
from twin_dcal.models.backbone import build_backbone
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.face.bounded import Bounded
from twin_dcal.models.face.weights import read_tensors
from twin_dcal.training.initial import initial_model
from twin_dcal.training.run import train
from twin_dcal.training.state import LAST

HUGE, NAN = 10**400, float("nan")


def one_line(call, told):
    with pytest.raises(ModelError, match=told) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


# Features


def test_features_that_decide_nothing_are_refused():
    rows = np.eye(3, dtype=np.float32)
    assert backend.unit_rows(rows, "m") is rows
    assert backend.unit_rows(np.zeros((0, 3), np.float32), "m").shape == (0, 3)
    for wrong in (NAN, np.inf, 0, 3e38, 0.9):
        damaged = rows.copy()
        damaged[1, 1] = wrong
        one_line(
            lambda damaged=damaged: backend.unit_rows(damaged, "m"), "^m: damaged: its network gives features"
        )


def test_a_network_whose_arithmetic_overflows_decides_nothing(tmp_path):
    from twin_dcal.inference.engine import TwinInferenceEngine
    from twin_dcal.metrics.error_curve import Threshold

    path = tiny_model(tmp_path, threshold=Threshold(0.5, {}))
    content = torch.load(path, weights_only=True)
    content["weights"]["glca_norm.weight"].fill_(3e38)
    torch.save(content, path)
    engine = TwinInferenceEngine(path, "cpu", align="never")
    picture = np.full((32, 32, 3), 90, np.uint8)
    one_line(lambda: engine.verify_pair(picture, picture), "decides nothing|numbers that are none")


# A backbone whose structure a checkpoint holds


@pytest.mark.parametrize("backbone", ["hf_hub:some/face", "timm", "onnx"])
def test_a_checkpoint_without_its_networks_structure_asks_nobody(tmp_path, monkeypatch, backbone):
    path = tiny_model(tmp_path)
    content = torch.load(path, weights_only=True)
    content["config"]["model"]["backbone"] = backbone
    torch.save(content, path)
    from twin_dcal.models.face import timm_face

    monkeypatch.setattr(timm_face, "_hub_file", lambda *_: pytest.fail("the hub was asked"))
    one_line(lambda: load_model(path), f"the structure of its '{backbone}' is missing")


def test_a_structure_beside_a_network_that_needs_none_makes_nothing(tmp_path, monkeypatch):
    """A layout that has a name is outlined without memory, whatever else the file holds."""
    from twin_dcal.models.face import layouts

    made = []
    build = layouts.build_face_network
    monkeypatch.setattr(
        "twin_dcal.models.face.open.build_face_network", lambda *given: made.append(build(*given)) or made[-1]
    )
    path = tiny_model(tmp_path)
    content = torch.load(path, weights_only=True)
    content["config"]["model"]["backbone"] = "iresnet18"
    content["config"]["model"] |= {"attention_dim": 512, "num_heads": 8, "feature_strides": [8]}
    content["face_graph"] = torch.zeros(3, dtype=torch.uint8)
    torch.save(content, path)
    one_line(lambda: load_model(path), "best_model.pth: ")
    assert [parameter.device.type for network in made for parameter in network.parameters()].count("cpu") == 0
    assert made


def test_a_version_of_several_lines_is_told_in_one(tmp_path):
    path = tiny_model(tmp_path)
    for version in (torch.zeros(2, 2, dtype=torch.int64), "\n", 10**400):
        content = torch.load(path, weights_only=True)
        content["format_version"] = content["twin_dcal"] = version
        torch.save(content, tmp_path / "other.pth")
        one_line(lambda: load_model(tmp_path / "other.pth"), "this release reads version 1|damaged")


def test_memory_is_counted_before_it_is_taken():
    with Bounded(4 * 1000):
        torch.zeros(500).view(5, 100).expand(3, 5, 100)  # views take none
        torch.zeros(400)
    with Bounded(4000):
        one_line(lambda: torch.zeros(10**13), "needs more than 4000 bytes")  # 40 TB
    small = torch.ones(10)
    with Bounded(4 * 10**6):
        one_line(lambda: small.repeat(10**12), "needs more than")
        one_line(
            lambda: small.view(10, 1, 1) * torch.ones(1, 10**3, 1) * torch.ones(1, 1, 10**3),
            "needs more than",
        )
    with Bounded(0):
        small.add_(1)
        assert float(small.view(2, 5)[0, 0]) == 2


def test_the_networks_that_are_read_stay_the_same_within_bounds():
    layer = torch.nn.Conv2d(3, 4, 3)
    picture = torch.rand(1, 3, 8, 8)
    expected = layer(picture)
    with Bounded(10**6):
        assert torch.equal(layer(picture), expected)


def test_a_face_networks_graph_that_makes_much_of_little(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2pytorch")
    from tiny_face import tiny_face_onnx

    model = tiny_face_onnx()
    first = model.graph.node[0]
    x = first.input[0]
    for level in range(40):  # a picture on top of itself, 2^40 times as wide
        x, before = f"laugh{level}", x
        model.graph.node.insert(level, onnx.helper.make_node("Concat", [before, before], [x], axis=1))
    shapes = {"starts": [0], "ends": [3], "axes": [1]}
    for name, numbers in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers), name))
    model.graph.node.insert(40, onnx.helper.make_node("Slice", [x, *shapes], ["cut"]))
    first.input[0] = "cut"
    (tmp_path / "face.onnx").write_bytes(model.SerializeToString())
    from twin_dcal.models.face.onnx_network import OnnxNetwork

    one_line(lambda: OnnxNetwork.from_file(tmp_path / "face.onnx"), "needs more than|cannot be turned")


# Weights files


@pytest.fixture
def table():
    return build_backbone("test_resnet", image_size=32, attention_dim=8, num_heads=2).pretrained.state_dict()


READERS = {
    "backbone": lambda path: build_backbone("test_resnet", pretrained=str(path), image_size=32, num_heads=2),
    "face network": read_tensors,
}


@pytest.mark.parametrize("reader", READERS)
def test_compressed_weights_are_refused_unread(table, tmp_path, reader):
    torch.save(table, tmp_path / "sound.pth")
    READERS[reader](tmp_path / "sound.pth")
    with (
        zipfile.ZipFile(tmp_path / "sound.pth") as old,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    one_line(lambda: READERS[reader](tmp_path / "w.pth"), "holds compressed records")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_that_are_no_numbers(table, tmp_path, reader, ending):
    from safetensors.torch import save_file

    path = tmp_path / f"w{ending}"
    key = next(iter(table))
    for value in (NAN, float("inf")):
        table[key] = torch.full(table[key].shape, value)
        (torch.save if ending == ".pth" else save_file)(
            {name: tensor.contiguous() for name, tensor in table.items()}, path
        )
        one_line(lambda: READERS[reader](path), f"hold NaN or infinity \\({key}\\)")


@pytest.mark.parametrize(
    "value", [3, "text", None, [1], torch.zeros(2).to_sparse(), torch.zeros(2, dtype=torch.complex64)]
)
def test_entries_that_are_no_tensors(table, tmp_path, value):
    table[next(iter(table))] = value
    torch.save(table, tmp_path / "w.pth")
    one_line(
        lambda: READERS["backbone"](tmp_path / "w.pth"), "no table of tensors|no dense tensor|read safely"
    )


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**40]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": 3}, [], {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]}},
    ],
    ids=range(8),
)  # fmt: skip
def test_headers_that_lie(tmp_path, reader, header):
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    one_line(
        lambda: READERS[reader](tmp_path / "w.safetensors"), "not a weights file that can be read safely"
    )


# model.init_from, and states of a run


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.update(training=3), "training"),
        (lambda content: content.update(threshold={"value": -1e9, "origin": {}}), "threshold"),
        (
            lambda content: content.update(threshold={"value": 0.5, "origin": {"num_impostors": math.nan}}),
            "threshold.origin.num_impostors: a number that is none",
        ),
        (
            lambda content: content.update(threshold={"value": 0.5, "origin": {"of": [{"x": 10**400}]}}),
            "threshold.origin.of.x: a number that is none, or beyond",
        ),
        (lambda content: content.update(weights=[]), "no table of tensors"),
        (lambda content: content["weights"].update(more=torch.zeros(1)), "1 left over"),
        (lambda content: content["config"]["model"].update(num_blocks=200), "do not fit its configuration"),
        (lambda content: content["weights"]["glca_norm.weight"].fill_(NAN), "NaN or infinity"),
    ],
    ids=range(8),
)  # fmt: skip
def test_an_earlier_model_is_checked_like_any_other(tmp_path, change, told):
    values = tiny_values(tmp_path, tmp_path)
    values["model"] |= {"backbone": "test_resnet", "attention_dim": 32, "num_heads": 2, "num_blocks": 2}
    config = TwinVerificationConfig.from_dict(values)
    path = tmp_path / "best_model.pth"
    save_model(path, DCALVerificationModel.from_config(config), config)
    starting = config.override({"model.init_from": str(path)})
    initial_model(starting)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    assert one_line(lambda: initial_model(starting), told).startswith(f"{path}: ")


@pytest.fixture(scope="module")
def stopped(tiny_faces, tmp_path_factory):
    """The folder of a run of one epoch, and its configuration."""
    folder = tmp_path_factory.mktemp("stopped")
    values = tiny_values(tiny_faces, folder)
    values["model"] |= {"backbone": "test_resnet", "attention_dim": 16, "num_heads": 2, "num_blocks": 1}
    values["training"] |= {"num_epochs": 1}
    config = TwinVerificationConfig.from_dict(values)
    train(config)
    return folder, config


def put(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


STATES = [
    *(put("progress", name, value=value)
      for name in ("epoch", "batch", "step", "images", "skipped", "seen", "stale_validations")
      for value in (-1, HUGE, NAN, "1", None, 1.5)),
    put("progress", "best_key", value=3), put("progress", "best_key", value=("a", "b")),
    put("progress", "sums", value=[1]), put("progress", "sums", value={"loss": NAN}), put("progress", "more", value=1),
    put("progress", value=[]), put("began", value="now"), put("began", value=HUGE), put("rng", value=[]),
    put("rng", 0, "cpu", value=torch.zeros(3, dtype=torch.uint8)), put("rng", 0, value=None),
    put("rng", 0, "cpu", value=torch.zeros(5056)), put("people", value=[3]), put("people", value="abc"),
    put("data", value={}), put("data", "train", "images", value=[1]), put("data", "val", "num_images", value="x"),
    put("config", value=3), put("config", "model", value=None), put("config", "model", value={"b": torch.ones(2)}),
    put("model", value={}), put("model", "backbone.position", value=torch.zeros(3)), put("loss", value=None),
    put("model", "backbone.norm.weight", value=torch.full((16,), NAN)), put("unreadable", value=[1]),
    put("optimizer", value={}), put("optimizer", "param_groups", value=[]), put("optimizer", "state", value=[3]),
    put("optimizer", "state", value={999: {}}), put("optimizer", "state", value={0: {"exp_avg": torch.zeros(1)}}),
    put("optimizer", "state", 0, "step", value=torch.tensor(NAN)), put("optimizer", "state", 0, "more", value=1),
    put("optimizer", "state", 0, "exp_avg_sq", value=torch.zeros(7, 7)),
    put("optimizer", "param_groups", 0, "lr", value=NAN), put("optimizer", "param_groups", 0, "betas", value=(2, 3)),
    put("optimizer", "param_groups", 0, "params", value=[0]), put("scaler", value={"scale": NAN}),
    put("best_figures", value=3), put("best_figures", value={"eer": "x"}),
]  # fmt: skip


def test_states_that_say_what_cannot_be(stopped, tmp_path, capsys):
    """One trainer, since each is refused before anything of it is changed."""
    from twin_dcal.data.datamodule import TwinDataModule
    from twin_dcal.training.loop import Trainer
    from twin_dcal.training.state import find_state

    folder, config = stopped
    data = TwinDataModule(config)
    data.setup()
    trainer = Trainer(config, data, tmp_path)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    path = tmp_path / "state.pth"
    for number, change in enumerate(STATES):
        content = torch.load(folder / LAST, weights_only=True)
        change(content)
        torch.save(content, path)
        message = one_line(
            lambda: trainer.checkpoints.resume(find_state(tmp_path, str(path))[1], path), "state.pth: "
        )
        assert message.startswith(f"{path}: "), (number, message)
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())
    trainer.checkpoints.resume(find_state(folder, str(folder / LAST))[1], path)
    assert trainer.progress.epoch == 1


def test_the_command_refuses_a_state_in_one_line(stopped, tmp_path, capsys):
    folder, config = stopped
    content = torch.load(folder / LAST, weights_only=True)
    content["progress"]["step"] = "many"
    torch.save(content, tmp_path / "state.pth")
    config.override({"runtime.output_dir": str(tmp_path / "run")}).save(tmp_path / "config.json")
    arguments = ["--config", str(tmp_path / "config.json"), "--resume", str(tmp_path / "state.pth")]
    assert train_command.main(arguments) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "progress.step" in told[0]


# Exported models


@pytest.fixture(scope="module")
def by_hand():
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from fuzzing import sound

    return sound.by_hand()


def opened(folder, data):
    from twin_dcal.inference.onnx_backend import OnnxBackend

    (folder / "m.onnx").write_bytes(data)
    return OnnxBackend(folder / "m.onnx")


def test_a_byte_that_is_another_one_shows(by_hand, tmp_path):
    sound = opened(tmp_path, by_hand)
    pixels = np.full((1, 32, 32, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(by_hand) - 160, 60):
        damaged = bytearray(by_hand)
        damaged[place] ^= 1 << int(rng.integers(8))
        one_line(
            lambda damaged=bytes(damaged): opened(tmp_path, damaged),
            "damaged, or changed after it was exported",
        )
    for place in range(len(by_hand) - 160, len(by_hand)):  # in the seal itself: found, or without effect
        damaged = bytearray(by_hand)
        damaged[place] ^= 1
        try:
            found = opened(tmp_path, bytes(damaged))
        except ModelError:
            continue
        np.testing.assert_array_equal(found.embed(pixels), sound.embed(pixels))


def test_a_model_of_an_earlier_release_has_no_seal(by_hand, tmp_path):
    from twin_dcal.model_file.onnx_bytes import sealed, unsealed

    bare = unsealed(by_hand)
    assert len(by_hand) - len(bare) == len(sealed(b""))
    assert sealed(bare) == by_hand
    assert unsealed(bare) == bare
    assert opened(tmp_path, bare).source.image_size == 32


def test_operators_without_bounds(by_hand, tmp_path):
    """They make gigabytes of one number, or never end; those that make little of it are models like any other."""
    from random import Random

    from fuzzing import onnx_files

    pixels, told = np.full((1, 32, 32, 3), 90, np.uint8), []
    for seed in range(40):
        try:
            opened(tmp_path, onnx_files.with_bombs(Random(seed), by_hand)).embed(pixels)
        except ModelError as error:
            told.append(str(error))
    assert len(told) > 20
    assert not any("\n" in text or len(text) > 700 for text in told)
    assert any("asks for more memory than a model of its size" in text for text in told)
    assert any("repeats or branches (Loop)" in text for text in told)
