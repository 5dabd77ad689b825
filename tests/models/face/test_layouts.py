"""Files of public face networks: what is read, what is refused and in which words."""

import logging
import sys
import types
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from face_weights import random_table
from safetensors.torch import save_file

from twin_dcal.errors import ModelError
from twin_dcal.models.face import iresnet, layouts
from twin_dcal.models.face.layouts import LAYOUTS, Layout, layout_of, load_face_network
from twin_dcal.models.face.network import FaceInput
from twin_dcal.models.face.weights import read_tensors

SMALL = FaceInput((16, 16))


@pytest.fixture
def tiny(monkeypatch):
    """Layouts 'tiny' (one unit a stage) and 'taller' (two), and no others."""
    known = {}
    for name, depth in (("tiny", 1), ("taller", 2)):
        build = partial(iresnet.IResNet, [depth] * 4, (4, 4, 6, 6), embedding_dim=5, face_input=SMALL)
        known[name] = Layout(name, build, iresnet.public_name, "", "prelu.weight", ("head.",))
    monkeypatch.setattr(layouts, "LAYOUTS", known)
    return known["tiny"]


def table_of(layout, seed=0):
    return random_table({key: shape for key, (_, shape) in layout.names().items()}, seed)


def same(network, table, layout):
    own = network.state_dict()
    return all(torch.equal(own[ours], table[key]) for key, (ours, _) in layout.names().items())


@pytest.mark.parametrize("ending", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
def test_every_kind_of_file_is_read(tmp_path, tiny, ending):
    table = table_of(tiny)
    path = tmp_path / f"face{ending}"
    save_file(table, path) if ending == ".safetensors" else torch.save(table, path)
    assert same(load_face_network("tiny", path), table, tiny)


def test_a_file_from_before_torch_1_6_is_read(tmp_path, tiny):
    table = table_of(tiny)
    torch.save(table, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(load_face_network("tiny", tmp_path / "old.pt"), table, tiny)


def test_half_precision_and_missing_counters_are_read(tmp_path, tiny):
    table = table_of(tiny)
    counters = [key for key in table if key.endswith("num_batches_tracked")]
    half = {key: value.half() for key, value in table.items() if key not in counters}
    torch.save(half, tmp_path / "half.pth")
    network = load_face_network("tiny", tmp_path / "half.pth")
    assert next(network.parameters()).dtype == torch.float32
    assert torch.equal(network.state_dict()["head.fc.weight"], half["fc.weight"].float())


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "net.", "model.net.", "features.", "module.backbone."]
)
def test_a_prefix_is_taken_off_and_told(tmp_path, tiny, prefix, caplog):
    table = table_of(tiny)
    torch.save({prefix + key: value for key, value in table.items()}, tmp_path / "face.pth")
    with caplog.at_level(logging.INFO):
        assert same(load_face_network("tiny", tmp_path / "face.pth"), table, tiny)
    assert f"'{prefix}' taken off their names" in caplog.text


def test_a_prefix_stays_where_taking_it_off_does_not_make_every_name_fit(tmp_path, tiny):
    table = {"model." + key: value for key, value in table_of(tiny).items()}
    torch.save(table | {"decoder.weight": torch.zeros(2)}, tmp_path / "face.pth")
    with pytest.raises(ModelError, match=r"1 are left over \(decoder.weight\)"):
        load_face_network("tiny", tmp_path / "face.pth")


@pytest.mark.parametrize("entry", ["state_dict", "model", "backbone", "state_dict_backbone"])
def test_a_table_inside_a_training_checkpoint_is_found(tmp_path, tiny, entry):
    table = table_of(tiny)
    torch.save({"epoch": 3, entry: table, "optimizer": {"state": {}}}, tmp_path / "face.pth")
    assert same(load_face_network("tiny", tmp_path / "face.pth"), table, tiny)


@pytest.fixture
def foreign(monkeypatch):
    """Makes a class that lives in a module of some name while a file is written, and nowhere once it is read."""

    def make(module, name):
        holder = types.ModuleType(module)
        kind = type(name, (), {"__module__": module, "__init__": lambda self: setattr(self, "value", 3)})
        setattr(holder, name, kind)
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(
                sys.modules, ".".join(parts[:end]), holder if end == len(parts) else types.ModuleType("x")
            )
        return kind

    return make


def test_a_lightning_checkpoint_is_read_without_lightning_and_without_its_head(
    tmp_path, tiny, foreign, monkeypatch, caplog
):
    table = table_of(tiny)
    callback = foreign("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    content = {
        "epoch": 25,
        "pytorch-lightning_version": "1.4.4",
        "callbacks": {callback: {"best_model_score": torch.tensor(0.9)}},
        "hyper_parameters": {"arch": "ir_50", "given": callback()},
        "state_dict": {f"model.{key}": value for key, value in table.items()}
        | {"head.kernel": torch.zeros(5, 9)},
    }
    path = tmp_path / "adaface.ckpt"
    torch.save(content, path)
    for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    with caplog.at_level(logging.INFO):
        assert same(load_face_network("tiny", path), table, tiny)
    assert "1 beside the embedding left out (head.kernel)" in caplog.text
    assert not any(name.startswith("pytorch_lightning") for name in sys.modules)


def test_any_other_object_is_refused_by_name_and_never_made(tmp_path, tiny, foreign):
    thing = foreign("somebodys.package", "Thing")
    torch.save({"state_dict": table_of(tiny), "extra": thing()}, tmp_path / "face.pth")
    made = []
    thing.__setstate__ = lambda self, state: made.append(state)
    with pytest.raises(
        ModelError, match=r"somebodys.package.Thing. Save the network's state_dict\(\) alone"
    ) as error:
        load_face_network("tiny", tmp_path / "face.pth")
    assert not made
    assert "\n" not in str(error.value)


class Command:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_is_refused_unread(tmp_path, tiny, zipped, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Command()}, "face.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError):
        load_face_network("tiny", "face.pth")
    assert not Path("ran").exists()


def test_a_wrong_file_is_one_line_that_names_what_it_resembles(tmp_path, tiny):
    torch.save(table_of(layouts.LAYOUTS["taller"]), tmp_path / "face.pth")
    with pytest.raises(ModelError) as error:
        load_face_network("tiny", tmp_path / "face.pth")
    assert "\n" not in str(error.value)
    assert "not weights of 'tiny': 72 are left over (layer1.1.bn1." in str(error.value)
    assert "They resemble taller (100 % fit), tiny (" in str(error.value)


def test_a_file_of_a_timm_network_is_named(tmp_path, tiny):
    network = timm.create_model("resnet18", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "face.pth")
    with pytest.raises(ModelError, match=r"They resemble timm's resnet18 \(100 % fit\)"):
        load_face_network("tiny", tmp_path / "face.pth")


def test_a_file_that_resembles_nothing_says_so(tmp_path, tiny):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "face.pth")
    with pytest.raises(ModelError, match="They resemble none of the layouts in docs/face_networks.md"):
        load_face_network("tiny", tmp_path / "face.pth")


def test_every_timm_name_that_files_are_compared_with_is_known():
    for mark, names in layouts._TIMM.items():
        for name in names:
            assert isinstance(timm.models.get_pretrained_cfg(name).classifier, str), name
        with torch.device("meta"):
            assert mark in timm.create_model(names[0]).state_dict(), mark


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list, not a table of tensors"),
        ({"epoch": 1, "note": "x"}, "holds no table of tensors; its entries are epoch, note"),
        ({}, "holds no table of tensors; its entries are none"),
    ],
)
def test_a_file_without_a_table_says_what_it_holds(tmp_path, content, message):
    torch.save(content, tmp_path / "face.pth")
    with pytest.raises(ModelError, match=message):
        read_tensors(tmp_path / "face.pth")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_damaged_files_are_one_line(tmp_path, ending):
    path = tmp_path / f"face{ending}"
    path.write_bytes(b"PK\x03\x04 not a weights file at all")
    with pytest.raises(ModelError, match="not a weights file that can be read safely") as error:
        read_tensors(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="no weights file"):
        read_tensors(tmp_path / f"absent{ending}")


def test_an_unknown_layout_names_those_that_are_close():
    with pytest.raises(ModelError, match="no face network layout 'iresnet-50'; did you mean iresnet50"):
        layout_of("iresnet-50")


@pytest.mark.parametrize("kind", LAYOUTS)
def test_names_are_one_to_one(kind):
    names = LAYOUTS[kind].names()
    with torch.device("meta"):
        own = LAYOUTS[kind].build().state_dict()
    assert {ours for ours, _ in names.values()} == set(own)
    assert len(names) == len(own)
    assert LAYOUTS[kind].mark in names
