"""Inference checkpoints: everything comes back, and damaged, foreign or hostile files are refused in one line."""

import hashlib
import pickle
import stat
from pathlib import Path

import pytest
import torch

from twin_dcal.checkpoint import (
    FORMAT,
    FORMAT_VERSION,
    load_model,
    read_tensors,
    save_model,
    store_decision,
    write_tensors,
)
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError, TwinDcalError
from twin_dcal.files import replacing, write_text
from twin_dcal.metrics.calibration import Isotonic, Platt
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.models.dcal import DCALVerificationModel

VALUES = {
    "model": {"backbone": "test_vit", "pretrained": False, "glca_pool": "local", "dropout": 0.2},
    "data": {"image_size": 32},
}
CONFIG = TwinVerificationConfig.from_dict(VALUES)
THRESHOLD = Threshold(
    0.4375, {"criterion": "eer", "impostors": "twin", "fmr": 0.1, "pairs": [3, 4], "note": None}
)
CALIBRATION = Platt(7.3, -2.1, 0.5, 120, 340, "val")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DCALVerificationModel.from_config(CONFIG)


@pytest.fixture
def path(model, tmp_path):
    save_model(
        tmp_path / "model.pth", model, CONFIG,
        threshold=THRESHOLD, calibration=CALIBRATION, training={"epoch": 3, "figures": {"eer": 0.25}},
    )  # fmt: skip
    return tmp_path / "model.pth"


def refusal(path):
    with pytest.raises(ModelError) as error:
        load_model(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def edited(path, **changes):
    """The checkpoint with some entries replaced, or left out where None."""
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def test_embeddings_are_the_same_bits(model, path):
    loaded = load_model(path)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        wanted = model.eval().embed(images)
        assert torch.equal(loaded.model.embed(images), wanted)
    assert wanted.std() > 0.01
    assert not loaded.model.training
    state = model.state_dict()
    assert loaded.model.state_dict().keys() == state.keys()


def test_what_belongs_to_a_decision_comes_back(path):
    loaded = load_model(path)
    assert loaded.threshold == THRESHOLD
    assert loaded.calibration == CALIBRATION
    assert loaded.calibration([0.3]) == CALIBRATION([0.3])
    assert loaded.config == CONFIG
    assert loaded.training == {"epoch": 3, "figures": {"eer": 0.25}}
    assert loaded.preprocessing.image_size == 32
    assert loaded.preprocessing.mean == loaded.model.backbone.mean


def test_the_digest_is_the_files(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_model(path).sha256 == digest
    assert load_model(edited(path, twin_dcal="9.9.9")).sha256 != digest


def test_threshold_and_calibration_may_be_absent(model, tmp_path):
    save_model(tmp_path / "bare.pth", model, CONFIG)
    loaded = load_model(tmp_path / "bare.pth")
    assert loaded.threshold is None
    assert loaded.calibration is None
    assert loaded.training == {}


def test_loading_needs_no_pretrained_file(model, tmp_path):
    config = CONFIG.override({"model.pretrained": "/nowhere/weights.safetensors"})
    save_model(tmp_path / "model.pth", model, config)
    assert load_model(tmp_path / "model.pth").config.model.pretrained == "/nowhere/weights.safetensors"


@pytest.mark.parametrize(
    "value",
    [Path("x"), {1, 2}, torch.float32, object(), b"bytes"],
    ids=["a path", "a set", "a dtype", "an object", "bytes"],
)
def test_objects_are_refused_when_written(model, tmp_path, value):
    with pytest.raises(
        TypeError, match=r"tensors and plain values; content\['training'\]\['best'\]\[1\] is a"
    ):
        save_model(tmp_path / "model.pth", model, CONFIG, training={"best": [1, value]})
    assert not list(tmp_path.iterdir())


# Files that are not checkpoints


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.pth") == "no such checkpoint"
    assert refusal(tmp_path) == "no such checkpoint"


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", bytes(range(256)) * 40, b"PK\x03\x04" + b"\0" * 99]
)
def test_garbage(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"a": torch.zeros(2)}}, f"expected a '{FORMAT}' file, found 'no format name'"),
        ({"format": "twin_dcal.training"}, f"expected a '{FORMAT}' file, found 'twin_dcal.training'"),
        ({"format": torch.zeros(2)}, f"expected a '{FORMAT}' file, found tensor"),
        ([1, 2], f"expected a '{FORMAT}' file, found 'list'"),
        (torch.zeros(3), f"expected a '{FORMAT}' file, found 'Tensor'"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    assert refusal(tmp_path / "x.pth").startswith(message)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, None, "1"])
def test_another_format_version_names_the_release_that_wrote_it(path, version):
    message = refusal(edited(path, format_version=version, twin_dcal="9.9.9"))
    assert message == (
        f"format version {version}; this release reads version {FORMAT_VERSION}. It was written by twin_dcal 9.9.9."
    )


def test_a_readers_kind_and_version_are_checked(tmp_path):
    write_tensors(tmp_path / "x.pth", {"format": "a", "format_version": 2, "x": torch.ones(2)})
    assert torch.equal(read_tensors(tmp_path / "x.pth", "a", 2)["x"], torch.ones(2))
    with pytest.raises(ModelError, match="expected a 'b' file, found 'a'"):
        read_tensors(tmp_path / "x.pth", "b", 2)
    with pytest.raises(ModelError, match="format version 2; this release reads version 1"):
        read_tensors(tmp_path / "x.pth", "a", 1)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_truncated_files(path, share):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refusal(path)


def flipped_places(raw):
    """A byte inside the pickled structure, inside a weight, and in the table of contents."""
    structure = raw.index(b"format_version")
    return {
        "structure": structure,
        "table": raw.rindex(b"PK\x01\x02") + 1,
        "end": raw.rindex(b"PK\x05\x06") + 1,
    }


@pytest.mark.parametrize("place", ["structure", "table", "end"])
def test_flipped_bytes_in_the_structure(path, place):
    raw = bytearray(path.read_bytes())
    raw[flipped_places(bytes(raw))[place]] ^= 0xFF
    path.write_bytes(bytes(raw))
    refusal(path)


def test_flipped_bytes_in_the_weights(model, path):
    raw = bytearray(path.read_bytes())
    weight = model.backbone.blocks[0].attn.qkv.weight.detach().numpy().tobytes()
    raw[raw.index(weight) + 3] ^= 0xFF
    path.write_bytes(bytes(raw))
    refusal(path)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_code_is_refused_and_not_run(path, tmp_path):
    marker = tmp_path / "ran"
    content = torch.load(path, weights_only=True) | {"training": Hostile(marker)}
    torch.save(content, path)
    assert refusal(path) == "holds something other than tensors and plain values; not read"
    path.write_bytes(pickle.dumps(content))
    refusal(path)
    path.write_bytes(pickle.dumps(Hostile(marker)))
    refusal(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists()  # it would have


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.backbone": "test_resnet", "data.image_size": 64}, "missing (backbone.cls_token"),
        ({"model.branches": ["sa"]}, "glca_block"),
        ({"data.image_size": 64}, "pos_embed"),
    ],
)
def test_weights_that_do_not_fit_the_configuration(path, changes, named):
    config = CONFIG.override(changes).model_dump(mode="json")
    message = refusal(edited(path, config=config))
    assert message.startswith("its weights do not fit its configuration: ")
    assert named in message


def test_a_left_out_and_an_extra_weight(path):
    weights = torch.load(path, weights_only=True)["weights"]
    removed = weights.pop("glca_norm.weight")
    assert "glca_norm.weight" in refusal(edited(path, weights=weights))
    weights |= {"glca_norm.weight": removed, "glca_norm.scale": removed}
    assert "glca_norm.scale" in refusal(edited(path, weights=weights))


@pytest.mark.parametrize("config", [{"model": {"bakbone": "x"}}, {"training": {"batch_size": -1}}])
def test_a_configuration_that_is_none(path, config):
    with pytest.raises(TwinDcalError) as error:
        load_model(edited(path, config=config))
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None}, {"weights": None}, {"preprocessing": None}, {"training": None}, {"config": 3},
        {"weights": 3}, {"preprocessing": {}}, {"threshold": 3}, {"threshold": {"value": 1.0}},
    ],
    ids=str,
)  # fmt: skip
def test_entries_left_out_or_of_the_wrong_kind(path, changes):
    with pytest.raises(TwinDcalError):
        load_model(edited(path, **changes))


# Writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_complete(tmp_path):
    path = tmp_path / "new" / "deep" / "file.bin"
    with replacing(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with replacing(path) as file:
        file.write(b"tw")
        assert path.read_bytes() == b"one"
        file.write(b"o")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as file:
            file.write(b"new, but only half of")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_files_are_for_their_owner(model, tmp_path):
    save_model(tmp_path / "model.pth", model, CONFIG)
    write_text(tmp_path / "text.json", "Größe")
    assert (tmp_path / "text.json").read_text(encoding="utf-8") == "Größe"
    for name in names(tmp_path):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert names(tmp_path) == ["model.pth", "text.json"]


def test_a_failed_save_leaves_the_old_checkpoint(model, path, monkeypatch):
    before = path.read_bytes()

    def fail(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(path, model, CONFIG)
    assert path.read_bytes() == before
    assert names(path.parent) == ["model.pth"]


def test_a_stored_decision_leaves_everything_else_bit_for_bit(path):
    before = torch.load(path, weights_only=True)
    isotonic = Isotonic((0.1, 0.5), (0.2, 0.9), 0.5, 30, 40, "val")
    origin = {"data": "val", "criterion": "far=0.01"}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    store_decision(path, Threshold(0.625, origin), isotonic, None, expected_sha256=sha256)
    after = torch.load(path, weights_only=True)
    assert list(after) == list(before)
    assert list(after["weights"]) == list(before["weights"])
    for key, tensor in before["weights"].items():
        assert after["weights"][key].dtype == tensor.dtype
        assert after["weights"][key].numpy().tobytes() == tensor.numpy().tobytes()
    for key in set(before) - {"weights", "threshold", "calibration"}:
        assert after[key] == before[key]
    loaded = load_model(path)
    assert (loaded.threshold, loaded.calibration) == (Threshold(0.625, origin), isotonic)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("threshold", "calibration"),
    [
        (Threshold(float("nan"), {"data": "val"}), None),
        (Threshold(-1e9, {"data": "val"}), None),
        (Threshold(0.5, {"data": "val", "fmr": 2.0}), None),
        (Threshold(0.5, {"data": "val"}), Platt(float("inf"), 0.0, 0.5, 30, 40, "val")),
    ],
)
def test_a_decision_that_no_reader_accepts_is_not_stored(path, threshold, calibration):
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelError, match=rf"^{path}: "):
        store_decision(path, threshold, calibration, None, expected_sha256=sha256)
    assert path.read_bytes() == content


def test_a_decision_is_not_stored_in_another_file_than_was_evaluated(path):
    content = path.read_bytes()
    with pytest.raises(ModelError, match="it has changed since it was evaluated"):
        store_decision(path, THRESHOLD, None, None, expected_sha256="0" * 64)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_of_an_earlier_release_has_a_platt_calibration(path):
    values = CALIBRATION.to_dict()
    del values["method"]
    assert load_model(edited(path, calibration=values)).calibration == CALIBRATION
