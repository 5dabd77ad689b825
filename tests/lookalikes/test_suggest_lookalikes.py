"""Look-alikes: the matching against all matchings, files, limits, and what cannot be used."""

import csv
import json
import stat
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from twin_dcal.cli import lookalikes as command
from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.lookalikes import matching
from twin_dcal.lookalikes.matching import Limits, find_lookalikes, identity_means

pytest.importorskip("rustworkx", reason="needs the extra 'lookalikes'")


def unit(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def best_total(cosines, allowed, weight):
    """The largest total weight of disjoint allowed pairs, by trying all."""
    best = 0.0
    pairs = [(i, j) for i, j in combinations(range(len(cosines)), 2) if allowed[i, j]]

    def go(at, used, total):
        nonlocal best
        best = max(best, total)
        for number in range(at, len(pairs)):
            i, j = pairs[number]
            if i not in used and j not in used:
                go(number + 1, used | {i, j}, total + weight(cosines[i, j]))

    go(0, frozenset(), 0.0)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_matching_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    means = unit(rng, 9, 4)
    limits = Limits(neighbours=4, min_cosine=-0.2, max_cosine=0.97)
    found = find_lookalikes([str(n) for n in range(9)], means, limits)
    cosines = means @ means.T
    np.fill_diagonal(cosines, -2)
    rank = (-cosines).argsort(axis=1).argsort(axis=1)
    allowed = (rank < 4) & (rank.T < 4) & (cosines >= -0.2) & (cosines < 0.97)
    total = sum(pair.cosine + 1 for pair in found.pairs)
    assert total == pytest.approx(best_total(cosines, allowed, lambda value: value + 1), abs=1e-5)
    members = [person for pair in found.pairs for person in (pair.one, pair.other)]
    assert len(members) == len(set(members))
    assert all(allowed[int(pair.one), int(pair.other)] for pair in found.pairs)
    assert [pair.cosine for pair in found.pairs] == sorted((p.cosine for p in found.pairs), reverse=True)
    assert find_lookalikes([str(n) for n in range(9)], means, limits, top=2).pairs == found.pairs[:2]


@pytest.mark.parametrize("length", [1, 1e30, 1e-30])
def test_means_are_of_unit_vectors(length):
    vectors = np.array([[10, 0], [0, 1], [3, 3]], np.float32) * np.float32(length)
    ids, means = identity_means(vectors, ["b", "b", "a"])
    assert ids == ["a", "b"]
    assert means == pytest.approx(np.full((2, 2), np.sqrt(0.5)), abs=1e-6)
    with pytest.raises(MetricError, match="'x' cancel out"):
        identity_means(np.array([[1, 0], [-1, 0]], np.float32), ["x", "x"])


def test_blocks_do_not_change_neighbours(monkeypatch):
    means = unit(np.random.default_rng(0), 50, 8)
    whole = np.sort(matching._nearest(means, 5), axis=1)
    monkeypatch.setattr(matching, "_BLOCK", 7)
    assert np.array_equal(np.sort(matching._nearest(means, 5), axis=1), whole)


def test_faiss_finds_the_same_neighbours(monkeypatch):
    pytest.importorskip("faiss", reason="needs faiss-cpu")
    means = unit(np.random.default_rng(0), 60, 8)
    means[5] = means[4]
    exact = np.sort(matching._nearest(means, 6), axis=1)
    monkeypatch.setattr(matching, "MANY", 10)
    assert np.array_equal(np.sort(matching._nearest(means, 6), axis=1), exact)


def test_many_people_without_faiss_is_one_line(monkeypatch):
    import sys

    monkeypatch.setattr(matching, "MANY", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'twin-dcal\[faiss\]'"):
        find_lookalikes([str(n) for n in range(12)], unit(np.random.default_rng(0), 12, 4), Limits(3))


@pytest.fixture
def embeddings(tmp_path):
    """Six people whose means form three close pairs; 'e' and 'f' all but equal."""
    rng = np.random.default_rng(0)
    base = np.eye(6, dtype=np.float32)
    means = {"a": base[0] + 0.1 * base[1], "b": base[0] - 0.1 * base[1], "c": base[2] + 0.5 * base[3], "d": base[2],
             "e": base[4], "f": base[4] + 0.01 * base[5]}  # fmt: skip
    paths, people, vectors = [], [], []
    for person, mean in means.items():
        for number in range(3):
            path = tmp_path / "faces" / person / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), tuple(rng.integers(0, 255, 3).tolist())).save(path)
            paths.append(str(path))
            people.append(person)
            vectors.append(mean + rng.normal(0, 0.001, 6))
    file = tmp_path / "e.npz"
    np.savez(
        file, features=np.array(vectors, np.float32), image_paths=np.array(paths), people=np.array(people)
    )
    return file


def test_the_command_writes_pairs_table_and_sheet(embeddings, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [
        "--embeddings",
        str(embeddings),
        "--output",
        str(output),
        "--max_cosine",
        "0.999",
        "--min-cosine",
        "0.5",
    ]
    assert command.main(arguments) == 0
    told = capsys.readouterr()
    assert "2 pairs of 6 people" in told.out
    assert "1 pair may be one person under two ids" in told.err
    assert json.loads((output / "twin_pairs_infor.json").read_text()) == [["a", "b"], ["c", "d"]]
    rows = list(csv.DictReader((output / "lookalikes.csv").read_text().splitlines()))
    assert [(row["kind"], row["id1"], row["id2"]) for row in rows] == [
        ("pair", "a", "b"), ("pair", "c", "d"), ("suspect", "e", "f")]  # fmt: skip
    assert float(rows[0]["cosine"]) == pytest.approx(0.98, abs=0.01)
    page = (output / "lookalikes.html").read_text()
    assert page.count("data:image/jpeg") == 18
    assert "Perhaps one person under two ids: 1" in page
    assert "<script" not in page
    for path in output.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert command.main(arguments) == 2
    assert "may hold true twins" in capsys.readouterr().err
    assert command.main([*arguments, "--overwrite", "--top", "1"]) == 0
    assert json.loads((output / "twin_pairs_infor.json").read_text()) == [["a", "b"]]


def test_twins_that_a_table_names_are_not_outdone_by_lookalikes(embeddings, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "twin_pairs.csv").write_text("a,b\n")
    assert command.main(["--embeddings", str(embeddings), "--output", str(tmp_path / "out")]) == 2
    assert "twin_pairs.csv exists: it may hold true twins" in capsys.readouterr().err


def test_people_may_come_from_the_data_set(embeddings, tmp_path, capsys):
    with np.load(embeddings) as stored:
        np.savez(tmp_path / "bare.npz", features=stored["features"], image_paths=stored["image_paths"])
    arguments = ["--embeddings", str(tmp_path / "bare.npz"), "--output", str(tmp_path / "out")]
    assert command.main(arguments) == 2
    assert "--data_dir" in capsys.readouterr().err
    assert command.main([*arguments, "--data_dir", str(tmp_path / "faces")]) == 0
    assert len(json.loads((tmp_path / "out" / "twin_pairs_infor.json").read_text())) == 3


def test_what_cannot_be_used_is_one_line(embeddings, tmp_path, capsys):
    for more in (["--neighbours", "0"], ["--min_cosine", "0.9", "--max_cosine", "0.1"], ["--top", "0"],
                 ["--min_cosine", "0.99999", "--max_cosine", "1"], ["--oops.x", "1"]):  # fmt: skip
        assert command.main(["--embeddings", str(embeddings), "--output", str(tmp_path / "out"), *more]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out" / "twin_pairs_infor.json").exists()
    np.savez(tmp_path / "one.npz", features=np.ones((2, 3)), image_paths=["x", "y"], people=["p", "p"])
    assert command.main(["--embeddings", str(tmp_path / "one.npz"), "--output", str(tmp_path / "o")]) == 2
