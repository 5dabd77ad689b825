"""Checkpoints that say what cannot be: refused in one line, before any memory is taken for what they claim."""

import os
import sys
import zipfile

import pytest
import torch
from tiny import tiny_values

from twin_dcal.checkpoint import load_model, read_tensors, save_model, write_tensors
from twin_dcal.cli import verify
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError, TwinDcalError
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.fitting import refuse_misfit

CNN = {"backbone": "test_resnet", "attention_dim": 32, "num_heads": 2, "num_blocks": 2}
CURVE = {
    "thresholds": [0.1, 0.5, 0.9], "fnmr": [0.0, 0.5, 1.0], "fmr": {"all": [1.0, 0.5, 0.0]}, "num_genuine": 10,
    "num_impostors": {"all": 10}, "data": "drawn",
}  # fmt: skip
PLATT = Platt(7.0, -2.0, 0.5, 10, 10, "drawn").to_dict()
ISOTONIC = {"method": "isotonic", "scores": [0.1, 0.5], "probabilities": [0.2, 0.9], "prior": 0.5,
            "num_genuine": 3, "num_impostors": 4, "source": "drawn"}  # fmt: skip
FUSION = {"split": 64, "share": 0.5, "twins": [1.0, 1.0, 0.0], "strangers": None, "data": ""}
PIXELS = {"image_size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
HUGE, NAN, INF = 10**400, float("nan"), float("inf")


def save(path, **model):
    values = tiny_values(path.parent, path.parent)
    values["model"] |= model
    config = TwinVerificationConfig.from_dict(values)
    torch.manual_seed(0)
    save_model(path, DCALVerificationModel.from_config(config), config, threshold=Threshold(0.5, {}))
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return {"vit": save(folder / "vit.pth"), "cnn": save(folder / "cnn.pth", **CNN)}


@pytest.fixture
def edited(sound, tmp_path):
    """A copy of a sound checkpoint whose content `change` has changed."""

    def edit(change, kind="vit"):
        content = torch.load(sound[kind], weights_only=True)
        content = change(content) or content
        torch.save(content, tmp_path / "model.pth")
        return tmp_path / "model.pth"

    return edit


@pytest.fixture
def rewritten(sound, tmp_path):
    """A copy of a sound checkpoint whose records `change` has changed, as a zip file with the right checksums."""

    def rewrite(change=lambda name, data: data, compression=zipfile.ZIP_STORED, more=()):
        path = tmp_path / "model.pth"
        with zipfile.ZipFile(sound["vit"]) as old, zipfile.ZipFile(path, "w", compression) as new:
            for name in old.namelist():
                new.writestr(name, change(name, old.read(name)))
            for name, data in more:
                new.writestr(name, data)
        return path

    return rewrite


def refused(path, told="", load=load_model):
    with pytest.raises(TwinDcalError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 700
    assert told in message, message


def entry(name, **changes):
    """Replace parts of an entry that has sound values."""
    whole = {"threshold": {"value": 0.5, "origin": {}}, "calibration": PLATT, "error_curve": CURVE,
             "preprocessing": PIXELS, "training": {}, "fusion": FUSION}  # fmt: skip

    def change(content):
        content[name] = {**whole[name], **changes}

    return change


def test_what_is_in_range_is_accepted(edited):
    for change in (
        entry("threshold", value=1), entry("threshold", value=-1.0), entry("threshold", value=1.0000001192092896),
        entry("threshold", origin={"data": "x", "fmr": 0, "anything": [1, {"more": None}]}),
        entry("calibration"), entry("error_curve"), entry("training", split={"train": ["a"]}, figures={"eer": NAN}),
        lambda content: content.update(calibration=ISOTONIC),
        lambda content: [content.pop(name) for name in ("error_curve", "fusion", "face_graph")] and None,
    ):  # fmt: skip
        assert load_model(edited(change)).config.data.image_size == 32


def test_what_a_file_says_of_its_threshold_cannot_draw_on_the_terminal_or_speak_for_the_user(edited):
    said = {
        "data": "\x1b[2Jmine\nSAME PERSON",
        "set_by": ["user"],
        "probability": "sure",
        "criterion": "eer é",
    }
    origin = load_model(edited(entry("threshold", origin=said))).threshold.origin
    assert origin == {"data": r"\x1b[2Jmine\nSAME PERSON", "criterion": "eer é"}


WRONG = [
    *(entry("threshold", value=value) for value in (-1e9, 1e9, 1.01, NAN, INF, HUGE, -HUGE, "0.5", True, None, [0.5])),
    entry("threshold", origin=[]), entry("threshold", origin={"fmr": "much"}), entry("threshold", origin={"fmr": NAN}),
    entry("threshold", origin={"fnmr": HUGE}), entry("threshold", origin={"data": 3}),
    entry("threshold", origin={"pairs": torch.zeros(2)}), entry("threshold", origin={3: 4}),
    *(entry("preprocessing", image_size=value) for value in (-1, 0, INF, NAN, HUGE, 100_000, "32", 32.0, True, None)),
    entry("preprocessing", mean="abc"), entry("preprocessing", mean=("a", "b", "c")),
    entry("preprocessing", mean=(0, 0)),
    entry("preprocessing", mean=(NAN, 0, 0)), entry("preprocessing", mean=(HUGE, 0, 0)),
    entry("preprocessing", mean=(0, 0, 1e30)), entry("preprocessing", std=(0, 1, 1)),
    entry("preprocessing", std=(-1, 1, 1)), entry("preprocessing", std=(1e-30, 1, 1)),
    entry("preprocessing", std=(INF, 1, 1)), entry("preprocessing", std=None),
    entry("preprocessing", landmarks=[(0.5, 0.5)] * 4), entry("preprocessing", landmarks=[(0.5, 0.5)] * 5),
    entry("preprocessing", landmarks=[(0.1 * place, 0.2 * place) for place in range(5)]),
    entry("preprocessing", landmarks=[(0.5, NAN)] * 5),
    entry("preprocessing", image_size=64),
    *(entry("calibration", slope=value) for value in (-1, NAN, HUGE, 1e300, "1", None)),
    *(entry("calibration", intercept=value) for value in (NAN, INF, HUGE, -1e300)),
    *(entry("calibration", prior=value) for value in (0, 1, -1, NAN, HUGE)),
    entry("calibration", num_genuine=HUGE), entry("calibration", num_genuine=-1), entry("calibration", source=3),
    entry("calibration", method="other"), entry("calibration", method=[]), entry("calibration", more=1),
    lambda content: content.update(calibration={**ISOTONIC, "scores": [0.5, 0.1]}),
    lambda content: content.update(calibration={**ISOTONIC, "scores": [0.5, HUGE]}),
    lambda content: content.update(calibration={**ISOTONIC, "probabilities": [0.5, 1.5]}),
    entry("error_curve", thresholds=[0.1, 0.5, HUGE]), entry("error_curve", thresholds=[0.1, 0.5, 1e9]),
    entry("error_curve", thresholds=[0.5, 0.1, 0.9]), entry("error_curve", thresholds=[]),
    entry("error_curve", thresholds="abc"), entry("error_curve", thresholds=[[0.1], [0.5], [0.9]]),
    entry("error_curve", fnmr=[0, 0.5]), entry("error_curve", fnmr=[0, 0.5, 2]), entry("error_curve", fnmr=[0.5, 0, 1]),
    entry("error_curve", fmr={"all": [0, 0.5, 1]}), entry("error_curve", fmr={"twin": [1, 0.5, 0]}),
    entry("error_curve", fmr={}), entry("error_curve", fmr=3), entry("error_curve", num_genuine=HUGE),
    entry("error_curve", num_impostors={"all": NAN}), entry("error_curve", num_impostors={"all": -3}),
    entry("error_curve", data=None),
    *(entry("training", split=value) for value in ("x", ["a"], {"train": "abc"}, {"train": [3]}, {"train": None})),
    entry("training", figures={"eer": torch.zeros(1)}),
    entry("fusion"), entry("fusion", split=0), entry("fusion", split=HUGE), entry("fusion", share=NAN),
    entry("fusion", twins=(HUGE, 0, 0)), entry("fusion", twins=None),
    *(lambda content, name=name, value=value: content.update({name: value})
      for name in ("threshold", "preprocessing", "calibration", "error_curve", "training", "fusion", "config",
                   "familiarity", "weights", "face_graph")
      for value in (3, "text", [1], (), {}, {1: 2}, torch.zeros(3))
      if (name, value) != ("training", {}) and not (name == "training" and value == ())),
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_entries_out_of_range(edited, change):
    refused(edited(change))


def configured(**changes):
    def change(content):
        for key, value in changes.items():
            section, name = key.split("__")
            content["config"][section][name] = value

    return change


SIZES = [
    configured(model__num_blocks=10**7), configured(model__num_blocks=HUGE), configured(model__attention_dim=10**6),
    configured(model__attention_dim=10**9), configured(model__attention_dim=HUGE), configured(data__image_size=10**6),
    configured(data__image_size=HUGE), configured(model__num_heads=HUGE), configured(model__dropout=HUGE),
    configured(training__learning_rate=HUGE), configured(runtime__num_threads=10**12),
    configured(model__feature_strides=[1] * 1000), configured(model__backbone="x" * 10**6),
    configured(model__backbone="vit_base_patch16_224.WRONGTAG"), configured(model__backbone="vit_base_patch16_224"),
    configured(model__backbone="no_such_network"), configured(model__backbone="onnx"),
    # in range, and not what the weights are: a terabyte each
    configured(model__attention_dim=16_384, model__num_blocks=256),
    configured(data__image_size=2048), configured(model__attention_dim=64), configured(model__num_blocks=3),
]  # fmt: skip


@pytest.mark.parametrize("change", SIZES, ids=range(len(SIZES)))
def test_sizes_that_only_the_configuration_claims(edited, change, monkeypatch):
    path = edited(change, "cnn")
    monkeypatch.setattr(
        torch.nn.Module, "load_state_dict", lambda *_, **__: pytest.fail("a network was made")
    )
    refused(path)


def test_the_weights_are_compared_by_name_shape_and_kind(edited):
    def change(key, value):
        return edited(lambda content: content["weights"].update({key: value}))

    refused(change("glca_norm.weight", torch.zeros(65)), "glca_norm.weight is [65] float32, not [64] float32")
    refused(
        change("glca_norm.weight", torch.zeros(64).half()),
        "glca_norm.weight is [64] float16, not [64] float32",
    )
    refused(change("glca_norm.scale", torch.zeros(64)), "1 left over (glca_norm.scale)")
    refused(change("glca_norm.weight", 3), "no table of tensors")
    refused(
        change("glca_norm.weight", torch.full((64,), NAN)), "weights hold NaN or infinity (glca_norm.weight)"
    )
    refused(change("glca_norm.weight", torch.tensor([0.0] * 63 + [-INF])), "hold NaN or infinity")


def test_misfit_of_a_model_without_memory():
    with torch.device("meta"):
        outline = torch.nn.Linear(3, 2)
    refuse_misfit(outline, {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    with pytest.raises(
        ModelError, match=r"1 missing \(bias\); 1 left over \(b\); weight is \[3, 2\] float32"
    ):
        refuse_misfit(outline, {"weight": torch.zeros(3, 2), "b": torch.zeros(2)})


# Records and their structure


def test_a_compressed_record_is_refused_unread(rewritten):
    refused(rewritten(compression=zipfile.ZIP_DEFLATED), "is compressed or encrypted")
    bomb = ("model/data/999", bytes(50_000_000))
    path = rewritten(compression=zipfile.ZIP_DEFLATED, more=[bomb])
    assert path.stat().st_size < 5_000_000
    refused(path, "is compressed or encrypted")


def test_a_record_that_is_there_twice(rewritten):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = rewritten(more=[("archive/data/0", bytes(16))])
    refused(path, "is there twice")


def structure(change):
    return lambda name, data: change(data) if name.endswith("data.pkl") else data


def test_a_tensor_that_claims_more_than_is_there(rewritten):
    sizes = b"K\x00K@\x85"  # begins at 0, 64 numbers
    for claim, told in (
        (b"K\x00J\xff\xff\xff\x7f\x85", "beyond its record"), (b"J\xff\xff\xff\x7fK@\x85", "beyond its record"),
        (b"K\x00J\xff\xff\xff\xff\x85", "no shape"), (b"K\x00G" + bytes(8) + b"\x85", "no shape"),
    ):  # fmt: skip
        refused(rewritten(structure(lambda data, claim=claim: data.replace(sizes, claim, 1))), told)
    # the number of numbers of a storage
    told = "has another size than its tensor"
    refused(rewritten(structure(lambda data: data.replace(b"K@tq", b"M\x00\x40tq", 1))), told)
    refused(rewritten(lambda name, data: data[:-4] if name.endswith("data/0") else data), told)


def test_many_tensors_in_one_record(edited):
    """A file of a few bytes that claims a large network: every tensor is a view of the same numbers."""

    def change(content):
        largest = max(content["weights"].values(), key=torch.numel)
        numbers = largest.flatten()
        content["weights"] = {key: numbers[: value.numel()].view(value.shape) if value.dtype == torch.float32 else value
                              for key, value in content["weights"].items()}  # fmt: skip

    refused(edited(change), "its tensors are larger than the file")
    refused(edited(lambda content: content["weights"].update({"glca_norm.weight": torch.zeros(1).expand(10**9)})),
            "its tensors are larger than the file")  # fmt: skip


def test_values_that_contain_themselves_or_many_others(edited, tmp_path):
    around: list = []
    around.append(around)
    refused(edited(lambda content: content.update(training=around)), "contains itself")
    laughs: list = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    refused(edited(lambda content: content.update(training=laughs)), "too large")
    deep: list = []
    for _ in range(400):
        deep = [deep]
    refused(edited(lambda content: content.update(training={"x": deep})), "too deep")


def test_states_of_a_run_are_read_the_same_way(tmp_path):
    path = tmp_path / "last.pth"
    write_tensors(
        path, {"format": "f", "format_version": 1, "x": (torch.ones(2), [torch.zeros(3)]), "y": {1: 2.5}}
    )
    content = read_tensors(path, "f", 1)
    assert torch.equal(content["x"][0], torch.ones(2))
    assert content["y"] == {1: 2.5}
    content["x"][0].add_(1)  # its own memory
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"format_version", b"format_versioN"))
    refused(path, "checksum", lambda path: read_tensors(path, "f", 1))


@pytest.mark.parametrize("content", [b"", b"PK", b"{}", b'{"threshold": 0.5}', b"PK\x05\x06" + bytes(18)])
@pytest.mark.parametrize("name", ["model.pth", "model.json", "model"])
def test_what_is_no_checkpoint_says_so(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "not a checkpoint, or damaged")


def test_a_file_is_read_once(sound):
    opened, watching = [], [True]

    def note(event, arguments):
        if watching and event == "open" and arguments[0] == os.fspath(sound["vit"]):
            opened.append(arguments)

    sys.addaudithook(note)
    try:
        load_model(sound["vit"])
    finally:
        watching.clear()
    assert len(opened) == 1


@pytest.mark.parametrize(
    "change",
    [
        entry("threshold", value=HUGE),
        entry("preprocessing", image_size=-1),
        configured(model__attention_dim=10**6),
    ],
    ids=["threshold", "image size", "width"],
)
def test_verify_decides_nothing(edited, change, capsys):
    assert verify.main(["--model", str(edited(change)), "--img1", "a.png", "--img2", "a.png"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
