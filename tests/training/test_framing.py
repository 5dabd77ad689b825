"""How faces lie in crops: measured, named, and carried to the engine."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_scenes import detector, drawn_face  # noqa: F401
from PIL import Image
from tiny_face import EMBEDDING, tiny_face_onnx

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.templates import ARCFACE112, OURS, TEMPLATES
from twin_dcal.inference.aligning import Aligner
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.prepare.align import find_faces, warp
from twin_dcal.prepare.geometry import fit_similarity
from twin_dcal.training import framing
from twin_dcal.training.framing import crop_landmarks

FOREIGN = 0.7 * (OURS - 0.5) + [0.42, 0.47]


@pytest.fixture(scope="module")
def framed(tmp_path_factory, detector):  # noqa: F811
    """Folders of the same drawn faces on our template, ArcFace's, and one of no name."""
    root = tmp_path_factory.mktemp("framed")
    for family in range(8):
        face, points = drawn_face(family, 0)
        wide = np.pad(face, ((60, 60), (60, 60), (0, 0)), mode="edge")
        for name, template, size in (
            ("ours", OURS, 128),
            ("arcface112", ARCFACE112, 112),
            ("foreign", FOREIGN, 160),
        ):
            matrix = fit_similarity(np.asarray(points) + 0.5 + 60, template * size)
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(warp(wide, matrix, size)).save(root / name / f"{family}.png")
    return {folder.name: sorted(folder.glob("*.png")) for folder in root.iterdir()}


def config(template="auto"):
    return TwinVerificationConfig().override({"data.crop_template": template})


@pytest.mark.parametrize(("name", "template"), [("ours", OURS), ("arcface112", ARCFACE112)])
def test_known_templates_are_named(framed, caplog, name, template):
    with caplog.at_level(logging.INFO):
        found = crop_landmarks(config(), framed[name])
    np.testing.assert_array_equal(found, template)
    assert f"template '{name}'" in caplog.text


def test_others_are_measured(framed, caplog):
    with caplog.at_level(logging.INFO):
        found = crop_landmarks(config(), framed["foreign"])
    assert np.sqrt(((found - FOREIGN) ** 2).sum(1).mean()) < 0.025
    assert "the measured places are used" in caplog.text


def test_what_is_told_is_not_measured(framed):
    assert crop_landmarks(config("none"), framed["ours"]) is None
    np.testing.assert_array_equal(crop_landmarks(config("arcface112"), framed["ours"]), ARCFACE112)


def test_too_few_faces_are_said(tmp_path, detector, caplog):  # noqa: F811
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.new("RGB", (64, 64), "grey").save(path)
    np.testing.assert_array_equal(crop_landmarks(config(), paths), OURS)
    assert "in 0 of 3 crops only" in caplog.text


def test_the_network_sees_the_same_face_however_it_was_framed(framed, tmp_path):
    tiny_face_onnx(tmp_path / "tiny.onnx")
    model = DCALVerificationModel("onnx", pretrained=str(tmp_path / "tiny.onnx"), image_size=128,
                                  attention_dim=EMBEDDING, num_heads=2, num_blocks=1)  # fmt: skip

    def seen(name, landmarks):
        model.backbone.frame(landmarks)
        pixels = np.asarray(Image.open(framed[name][0]).convert("RGB").resize((128, 128)))
        (inputs,) = model.backbone.frozen(torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255)
        return inputs[..., 8:-8, 8:-8]

    ours = seen("ours", OURS)
    right, wrong = ((ours - seen("foreign", landmarks)).abs().mean() for landmarks in (FOREIGN, OURS))
    assert right < 0.4 * wrong


def test_the_engines_crops_are_the_models(framed, tmp_path, detector):  # noqa: F811
    """The template is stored with the model, and a photograph is aligned to it."""
    tiny_face_onnx(tmp_path / "tiny.onnx")
    told = TwinVerificationConfig().override(
        {"model.backbone": "onnx", "model.pretrained": str(tmp_path / "tiny.onnx"), "model.attention_dim": EMBEDDING,
         "model.num_heads": 2, "model.num_blocks": 1, "data.image_size": 160}
    )  # fmt: skip
    model = DCALVerificationModel.from_config(told)
    save_model(tmp_path / "ours.pth", model, told)
    assert load_model(tmp_path / "ours.pth").preprocessing.landmarks is None
    model.backbone.frame(FOREIGN)
    save_model(tmp_path / "foreign.pth", model, told)
    loaded = load_model(tmp_path / "foreign.pth")
    np.testing.assert_allclose(loaded.preprocessing.landmarks, FOREIGN, atol=1e-4)
    assert torch.equal(loaded.model.backbone.rows, model.backbone.rows)
    photo = np.asarray(Image.open(framed["ours"][1]).resize((400, 400)))
    crop = Aligner("always", loaded.preprocessing.landmarks)(photo, 160, "photo").pixels
    (face, *_) = find_faces(crop, detector)
    assert np.sqrt(((face.landmarks / 160 - FOREIGN) ** 2).sum(1).mean()) < 0.025


@pytest.mark.parametrize(
    ("spread", "moved", "known", "warns"),
    [
        (0.01, 0.0, True, False),
        (0.01, 0.12, True, True),
        (0.01, 0.12, False, False),
        (0.15, 0.0, False, True),
    ],
    ids=["crops", "photographs that are alike", "crops of another kind", "photographs"],
)
def test_photographs_are_told_from_aligned_crops(monkeypatch, spread, moved, known, warns):
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, spread, (24, 1, 2)) + moved
    places = iter(TEMPLATES["ours"] + shift for shift in shifts)
    monkeypatch.setattr(framing, "_landmarks", lambda paths, size: [next(places) for _ in paths])
    monkeypatch.setattr(framing, "is_available", lambda: True)
    told = framing.framing_warnings([Path("a.jpg")] * 100, 64, TEMPLATES["ours"] if known else None)
    assert [text.split(",")[0] for text in told] == (["the pictures look like photographs"] if warns else [])


def test_without_a_detector_or_with_few_faces_nothing_is_told(monkeypatch):
    monkeypatch.setattr(framing, "is_available", lambda: True)
    monkeypatch.setattr(framing, "_landmarks", lambda paths, size: [])
    assert framing.framing_warnings([Path("a.jpg")] * 100, 64, None) == ()
    monkeypatch.setattr(framing, "is_available", lambda: False)
    assert framing.framing_warnings([Path("a.jpg")] * 100, 64, None) == ()
