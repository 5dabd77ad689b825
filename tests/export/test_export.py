"""Exported models: the same features as the checkpoint, without torch; what is none of ours is refused in one line."""

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from tiny import tiny_values

from twin_dcal import TwinInferenceEngine
from twin_dcal.checkpoint import save_model
from twin_dcal.cli import export
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError, ManifestError, ModelError
from twin_dcal.evaluation.protocol import Comparisons
from twin_dcal.inference.onnx_backend import OnnxBackend
from twin_dcal.inference.onnx_metadata import preprocessing_in_words
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.templates import TemplateDecision
from twin_dcal.metrics.thresholds import counted
from twin_dcal.model_file.familiarity import NUM_LOOKS, Familiarity
from twin_dcal.model_file.onnx_bytes import sealed, unsealed
from twin_dcal.models.dcal import DCALVerificationModel

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

from twin_dcal.export import flow, graph  # noqa: E402
from twin_dcal.export.checks import compare_auc  # noqa: E402
from twin_dcal.export.faces import drawn, some_of  # noqa: E402

ORIGIN = {"data": "validation", "criterion": "eer", "impostors": "twin", "fmr": 0.25, "fnmr": 0.25}
ENDS = ((0.5, 1), (0.2, 0.9), (-1, 0.6), (0, 1))  # genuine, twin, unrelated, other
CURVE = ErrorCurve.of(
    counted(PairScores(*(np.linspace(*ends, 60, dtype=np.float32) for ends in ENDS))), "drawn"
)
LOOKS = np.random.default_rng(0).normal(0, 0.1, (60, NUM_LOOKS))
TEMPLATE = TemplateDecision(
    "mean", (1, 2), Threshold(0.7, ORIGIN), Platt(9.0, -6.0, 0.5, 10, 10, "drawn"), CURVE
)
FAMILIARITY = Familiarity.of(LOOKS[:30], LOOKS[30:], "numbers")
MODELS = {
    "vit-local": {"glca_pool": "local", "local_ratio": 0.3},
    "vit-cls": {"glca_pool": "cls"},
    "vit-sa": {"branches": ["sa"], "flip_average": True},
    "cnn-local": {
        "backbone": "test_efficientnet", "glca_pool": "local", "attention_dim": 32, "num_heads": 2, "num_blocks": 2,
    },
}  # fmt: skip


def save(path, size=32, **model):
    values = tiny_values(Path("home/data"), Path("home/run"))
    values["model"] |= model
    values["data"]["image_size"] = size
    config = TwinVerificationConfig.from_dict(values)
    torch.manual_seed(0)
    save_model(
        path, DCALVerificationModel.from_config(config), config, threshold=Threshold(0.75, ORIGIN),
        calibration=Platt(8.0, -6.0, 0.5, 10, 10, "drawn"), error_curve=CURVE, familiarity=FAMILIARITY,
        templates=[TEMPLATE],
        training={"epoch": 3, "faces": "drawn", "split": {"train": ["00017a"], "val": [], "test": []}},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """The tiny ViT has 2 blocks instead of 6: tracing takes so long for each. Gives timm's own function."""
    create = timm.create_model

    def fewer_blocks(name, *arguments, **given):
        return create(name, *arguments, **({"depth": 2} if name == "test_vit" else {}), **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", fewer_blocks)
        yield create


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """A checkpoint's graph is traced once for all its exports, which takes most of the time of each."""
    graphs, trace = {}, flow.to_onnx

    def kept(loaded, opset):
        found = graphs.get((loaded.sha256, opset))
        if found is None:
            found = graphs[loaded.sha256, opset] = trace(loaded, opset)
        copy = onnx.ModelProto()
        copy.CopyFrom(found)
        return copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "to_onnx", kept)
        yield trace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("export") / "best_model.pth", **MODELS["vit-local"])


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return sorted(map(str, tiny_faces.glob("test/*/*.png")))


@pytest.fixture(scope="module")
def exported(checkpoint, photos):
    return flow.export_model(checkpoint, checkpoint.with_suffix(".onnx"), images=photos)


@pytest.fixture(scope="module")
def int8(checkpoint, tiny_faces):
    path = checkpoint.with_name("int8.onnx")
    return flow.export_model(checkpoint, path, quantize="int8", val_data=str(tiny_faces))


# The same as the checkpoint


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_the_checkpoint(name, tmp_path, photos, checkpoint, exported):
    path, model = checkpoint, exported.path
    if name != "vit-local":
        path, model = tmp_path / "best_model.pth", tmp_path / "model.onnx"
        save(path, 64 if name.startswith("cnn") else 32, **MODELS[name])
        flow.export_model(path, model, images=photos)
    one, other = (TwinInferenceEngine(each, align="never") for each in (path, model))
    assert other.source.feature_types() == one.source.feature_types()
    for kind in one.source.feature_types():
        for batch_size in (1, 5, len(photos)):
            found = other.extract_features(photos, kind, batch_size=batch_size)
            assert found.dtype == np.float32
            assert np.abs(found - one.extract_features(photos, kind)).max() < 1e-5
    assert other.extract_features([]).shape == (
        0,
        found.shape[1] * (2 if len(one.source.feature_types()) == 3 else 1),
    )


def test_a_decision_is_that_of_the_checkpoint(checkpoint, exported, photos):
    one, other = (
        TwinInferenceEngine(path, align="never").verify_pair(*photos[4:8:3]).to_dict()
        for path in (checkpoint, exported.path)
    )
    for told in (one, other):
        told.pop("elapsed_ms")
    assert other.pop("model")["format"] == "onnx"
    one.pop("model")
    assert set(other) == set(one)
    for key, value in one.items():
        assert other[key] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value), key


def test_several_photographs_are_decided_as_by_the_checkpoint(checkpoint, exported, photos):
    one, other = (TwinInferenceEngine(path, align="never") for path in (checkpoint, exported.path))
    assert [each.to_dict() for each in other.source.templates] == [TEMPLATE.to_dict()]
    for fuse in ("quality", "mean", "max", "scores"):
        expected, found = (engine.verify(photos[:2], photos[7], fuse=fuse) for engine in (one, other))
        assert found.similarity == pytest.approx(expected.similarity, abs=1e-5)
        assert (found.threshold, found.warnings) == (expected.threshold, expected.warnings)
    pair, single = other.verify_pair(*photos[:2]), other.verify([photos[0]], [photos[1]])
    assert pair.similarity == single.similarity, "to the last digit"
    assert other.verify(photos[:2], photos[7]).threshold == 0.7


def test_everything_a_decision_needs_is_in_the_file(checkpoint, exported):
    strings = {each.key: each.value for each in onnx.load(exported.path).metadata_props}
    told = {key: json.loads(text) for key, text in strings.items()}
    assert told["twin_dcal.preprocessing"]["image_size"] == 32
    assert told["twin_dcal.preprocessing"]["in_words"] == preprocessing_in_words(32)
    assert told["twin_dcal.threshold"] == {"value": 0.75, "origin": ORIGIN}
    assert told["twin_dcal.calibration"]["slope"] == 8
    assert told["twin_dcal.error_curve"] == CURVE.to_dict()
    assert told["twin_dcal.familiarity"] == FAMILIARITY.to_dict()
    made = told["twin_dcal.exported"]
    assert made["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert made["float32_check"]["max_difference"] == exported.difference.max_difference < 1e-5
    assert exported.sha256 == hashlib.sha256(exported.path.read_bytes()).hexdigest()
    assert exported.path.stat().st_mode & 0o077 == 0
    source = TwinInferenceEngine(exported.path, align="never").source
    assert source.training == {"epoch": 3, "faces": "drawn"}
    assert source.familiarity.to_dict() == FAMILIARITY.to_dict()


def test_an_exported_model_warns_as_its_checkpoint_does(checkpoint, exported):
    """Of drawn faces, and about pictures unlike its own, in the same numbers."""
    pixels = np.full((32, 32, 3), 200, np.uint8)
    results = [
        TwinInferenceEngine(path, "cpu", align="never").verify_pair(pixels, pixels)
        for path in (checkpoint, exported.path)
    ]
    assert results[0].familiarity == results[1].familiarity
    assert results[0].familiarity[0]["beyond"] is True
    for text in ("knows no real face", "img2: it looks unlike the pictures"):
        assert all(any(text in warning for warning in result.warnings) for result in results)


def test_nothing_of_the_machine_or_the_people_is_in_the_file(exported):
    content = exported.path.read_bytes()
    for told in (
        b"00017a",
        b"home/data",
        b"home/run",
        b"site-packages",
        str(Path(flow.__file__).parent).encode(),
    ):
        assert told not in content


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_bytes(
    checkpoint, exported, photos, tmp_path, traced_once, monkeypatch
):
    monkeypatch.setattr(flow, "to_onnx", traced_once)
    again = flow.export_model(checkpoint, tmp_path / "again.onnx", images=photos)
    assert again.sha256 == exported.sha256


def test_without_torch(exported, photos):
    code = (
        "import sys, numpy as np\n"
        "from twin_dcal import TwinInferenceEngine\n"
        f"engine = TwinInferenceEngine({str(exported.path)!r}, align='never')\n"
        f"engine.verify_pair({photos[0]!r}, {photos[1]!r})\n"
        f"engine.batch_verify([({photos[0]!r}, {photos[1]!r})])\n"
        "loaded = {'torch', 'timm', 'torchvision', 'onnx', 'onnxscript'} & sys.modules.keys()\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("which", ["exported", "int8"])
def test_batches_and_threads_do_not_change_features(which, request, photos):
    engine = TwinInferenceEngine(request.getfixturevalue(which).path, align="never")
    whole = engine.extract_features(photos)
    assert np.array_equal(engine.extract_features(photos), whole)
    assert np.abs(engine.extract_features(photos[::-1], batch_size=5)[::-1] - whole).max() < 1e-5
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda photo: engine.extract_features([photo])[0], photos * 3))
    assert np.abs(np.stack(rows) - np.tile(whole, (3, 1))).max() < 1e-5


def test_a_thousand_pairs_of_a_hundred_pictures_are_a_hundred_embeddings(exported, monkeypatch):
    engine = TwinInferenceEngine(exported.path, align="never")
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8))
    pairs = [(pictures[one], pictures[other]) for one, other in rng.integers(0, 100, (1000, 2))]
    runs = []
    run = engine.backend._run
    monkeypatch.setattr(
        engine.backend, "_run", lambda pixels, kind: runs.append(len(pixels)) or run(pixels, kind)
    )
    assert len(engine.batch_verify(pairs)) == 1000
    assert sum(runs) <= 100


def test_memory_stays_flat(exported):
    code = (
        "import numpy as np, resource\n"
        "from twin_dcal import TwinInferenceEngine\n"
        f"engine = TwinInferenceEngine({str(exported.path)!r}, align='never')\n"
        "pixels = np.zeros((600, 32, 32, 3), np.uint8)\n"
        "engine.backend.embed(pixels[:20])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for size in (600, 1, 37, 600, 3): engine.backend.embed(pixels[:size])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 * 1024  # KiB; 600 images at once would take far more


# int8


def test_int8_is_close(checkpoint, int8, photos):
    assert int8.auc is not None
    assert int8.auc.drop <= flow.MAX_AUC_DROP
    assert int8.auc.num_twin == 2 * 36  # two val families of two people with 6 images
    one, other = (
        TwinInferenceEngine(path, align="never").extract_features(photos) for path in (checkpoint, int8.path)
    )
    cosines = (one * other).sum(1)
    assert np.median(cosines) > 0.999  # not all: which patches the GLCA branch keeps can turn on a hair
    assert int8.auc.min_cosine <= 1
    assert np.abs(one - other).max() > 1e-5  # it is another model
    quantized = {node.op_type for node in onnx.load(int8.path).graph.node}
    assert quantized & {"MatMulInteger", "DynamicQuantizeMatMul"}
    made = json.loads({p.key: p.value for p in onnx.load(int8.path).metadata_props}["twin_dcal.exported"])
    assert made["twin_auc"]["before"] == int8.auc.before


def test_int8_that_tells_twins_apart_worse_is_not_written(checkpoint, tiny_faces, monkeypatch, tmp_path):
    monkeypatch.setattr(flow.faces, "embed_files", spoiled(flow.faces.embed_files))
    with pytest.raises(
        ModelError, match=r"int8 lowers the twin AUC on .* from [01]\.\d+ to 0\.\d+; .* nothing is written"
    ):
        flow.export_model(checkpoint, tmp_path / "m.onnx", quantize="int8", val_data=str(tiny_faces))
    assert list(tmp_path.iterdir()) == []


def spoiled(embed):
    """Features of the second backend asked, int8's, carry noise."""
    asked = []

    def noisy(backend, names):
        features = embed(backend, names)
        asked.append(backend)
        noise = np.random.default_rng(0).normal(0, 1, features.shape) if len(asked) == 2 else 0
        return (features + noise).astype(np.float32)

    return noisy


def test_the_drop_is_that_of_twins():
    people = np.array(["a", "a", "b", "b", "c", "c"])
    families = np.array(["f", "f", "f", "f", "g", "g"])
    comparisons = Comparisons("drawn", list("uvwxyz"), people, families, None, {"name": "all pairs"}, {})
    rows = np.eye(3, dtype=np.float32)
    apart = np.stack([rows[0], rows[0], rows[1], rows[1], rows[2], rows[2]])
    mixed = np.stack([rows[0], rows[1], rows[0], rows[1], rows[2], rows[2]])
    found = compare_auc(comparisons, apart, mixed, Threshold(0.5, {}))
    # Of 3 genuine pairs (1, 0, 0 → one of them c's: 1) and 4 twin pairs, counted by hand.
    assert found.before == 1
    assert found.after == pytest.approx((1 * (2 + 0.5 * 2) + 2 * (0.5 * 2)) / 12)
    assert found.drop == found.before - found.after
    assert found.min_cosine == 0
    assert found.rates == {"fmr": (0, 0.5), "fnmr": (0, pytest.approx(2 / 3))}
    assert (found.low, found.high) == (None, None)
    with pytest.raises(ManifestError, match="no pair of twins"):
        compare_auc(
            Comparisons("x", list("yz"), people[3:5], families[3:5], None, {}, {}), apart[:2], apart[:2], None
        )


# What is refused


@pytest.mark.slow
def test_a_graph_that_differs_from_torch_is_not_written(checkpoint, photos, monkeypatch, tmp_path):
    embed = OnnxBackend.embed
    monkeypatch.setattr(OnnxBackend, "embed", lambda self, *rest: embed(self, *rest) + np.float32(2e-4))
    with pytest.raises(ModelError, match=r"differ from torch's by 0\.0002 .* nothing is written"):
        flow.export_model(checkpoint, tmp_path / "m.onnx", images=photos)
    monkeypatch.setattr(OnnxBackend, "embed", lambda self, *rest: embed(self, *rest) * np.float32("nan"))
    with pytest.raises(ModelError, match="differ from torch's by nan"):
        flow.export_model(checkpoint, tmp_path / "m.onnx", images=photos)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="needs --val_data"):
        flow.export_model(checkpoint, tmp_path / "m.onnx", quantize="int8")
    with pytest.raises(ConfigError, match="opset 9"):
        flow.export_model(checkpoint, tmp_path / "m.onnx", opset=9)
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ConfigError, match=r"needs onnxscript: pip install 'twin-dcal\[onnx\]'"):
        flow.export_model(checkpoint, tmp_path / "m.onnx")


def refused(path, told):
    with pytest.raises(ModelError, match=told) as caught:
        TwinInferenceEngine(path, align="never")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("content", [b"", b"hello there\n" * 40, bytes(range(256)) * 9, b"PK\x03\x04"])
def test_what_is_no_onnx_is_one_line(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    refused(tmp_path / "model.onnx", "not an ONNX model, or damaged")


def test_metadata_that_is_no_text_is_one_line(exported, tmp_path, capfd):
    content = unsealed(exported.path.read_bytes())
    assert content.count(b"preprocessing") == 1
    (tmp_path / "model.onnx").write_bytes(content.replace(b"preprocessing", b"preproc\xf4ssing"))
    refused(tmp_path / "model.onnx", "not an ONNX model, or damaged|without twin_dcal metadata")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_model_is_one_line(exported, tmp_path, share):
    content = exported.path.read_bytes()
    (tmp_path / "model.onnx").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "model.onnx", "not an ONNX model, or damaged|without twin_dcal metadata")


def foreign(weights=None):
    """x + w, of nobody we know; `weights` is where w is kept."""
    from onnx import TensorProto, helper

    w = helper.make_tensor("w", TensorProto.FLOAT, [4], np.ones(4))
    if weights is not None:
        w.ClearField("float_data")
        w.data_location = TensorProto.EXTERNAL
        w.external_data.add(key="location", value=weights)
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    made = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", *([end] for end in ends), [w])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_foreign_model_is_one_line(tmp_path):
    onnx.save(foreign(), tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "without twin_dcal metadata; use a file that dcal-export wrote")


@pytest.mark.parametrize(
    "place", ["../../etc/passwd", "/etc/passwd", "../" * 20 + "etc/passwd", "beside.bin"]
)
def test_weights_in_other_files_are_not_read(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("beside.bin").write_bytes(bytes(16))
    Path("model.onnx").write_bytes(foreign(place).SerializeToString())
    refused("model.onnx", "keeps weights in other files, which are not read")
    refused(tmp_path / "model.onnx", "keeps weights in other files, which are not read")


def test_weights_anywhere_but_in_the_file_are_refused_before_the_runtime_sees_them(exported, monkeypatch):
    """In initializers, sparse ones and attributes; also by the entry that ONNX Runtime takes for an address in memory,
    and by fields whose numbers only protobuf's readers recognise."""
    from onnx import TensorProto, helper

    from twin_dcal.model_file.onnx_bytes import refuse_damaged

    sound = unsealed(exported.path.read_bytes())
    refuse_damaged(sound, "m.onnx")

    def outside(location):
        tensor = helper.make_tensor("w", TensorProto.FLOAT, [4], np.ones(4))
        tensor.ClearField("float_data")
        tensor.external_data.add(key="location", value=location)
        return tensor

    def broken(change):
        model = onnx.load_model_from_string(sound)
        change(model.graph)
        return model.SerializeToString()

    def attribute(graph, **values):
        graph.node.append(helper.make_node("Constant", [], ["unused"], **values))

    memory = outside("*/_ORT_MEM_ADDR_/*")
    memory.data_location = TensorProto.EXTERNAL
    sparse = onnx.SparseTensorProto(values=outside("beside.bin"), dims=[4])
    files = [
        broken(lambda graph: graph.initializer.append(memory)),
        broken(lambda graph: graph.initializer.append(outside("beside.bin"))),
        broken(lambda graph: graph.sparse_initializer.append(sparse)),
        broken(lambda graph: attribute(graph, value=memory)),
        broken(lambda graph: attribute(graph, sparse_value=sparse)),
    ]
    location = memory.SerializeToString()
    assert location.endswith(bytes([0x70, 1]))
    hidden = location[:-2] + bytes(
        [0xF0, 0x80, 0x80, 0x80, 0x70, 1]
    )  # the same field, as protobuf cuts a longer number
    graph = b"\x2a" + bytes([len(hidden)]) + hidden
    files.append(sound + b"\x3a" + bytes([len(graph)]) + graph)
    for content in files:
        with pytest.raises(ModelError, match="keeps weights in other files, which are not read"):
            refuse_damaged(content, "m.onnx")


def test_what_can_be_read_in_part_only_is_refused(exported):
    """Groups of fields are left over from protobuf's first version: its readers pass over them and go on."""
    from twin_dcal.model_file.onnx_bytes import refuse_damaged

    with pytest.raises(ModelError, match="not an ONNX model, or damaged"):
        refuse_damaged(b"\x83\x06\x84\x06" + unsealed(exported.path.read_bytes()), "m.onnx")


@pytest.mark.parametrize(
    "content", [bytes(3 << 20), b"\x08\x01" * (2 << 20), b"\x3a\x80\x80\x80\x02" + b"\x08\x01" * (2 << 20)]
)
def test_what_would_take_long_to_look_at_is_refused(content, monkeypatch):
    """Zeros, as of a file that was cut and filled up, and a file of nothing but the smallest fields."""
    from twin_dcal.model_file import onnx_bytes

    monkeypatch.setattr(onnx_bytes, "_MAX_FIELDS", 10_000)
    numbers, varint = [], onnx_bytes._varint
    monkeypatch.setattr(onnx_bytes, "_varint", lambda *given: numbers.append(1) or varint(*given))
    with pytest.raises(ModelError, match="not an ONNX model, or damaged"):
        onnx_bytes.refuse_damaged(content, "m.onnx")
    assert onnx_bytes.metadata(content) == {}
    assert len(numbers) < 50_000


def test_graphs_in_many_parts_are_looked_at_without_keeping_them(exported):
    """An empty part of the graph is two bytes, and what stands for it in memory a hundred."""
    from twin_dcal.model_file.onnx_bytes import refuse_damaged

    content = unsealed(exported.path.read_bytes()) + b"\x3a\x00" * 100_000
    tracemalloc.start()
    refuse_damaged(content, "m.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def with_metadata(source, path, changed):
    """A copy of the exported file with other values in its metadata; ... removes a key, text is written as it is."""
    model = onnx.load(source.path)
    strings = {each.key: each.value for each in model.metadata_props}
    for key, value in changed.items():
        if value is ...:
            del strings[f"twin_dcal.{key}"]
        else:
            strings[f"twin_dcal.{key}"] = value if isinstance(value, str) else json.dumps(value)
    del strings["twin_dcal.sha256"], model.metadata_props[:]
    for key, value in strings.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(sealed(model.SerializeToString()))
    return path


PIXELS = {"image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
PLATT_TOLD = {
    "slope": 7.0,
    "intercept": -2.0,
    "prior": 0.5,
    "num_genuine": 1,
    "num_impostors": 1,
    "source": "drawn",
}
CURVE_TOLD = {
    "thresholds": [0.1, 0.5, 0.9], "fnmr": [0.0, 0.5, 1.0], "fmr": {"all": [1.0, 0.5, 0.0]}, "num_genuine": 10,
    "num_impostors": {"all": 10}, "data": "drawn",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format_version": 2, "version": '"9.1"'}, r"format version 2; this release reads .*twin_dcal 9\.1"),
        ({"format": '"other"'}, "wrong kind"),
        ({"format_version": "1" * 5000}, "format version|wrong kind"),
        ({"preprocessing": {**PIXELS, "image_size": 64}}, "metadata contradicts its graph: inputs"),
        ({"features": {"combined": 128, "sa": 64, "glca": 65}}, "metadata contradicts its graph: outputs"),
        ({"features": {"combined": 64, "sa": 64}, "branches": ["sa"]}, "metadata contradicts its graph: outputs"),
        ({"branches": ["sa"]}, "features .* of branches"),
        ({"preprocessing": {**PIXELS, "mean": [0.5, 0.5]}}, "wrong kind"),
        ({"preprocessing": {**PIXELS, "image_size": "32"}}, "preprocessing.image_size"),
        ({"preprocessing": '{"image_size": 32, "mean": [NaN, 0, 0], "std": [1, 1, 1]}'}, "preprocessing.mean.0"),
        ({"threshold": {"value": 7, "origin": {}}}, "threshold.value"),
        ({"threshold": '{"value": NaN, "origin": {}}'}, "threshold.value: .*finite"),
        ({"threshold": {"origin": {}}}, "missing or of the wrong kind"),
        # what checkpoints were refused for and exported models were not
        ({"preprocessing": {**PIXELS, "std": [0, 1, 1]}}, "preprocessing.std.0"),
        ({"preprocessing": {**PIXELS, "std": [1e-30, 1, 1]}}, "preprocessing.std.0"),
        ({"preprocessing": {**PIXELS, "mean": [0, 0, 1e30]}}, "preprocessing.mean.2"),
        ({"preprocessing": {**PIXELS, "image_size": 100_000}}, "preprocessing.image_size"),
        ({"preprocessing": {**PIXELS, "landmarks": [[0.5, 0.5]] * 4}}, "preprocessing.landmarks"),
        ({"threshold": {"value": True, "origin": {}}}, "threshold.value"),
        ({"threshold": {"value": 0.5, "origin": {"fmr": "much"}}}, "threshold.origin.fmr"),
        ({"training": {"split": "x"}}, "training.split"),
        ({"calibration": {**PLATT_TOLD, "slope": 1e300}}, "calibration.slope"),
        ({"calibration": {**PLATT_TOLD, "num_genuine": -1}}, "calibration.num_genuine"),
        ({"error_curve": {**CURVE_TOLD, "thresholds": [0.1, 0.5, 1e9]}}, "error_curve.thresholds.2"),
        ({"error_curve": {**CURVE_TOLD, "fnmr": [0.5, 0.0, 1.0]}}, "rates go up and down"),
        ({"fusion": {"split": 64, "share": 0.5, "twins": [1e9, 0, 0], "strangers": None}}, "fusion.twins.0"),
        ({"fusion": {"split": 128, "share": 0.5, "twins": [1, 0, 0], "strangers": None}}, "cuts after 128 of 128"),
        ({"features": {"combined": 10**9, "sa": 64, "glca": 64}}, "no length of a feature"),
        ({"calibration": {"slope": -1}}, "missing or of the wrong kind"),
        ({"error_curve": {}}, "missing or of the wrong kind"),
        ({"exported": {"quantization": "int2"}}, "quantization 'int2'"),
        ({"training": ...}, "missing or of the wrong kind"),
        ({"training": "[" * 100_000}, "missing or of the wrong kind"),
        ({"backbone": "{no json"}, "missing or of the wrong kind"),
        ({"branches": "\0\r\n"}, "missing or of the wrong kind"),
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_is_not_what_an_export_writes_is_one_line(exported, tmp_path, changed, told):
    refused(with_metadata(exported, tmp_path / "model.onnx", changed), told)


def test_devices(exported):
    assert TwinInferenceEngine(exported.path, "cpu").backend.device == "cpu"
    with pytest.raises(ConfigError, match="exported models run on the CPU"):
        TwinInferenceEngine(exported.path, "cuda:1")


def test_onnxruntime_missing_is_one_line(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'twin-dcal\[onnx\]'"):
        TwinInferenceEngine(exported.path, align="never")


@pytest.mark.parametrize("told", ["", "3", "many", "-1", "9" * 30])
def test_threads_from_the_environment(exported, monkeypatch, told):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    options = OnnxBackend(exported.path)._session.get_session_options()
    assert options.intra_op_num_threads == {"3": min(3, os.cpu_count()), "9" * 30: os.cpu_count()}.get(
        told, 0
    )


# Faces, and the command


def test_drawn_faces_are_faces_of_the_size_asked():
    faces = drawn(32, 3)
    assert faces.pixels.shape[1:] == (32, 32, 3)
    assert "drawn SynTwins faces" in faces.told
    assert faces.pixels.std() > 20
    assert drawn(16, 3).pixels.shape[1:] == (16, 16, 3)


def test_faces_are_spread_over_the_list(photos, tmp_path):
    names = [photos[0]] * 63 + [photos[-1]]
    pixels = some_of(names, 32, "there").pixels
    assert len(pixels) == 32
    assert np.array_equal(pixels[0], np.asarray(Image.open(photos[0]).convert("RGB")))
    assert np.array_equal(pixels[-1], np.asarray(Image.open(photos[-1]).convert("RGB")))
    assert len(some_of(photos[:3], 32, "there").pixels) == 3


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "twin_dcal.cli.export", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command(shallow, tiny_faces, tmp_path, monkeypatch):
    monkeypatch.setattr(timm, "create_model", shallow)  # as in the command's own process
    (tmp_path / "run").mkdir()
    path = save(tmp_path / "run" / "best_model.pth", **MODELS["vit-local"])
    done = command("--model", path.parent, "--images", tiny_faces / "val")
    assert done.returncode == 0
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("warning: the model was trained on drawn faces")
    assert "checked on 24 faces of --images: largest difference to torch" in done.stdout
    assert TwinInferenceEngine(path.with_suffix(".onnx")).threshold == 0.75
    done = command("--model", path, "--quantize", "int8", "--val-data", tiny_faces)
    assert done.returncode == 0, done.stderr
    assert "twin AUC on" in done.stdout
    assert "FNMR at the stored threshold" in done.stdout
    assert "Traceback" not in done.stderr
    assert "WARNING" not in done.stderr
    assert (path.parent / "best_model.int8.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "nothing.pth"], "no such model file"),
        (["--model", "x.pth", "--quantize", "int8"], "needs --val_data"),
        (["--model", "x.pth", "--output", "x.pth"], "ends in .onnx"),
        (["--model", "x.pth", "--model.dropout", "1"], "has no option --model.dropout"),
    ],
)
def test_mistakes_are_one_line(arguments, told, capsys):
    assert export.main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_evaluating_says_how(exported):
    from twin_dcal.evaluation.inputs import DataFiles
    from twin_dcal.evaluation.sampling import Sampling
    from twin_dcal.evaluation.systems import open_model

    with pytest.raises(ConfigError, match=r"dcal-extract --model .*, then dcal-evaluate --embeddings"):
        open_model(str(exported.path), "cpu", DataFiles(), Sampling())
