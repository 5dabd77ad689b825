"""embeddings.npz: ours comes back whole, other systems' are read, hostile ones are one clear line."""

import json
import pickle
import re
import stat
import zipfile

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.embedding_files import FORMAT_VERSION, read_embeddings, write_embeddings
from twin_dcal.evaluation.protocol import Comparisons, sample_unrelated

ABOUT = {"model": {"sha256": "ab" * 32}, "feature_type": "combined", "preprocessing": {"image_size": 32}}


@pytest.fixture
def foreign(tmp_path):
    """Writes an .npz as another system would."""

    def write(**arrays):
        path = tmp_path / "foreign.npz"
        np.savez(path, **arrays)
        return path

    return write


def one_line(path):
    with pytest.raises(MetricError) as error:
        read_embeddings(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_ours_come_back_whole(tmp_path):
    comparisons, vectors = faces(3)
    path = tmp_path / "new" / "embeddings.npz"
    write_embeddings(path, comparisons, vectors, ABOUT)
    found = read_embeddings(path)
    assert np.array_equal(found.vectors, vectors)
    assert found.vectors.dtype == np.float32
    assert list(found.names) == comparisons.names
    assert found.people.tolist() == comparisons.people.tolist()
    assert found.families.tolist() == comparisons.families.tolist()
    assert found.pairs is None
    again = found.comparisons()
    assert (again.protocol, again.source) == ({"name": "all pairs"}, str(path))
    assert {key: found.metadata[key] for key in ABOUT} == ABOUT
    assert found.metadata["format_version"] == FORMAT_VERSION
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with np.load(path, allow_pickle=False) as stored:
        assert {"features", "image_paths", "ids", "people", "families", "metadata"} <= set(stored.files)
        assert stored["ids"][:2].tolist() == ["F00a/0.jpg", "F00a/1.jpg"]
        assert str(stored["feature_type"]) == "combined"
        json.loads(str(stored["metadata"]))


def test_listed_pairs_come_back(tmp_path):
    comparisons, vectors = faces(4)
    sampled = sample_unrelated(comparisons, 20, 0)
    write_embeddings(tmp_path / "e.npz", sampled, vectors, {})
    again = read_embeddings(tmp_path / "e.npz").comparisons()
    for name in ("first", "second", "kinds"):
        assert np.array_equal(getattr(again.pairs, name), getattr(sampled.pairs, name))
    assert again.protocol == sampled.protocol


def test_without_identities_there_are_none(tmp_path):
    write_embeddings(
        tmp_path / "e.npz", Comparisons("x", ["a.jpg", "b.jpg"], None, None, None, {}), np.eye(2), {}
    )
    found = read_embeddings(tmp_path / "e.npz")
    assert found.people is found.families is None


@pytest.mark.parametrize("vectors_key", ["features", "embeddings", "vectors"])
@pytest.mark.parametrize("names_key", ["image_paths", "paths", "ids"])
def test_other_systems_are_read(foreign, vectors_key, names_key):
    path = foreign(
        **{vectors_key: np.eye(3, 5, dtype=np.float64) * 1e-200, names_key: np.array(["a", "b", "ü"])}
    )
    found = read_embeddings(path)
    assert found.names == ("a", "b", "ü")
    assert np.array_equal(found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True), np.eye(3, 5))
    assert found.metadata == {}
    assert found.comparisons().protocol == {"name": "all pairs"}


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.float32])
def test_any_number_will_do(foreign, dtype):
    found = read_embeddings(foreign(features=np.array([[1, 2], [3, 4]], dtype), ids=np.array([17, 18])))
    assert found.vectors.tolist() == [[1, 2], [3, 4]]
    assert found.names == ("17", "18")


def test_byte_strings_are_text(foreign):
    assert read_embeddings(foreign(features=np.eye(2), paths=np.array([b"x.jpg", b"y.jpg"]))).names == (
        "x.jpg", "y.jpg",
    )  # fmt: skip


class Payload:
    def __reduce__(self):
        return (open, ("pwned.txt", "w"))


def test_a_pickle_is_refused_unread(foreign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = foreign(features=np.eye(1), image_paths=np.array([Payload()], dtype=object))
    assert one_line(path).startswith(
        "'image_paths' holds pickled objects, which can run code and are not read"
    )
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Payload()))
    assert "not an .npz file" in one_line(bare)
    assert not (tmp_path / "pwned.txt").exists()


def test_damaged_files(tmp_path):
    comparisons, vectors = faces(2)
    path = tmp_path / "e.npz"
    assert one_line(path) == "no such file of embeddings"
    write_embeddings(path, comparisons, vectors, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in one_line(path)
    path.write_bytes(content[: len(content) // 2])
    assert "not an .npz file" in one_line(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", b"not numpy")
        archive.writestr("image_paths.npy", b"not numpy")
    assert "not a list of text" in one_line(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": ["a", "b"]}, r"no features or embeddings or vectors.*it has ids"),
        ({"features": np.eye(2)}, r"no image_paths or paths or ids"),
        ({"features": np.eye(2), "ids": ["a"]}, r"2 vectors but 1 name\."),
        ({"features": np.zeros(3), "ids": ["a", "b", "c"]}, r"of shape \(3,\)"),
        ({"features": np.empty((0, 4)), "ids": np.array([], str)}, r"shape \(0, 4\)"),
        ({"features": np.array([["x"]]), "ids": ["a"]}, r"not numbers"),
        ({"features": np.eye(2), "ids": [["a", "b"]]}, r"not a list of text"),
        ({"features": np.eye(2), "ids": [0.5, 1.5]}, r"not a list of text"),
        ({"features": [[1, np.nan], [1, 1]], "ids": ["a", "b"]}, r"NaN or infinity for 1 image, first: a\."),
        (
            {"features": [[1, 1], [1, -np.inf]], "ids": ["a", "b"]},
            r"NaN or infinity for 1 image, first: b\.",
        ),
        ({"features": [[1, 1], [0, 0]], "ids": ["a", "b"]}, r"a zero vector for 1 image, first: b\."),
        ({"features": np.eye(3), "ids": ["a", "b", "a"]}, r"'a' is in it twice"),
        ({"features": np.eye(2), "ids": ["a", "b"], "people": ["p"]}, r"1 people for 2 images"),
        (
            {
                "features": np.eye(2),
                "ids": ["a", "b"],
                "pair_first": [0],
                "pair_second": [2],
                "pair_kinds": [0],
            },
            r"do not fit 2 images",
        ),
        (
            {
                "features": np.eye(2),
                "ids": ["a", "b"],
                "pair_first": [0],
                "pair_second": [1],
                "pair_kinds": [9],
            },
            r"do not fit 2 images",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(foreign, arrays, message):
    assert re.search(message, one_line(foreign(**{key: np.asarray(value) for key, value in arrays.items()})))


def test_a_later_format_is_refused_by_its_number(foreign):
    about = json.dumps({"format": "twin_dcal.embeddings", "format_version": 99})
    path = foreign(features=np.eye(2), ids=np.array(["a", "b"]), metadata=np.array(about))
    assert "format version 99; this release reads version 1" in one_line(path)
    for other in ('{"format": "other", "format_version": 99}', "[1]", "not json"):
        read = read_embeddings(
            foreign(features=np.eye(2), ids=np.array(["a", "b"]), metadata=np.array(other))
        )
        assert read.metadata == {}
