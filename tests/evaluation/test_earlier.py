"""One folder, one evaluation: another's files are moved, the same one's are replaced."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_faces import faces
from PIL import Image

from twin_dcal.cli import evaluate as command
from twin_dcal.errors import ConfigError
from twin_dcal.evaluation.earlier import make_room
from twin_dcal.evaluation.embedding_files import write_embeddings

EXAMPLE = "examples/false_match_001_twin_+0.900_a_b.jpg"
OURS = {"evaluation_report.json", "report.html", "embeddings.npz", "visualizations/det.png", EXAMPLE}
MINE = {"mine.txt", "visualizations/mine.png", "examples/mine.jpg"}
ABOUT = {"model": {"path": "m.pth", "sha256": "a" * 64}, "feature_type": "combined", "test_data": "test"}


@pytest.fixture
def folder(tmp_path):
    for name in (*OURS, *MINE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("earlier")
    (tmp_path / "evaluation_report.json").write_text(json.dumps({**ABOUT, "roc_auc": 0.5}))
    return tmp_path


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "other",
    [
        {"test_data": "val"},
        {"compared_sha256": "c"},
        {"model": {"sha256": "b" * 64}},
        {"feature_type": "sa"},
        {"model": None},
    ],
)
def test_another_evaluation_is_moved_whole_and_that_is_said(folder, other, caplog):
    with caplog.at_level("INFO"):
        moved = make_room(folder, {**ABOUT, **other})
    assert files_below(moved) == OURS
    assert files_below(folder) == MINE | {str(path.relative_to(folder)) for path in moved.rglob("*.*")}
    assert json.loads((moved / "evaluation_report.json").read_text())["roc_auc"] == 0.5
    assert f"held another evaluation, which is in {moved} now" in caplog.text


def test_of_the_same_evaluation_only_what_would_stay_beside_it_goes(folder):
    assert make_room(folder, {**ABOUT, "model": {"path": "elsewhere", "sha256": "a" * 64}}) is None
    assert files_below(folder) == {"evaluation_report.json", "embeddings.npz"} | MINE


def test_what_a_link_leads_to_stays(folder, tmp_path_factory):
    photos = tmp_path_factory.mktemp("photos")
    (photos / Path(EXAMPLE).name).write_text("a photograph")
    (folder / EXAMPLE).unlink()
    (folder / "examples" / "mine.jpg").unlink()
    (folder / "examples").rmdir()
    (folder / "examples").symlink_to(photos)
    make_room(folder, ABOUT)
    make_room(folder, {**ABOUT, "test_data": "val"})
    assert files_below(photos) == {Path(EXAMPLE).name}


def test_a_move_that_was_stopped_goes_on_in_the_same_folder(folder, monkeypatch):
    rename, moved = Path.rename, []

    def stopped(path, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(rename(path, target))

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_room(folder, {**ABOUT, "test_data": "val"})
    monkeypatch.undo()
    target = make_room(folder, {**ABOUT, "test_data": "val"})
    assert files_below(target) == OURS
    assert list((folder / "earlier").iterdir()) == [target]


def test_files_without_a_report_are_moved_but_not_what_is_evaluated(folder):
    (folder / "evaluation_report.json").unlink()
    (folder / "people.csv").write_text("mine")
    given = {"embeddings": {"path": str(folder / "embeddings.npz"), "sha256": "c"}}
    target = make_room(folder, given)
    assert files_below(target) == OURS - {"evaluation_report.json", "embeddings.npz"} | {"people.csv"}
    assert (folder / "embeddings.npz").is_file()


def test_a_file_where_earlier_evaluations_go_is_one_line(folder):
    (folder / "earlier").write_text("")
    with pytest.raises(ConfigError, match="earlier: not a folder, and earlier evaluations go there"):
        make_room(folder, {**ABOUT, "test_data": "val"})


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
        comparisons, vectors = faces(8, images_each=3, seed=seed)
        write_embeddings(tmp_path / name, comparisons, vectors, {})
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


def test_fewer_pairs_of_the_same_data_do_not_replace_all_of_them(tmp_path, caplog):
    comparisons, vectors = faces(8, images_each=3)
    names = [str(tmp_path / Path(name).parent.name / Path(name).name) for name in comparisons.names]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(name)
    write_embeddings(tmp_path / "one.npz", replace(comparisons, names=names), vectors, {})
    pairs, home = tmp_path / "pairs.csv", tmp_path / "results"
    given = ["--embeddings", str(tmp_path / "one.npz"), "--num_replicates", "0", "--output_dir", str(home)]

    def listed(number):
        rows = [
            f"{names[row]},{names[row + 1]},1\n{names[row]},{names[row + 6]},0" for row in range(0, number, 3)
        ]
        pairs.write_text("img1,img2,label\n" + "\n".join(rows) + "\n")
        assert command.main([*given, "--test_data", str(pairs)]) == 0
        return json.loads((home / "evaluation_report.json").read_text())["all"]["num_genuine"]

    def kept():
        return [
            json.loads(report.read_text())["all"]["num_genuine"] for report in home.glob("earlier/*/*.json")
        ]

    assert (listed(42), kept()) == (14, [])
    assert (listed(42), kept()) == (14, []), "the same again replaces its own"
    assert (listed(6), kept()) == (2, [14]), "the list is called as before"
    assert command.main(given) == 0
    assert command.main([*given, "--max_images_per_person", "2"]) == 0
    assert sorted(kept()) == [2, 14, 48]


def test_comparisons_are_kept_apart(tmp_path):
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        comparisons, vectors = faces(8, images_each=3, seed=seed)
        write_embeddings(tmp_path / f"{name}.npz", comparisons, vectors, {})
    home = tmp_path / "results"

    def compared(*names):
        given = [str(tmp_path / f"{name}.npz") for name in names]
        options = ["--num_replicates", "0", "--output_dir", str(home), "--visualize", "--no_images"]
        assert command.main(["--compare", *given, *options]) == 0
        return (home / "comparison.json").read_text()

    first = compared("one", "two")
    assert compared("one", "two") == first
    assert not (home / "earlier").exists()
    assert compared("one", "three") != first
    [earlier] = (home / "earlier").iterdir()
    assert (earlier / "comparison.json").read_text() == first
    assert {"comparison.html", "comparison.md", "visualizations/comparison_det.png"} <= files_below(earlier)
    assert (home / "visualizations" / "comparison_det.png").is_file()
