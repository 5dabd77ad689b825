"""The strength of edits found by a network's twin EER."""

import json

import numpy as np
import pytest

from twin_dcal.cli import synth
from twin_dcal.edits import calibrate
from twin_dcal.edits.calibrate import FaceNetwork, calibrated
from twin_dcal.edits.dataset import Settings, generate
from twin_dcal.errors import ConfigError, ModelError

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")


def write_network(path, shape=("N", 3, 16, 16)):
    """All pixels of an input, as an embedding."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Flatten", ["input"], ["embedding"])
    into, out = (
        helper.make_tensor_value_info(*each) for each in (("input", kind, shape), ("embedding", kind, None))
    )
    model = helper.make_model(
        helper.make_graph([node], "net", [into], [out]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture
def network(tmp_path):
    return write_network(tmp_path / "net.onnx")


def test_a_network_sees_rgb_from_minus_one_to_one_and_rows_have_length_one(network):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    embedded = FaceNetwork(network).embed(pixels)
    assert np.allclose(np.linalg.norm(embedded, axis=1), 1)
    wanted = (pixels[7].astype(float).transpose(2, 0, 1).ravel() - 127.5) / 128
    assert np.allclose(embedded[7], wanted / np.linalg.norm(wanted), atol=1e-6)


def test_a_crop_puts_landmarks_on_the_arcface_template(network):
    net = FaceNetwork(network)
    pixels = np.zeros((224, 224, 3), np.uint8)
    landmarks = calibrate.ARCFACE * 1.5 + [20, 30]
    x, y = np.floor(landmarks[2]).astype(int)
    pixels[y - 6 : y + 6, x - 6 : x + 6] = 255
    crop = net.crop(pixels, landmarks)[..., 0].astype(float)
    middle = [(crop.sum(axis=axis) @ (np.arange(16) + 0.5)) / crop.sum() for axis in (0, 1)]
    assert np.allclose(middle, calibrate.ARCFACE[2] / 7, atol=0.25)


@pytest.mark.parametrize("start", [0.2, 1.0, 2.4])
@pytest.mark.parametrize("law", [lambda s: 0.5 - 0.17 * s, lambda s: 0.5 * np.exp(-0.5 * s * s)])
def test_the_search_finds_a_strength_of_the_wanted_eer(law, start):
    strength, found = calibrate._search(law, start, 0.36)
    assert found == law(strength) == pytest.approx(0.36, abs=0.004)


@pytest.fixture
def measured(monkeypatch):
    """Strengths asked for, answered by a law instead of a measurement."""
    asked = []

    def answer(network, sample, settings, strength):
        assert all(len(hands) == 2 for _, hands in sample)
        asked.append(strength)
        return 0.5 - 0.1 * strength

    monkeypatch.setattr(calibrate, "twin_eer", answer)
    return asked


def test_the_command_writes_down_how_strength_was_found_and_resumes_without_measuring(
    faces, network, measured, tmp_path, capsys
):
    command = [
        "--from_faces",
        str(faces),
        "--output",
        str(tmp_path / "set"),
        "--min_images",
        "2",
        "--workers",
        "1",
    ]
    command += ["--calibrate_with", str(network), "--target_eer", "0.41"]
    assert synth.main(command) == 0
    assert "strength 0.91: twin EER 0.409 of net.onnx over 2 people of train" in capsys.readouterr().out
    kept = json.loads((tmp_path / "set" / "edited.json").read_text())["settings"]
    assert kept["strength"] == pytest.approx(0.9, abs=0.04)
    found = kept["calibration"]
    assert (found["network"], found["target_eer"], found["people"]) == ("net.onnx", 0.41, 2)
    assert found["achieved_eer"] == pytest.approx(0.5 - 0.1 * kept["strength"], abs=1e-3)
    count = len(measured)
    assert synth.main([*command, "--resume"]) == 0
    assert len(measured) == count


def test_edits_that_change_nothing_leave_twins_one_person(faces, network):
    """Genuine and twin pairs are then drawn from the same pairs of photographs."""
    people = [person for person in calibrate.read_people(faces, 0) if len(person.paths) >= 6]
    sample = calibrate._sample(people, Settings(min_images=2))
    assert calibrate.twin_eer(FaceNetwork(network), sample, Settings(), 0.0) == pytest.approx(0.5, abs=0.12)


def test_a_target_out_of_reach_is_refused(faces, network, monkeypatch):
    monkeypatch.setattr(calibrate, "twin_eer", lambda *_: 0.45)
    with pytest.raises(ConfigError, match="no strength from"):
        calibrate.calibrate(faces, FaceNetwork(network), Settings(min_images=2), 0.36)
    with pytest.raises(ConfigError, match=r"real twins are at \.34"):
        calibrate.calibrate(faces, FaceNetwork(network), Settings(min_images=2), 0.6)
    with pytest.raises(ConfigError, match="nobody in train"):
        calibrate.calibrate(faces, FaceNetwork(network), Settings(min_images=50), 0.36)


def test_other_files_are_refused_in_one_line(tmp_path, faces):
    with pytest.raises(ConfigError, match="no such file"):
        FaceNetwork(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match="not an ONNX model, or damaged"):
        FaceNetwork(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot load"):
        FaceNetwork(tmp_path / "empty.onnx")
    path = write_network(tmp_path / "elsewhere.onnx", ("N", 3, 16, 16))
    model = onnx.load(path)
    model.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0]))
    weights = model.graph.initializer[0]
    weights.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    weights.data_location = onnx.TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        FaceNetwork(path)
    with pytest.raises(ModelError, match="not \\(N, 3, S, S\\)"):
        FaceNetwork(write_network(tmp_path / "grey.onnx", ("N", 1, 16, 16)))


def test_a_set_of_another_calibration_is_not_gone_on_with(faces, network, measured, tmp_path):
    settings = Settings(min_images=2)
    generate(faces, tmp_path / "set", calibrated(faces, network, settings, 0.41, tmp_path / "set"))
    other = calibrated(faces, network, settings, 0.43, tmp_path / "set")
    with pytest.raises(ConfigError, match="was begun with"):
        generate(faces, tmp_path / "set", other, resume=True)
