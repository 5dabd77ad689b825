"""One folder, one evaluation: another's files are moved, the same one's are replaced."""

import json

import pytest
from made_faces import faces

from twin_dcal.cli import evaluate as command
from twin_dcal.evaluation.earlier import make_room
from twin_dcal.evaluation.embedding_files import write_embeddings

ABOUT = {"model": {"path": "m.pth", "sha256": "a" * 64}, "feature_type": "combined", "test_data": "test"}


@pytest.fixture
def folder(tmp_path):
    for name in ("evaluation_report.json", "report.html", "embeddings.npz", "visualizations/det.png", "mine.txt",
                 "visualizations/mine.txt", "examples/worst.jpg"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("earlier")
    (tmp_path / "evaluation_report.json").write_text(json.dumps({**ABOUT, "roc_auc": 0.5}))
    return tmp_path


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "other",
    [{"test_data": "val"}, {"model": {"sha256": "b" * 64}}, {"feature_type": "sa"}, {"model": None}],
)
def test_another_evaluation_is_moved_whole_and_that_is_said(folder, other, caplog):
    before = files_below(folder) - {"mine.txt"}
    with caplog.at_level("INFO"):
        moved = make_room(folder, {**ABOUT, **other})
    assert files_below(moved) == before
    assert files_below(folder) == {"mine.txt"} | {
        str(path.relative_to(folder)) for path in moved.rglob("*.*")
    }
    assert json.loads((moved / "evaluation_report.json").read_text())["roc_auc"] == 0.5
    assert f"held another evaluation, which is in {moved} now" in caplog.text


def test_of_the_same_evaluation_only_what_would_stay_beside_it_goes(folder):
    assert make_room(folder, {**ABOUT, "model": {"path": "elsewhere", "sha256": "a" * 64}}) is None
    assert files_below(folder) == {
        "evaluation_report.json", "embeddings.npz", "mine.txt", "visualizations/mine.txt",
    }  # fmt: skip


def test_two_moved_within_one_second_have_folders_of_their_own(folder):
    report = (folder / "evaluation_report.json").read_text()
    first = make_room(folder, {**ABOUT, "test_data": "val"})
    (folder / "evaluation_report.json").write_text("not JSON")
    second = make_room(folder, ABOUT)
    assert first != second
    assert (first / "evaluation_report.json").read_text() == report
    assert (second / "evaluation_report.json").read_text() == "not JSON"


def test_an_empty_folder_needs_no_room(tmp_path):
    assert make_room(tmp_path / "new", ABOUT) is None
    assert not (tmp_path / "new").exists()


def test_the_command_keeps_evaluations_apart(tmp_path):
    for seed, name in ((1, "one.npz"), (2, "two.npz")):
        what, vectors = faces(8, images_each=3, seed=seed)
        write_embeddings(tmp_path / name, what, vectors, {})
    home = tmp_path / "results"
    given = ["--num_replicates", "0", "--output_dir", str(home)]
    assert command.main(["--embeddings", str(tmp_path / "one.npz"), *given, "--visualize"]) == 0
    first = (home / "evaluation_report.json").read_text()
    assert command.main(["--embeddings", str(tmp_path / "two.npz"), *given]) == 0
    [earlier] = (home / "earlier").iterdir()
    assert (earlier / "evaluation_report.json").read_text() == first
    assert (earlier / "report.html").is_file()
    assert not (home / "report.html").exists()
    assert (home / "evaluation_report.json").read_text() != first
