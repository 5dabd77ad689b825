"""The drawn stand-in set and the chain of `make quickstart`, shortened."""

import json

import numpy as np
import pytest

from twin_dcal.cli import evaluate, train
from twin_dcal.data.manifest import load_face_set
from twin_dcal.synth import standin


def test_twins_differ_in_their_marks_only_and_photos_are_repeatable():
    one, other = standin.draw_family(np.random.default_rng(3))
    assert np.array_equal(one.shape, other.shape)
    assert np.array_equal(one.colours, other.colours)
    assert not np.array_equal(one.marks, other.marks)
    photos = [standin.photograph(face, 48, np.random.default_rng(5)) for face in (one, one, other)]
    assert photos[0].shape == (48, 48, 3)
    assert np.array_equal(photos[0], photos[1])
    assert not np.array_equal(photos[0], photos[2])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    standin.write_standin(folder, photos=6)
    return folder


def test_the_standard_layout_is_written(drawn):
    counts = {}
    for split in standin.SPLITS:
        faces, _ = load_face_set(drawn, split=split)
        counts[split] = faces.num_twin_families
        assert faces.num_images == 2 * 6 * counts[split]
    assert counts == standin.SPLITS


@pytest.mark.slow
def test_the_quickstart_chain_runs_and_learns_who_is_who(drawn, tmp_path):
    run = ["--output_dir", str(tmp_path), "--runtime.num_workers", "0", "--training.num_epochs", "10"]
    assert train.main(["--config", "quickstart", "--data_dir", str(drawn), *run]) == 0
    given = ["--model", str(tmp_path / "best_model.pth"), "--data_dir", str(drawn), "--num_workers", "0"]
    assert evaluate.main([*given, "--output_dir", str(tmp_path / "evaluation")]) == 0
    report = json.loads((tmp_path / "evaluation" / "evaluation_report.json").read_text())
    assert report["unrelated"]["roc_auc"] > 0.7
