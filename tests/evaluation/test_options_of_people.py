"""dcal-evaluate --weights, --max_images_per_person and --metadata, from the command line to the files."""

import json

import pytest
from made_faces import faces, uneven

from twin_dcal.cli import evaluate as command
from twin_dcal.evaluation.embedding_files import write_embeddings


@pytest.fixture
def embeddings(tmp_path):
    comparisons, vectors = uneven(12, large=14)
    path = tmp_path / "e.npz"
    write_embeddings(path, comparisons, vectors, {})
    return path


def run(folder, *arguments):
    assert command.main([*arguments, "--threshold", "0.55", "--output_dir", str(folder)]) == 0
    return json.loads((folder / "evaluation_report.json").read_text())


def test_limited_images_are_the_same_of_embeddings_and_of_scores(embeddings, tmp_path, capsys):
    scores = tmp_path / "s.csv"
    whole = run(tmp_path / "whole", "--embeddings", str(embeddings), "--save_scores", str(scores))
    limited = ("--max_images_per_person", "3", "--weights", "people")
    one = run(tmp_path / "one", "--embeddings", str(embeddings), *limited)
    other = run(tmp_path / "other", "--scores", str(scores), *limited)
    assert one["protocol"]["max_images_per_person"] == other["protocol"]["max_images_per_person"] == 3
    assert one["protocol"]["of_images"] == whole["protocol"]["num_images"]
    assert one["protocol"]["num_images"] < whole["protocol"]["num_images"]
    for key in ("weights", "sentence", "behind", "twin", "unrelated", "all"):
        assert one[key] == other[key], key
    assert one["behind"]["genuine"]["people"]["largest"]["share"] < 0.1
    assert whole["behind"]["genuine"]["people"]["largest"]["share"] > 0.3
    assert (whole["weights"], one["weights"]) == ("pairs", "people")
    assert "Rates are means over people" in capsys.readouterr().out


def test_metadata_beside_the_data_and_named(embeddings, tmp_path, capsys):
    comparisons, vectors = faces(14)
    home = tmp_path / "data"
    home.mkdir()
    write_embeddings(home / "e.npz", comparisons, vectors, {})
    people = sorted(set(comparisons.people.tolist()))
    text = "person,zygosity\n" + "".join(
        f"{person},{'mz' if person < 'F07' else 'dz'}\n" for person in people
    )
    (home / "metadata.csv").write_text(text)
    found = run(tmp_path / "one", "--embeddings", str(home / "e.npz"), "--visualize", "--no_images")
    assert found["metadata"]["path"] == str(home / "metadata.csv")
    first = found["breakdowns"][0]
    assert [cell["cell"] for cell in first["cells"]] == ["fraternal", "identical"]
    assert (
        sum(cell["num_errors"] for cell in first["cells"]) == found["twin"]["confusion"]["num_false_matches"]
    )
    page = (tmp_path / "one" / "report.html").read_text()
    assert "FMR of twin pairs by zygosity" in page
    assert str(home) not in page
    (tmp_path / "other.csv").write_text(text)
    (home / "metadata.csv").unlink()
    again = run(
        tmp_path / "two", "--embeddings", str(home / "e.npz"), "--metadata", str(tmp_path / "other.csv")
    )
    assert again["breakdowns"] == found["breakdowns"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max_images_per_person", "1"], "must be at least 2"),
        (["--max_images_per_person", "0"], "must be at least 2"),
        (["--weights", "people", "--folds", "3"], "exclude each other"),
        (["--metadata", "nowhere.csv"], "no such file"),
    ],
)
def test_what_cannot_be_is_one_line(embeddings, tmp_path, arguments, reason, capsys):
    given = ["--embeddings", str(embeddings), "--threshold", "0.5", "--output_dir", str(tmp_path / "r")]
    assert command.main([*given, *arguments]) == 2
    assert reason in capsys.readouterr().err
