"""Lists of evaluation pairs in their three forms, and what is refused in them."""

import numpy as np
import pytest

from twin_dcal.data.pairs import is_pairs_file, read_pairs
from twin_dcal.errors import ManifestError

ROWS = [("a/a_0.jpg", "a/a_1.jpg", 1), ("a/a_0.jpg", "b/b_0.jpg", 0), ("b/b_0.jpg", "a/a_1.jpg", 0)]


@pytest.fixture
def folder(tmp_path, people):
    people(tmp_path, {"a": 2, "b": 2})
    return tmp_path


def write(folder, form, write_json, rows=ROWS):
    if form == "txt":
        path = folder / "pairs.txt"
        lines = ["# a comment", "", *(f"{one}  {other} {label}" for one, other, label in rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path
    dicts = [{"img1": one, "img2": other, "label": label} for one, other, label in rows]
    values = {"dicts": dicts, "lists": {"pairs": [list(row) for row in rows]}}[form]
    return write_json(folder / "pairs.json", values)


@pytest.mark.parametrize("form", ["txt", "dicts", "lists"])
def test_each_form(folder, write_json, form):
    path = write(folder, form, write_json)
    pairs = read_pairs(path)
    assert [p.relative_to(folder).as_posix() for p in pairs.paths] == ["a/a_0.jpg", "a/a_1.jpg", "b/b_0.jpg"]
    assert pairs.first.tolist() == [0, 0, 2]
    assert pairs.second.tolist() == [1, 2, 1]
    assert pairs.same.tolist() == [True, False, False]
    assert pairs.same.dtype == bool
    assert pairs.first.dtype == np.int64
    assert pairs.num_pairs == 3
    assert pairs.findings == ()
    assert is_pairs_file(path)


def test_tabs_allow_blanks_in_paths(tmp_path, people):
    people(tmp_path, {"my friend": 1, "b": 1})
    path = tmp_path / "pairs.txt"
    path.write_text("my friend/my friend_0.jpg\tb/b_0.jpg\t0\n")
    assert read_pairs(path).paths[0].name == "my friend_0.jpg"
    path.write_text("my friend/my friend_0.jpg b/b_0.jpg 0\n")
    with pytest.raises(ManifestError, match=r"pairs\.txt, line 1: 5 columns, not 3.*with tabs"):
        read_pairs(path)


@pytest.mark.parametrize("prefix", ["/kaggle/input/x/", "C:\\x\\"])
def test_foreign_paths_are_rooted(tmp_path, folder, write_json, prefix):
    rows = [(f"{prefix}a/a_0.jpg", f"{prefix}b/b_0.jpg", 0)]
    path = write(tmp_path / "elsewhere", "dicts", write_json, rows)
    with pytest.raises(
        ManifestError, match="no such file. Restore it, delete the entry or set the data root"
    ):
        read_pairs(path)
    assert read_pairs(path, data_root=folder).paths == (folder / "a/a_0.jpg", folder / "b/b_0.jpg")


def test_a_pair_listed_twice_is_kept_once_in_either_order(folder, write_json):
    rows = [*ROWS, ("b/b_0.jpg", "a/a_0.jpg", 0)]
    pairs = read_pairs(write(folder, "lists", write_json, rows))
    assert pairs.num_pairs == 3
    assert pairs.findings == ("1 pair left out, listed before: entry 3",)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_contradicting_labels_are_refused(folder, write_json, order):
    row = ("a/a_0.jpg", "a/a_1.jpg")[order]
    path = write(folder, "lists", write_json, [*ROWS, (*row, 0)])
    with pytest.raises(ManifestError, match=r"pairs\.json, entry 3: the label contradicts .*, entry 0"):
        read_pairs(path)


@pytest.mark.parametrize("label", [2, "perhaps", None, 0.5, "sam", [1], ""])
def test_bad_labels(folder, write_json, label):
    path = write(folder, "dicts", write_json, [("a/a_0.jpg", "b/b_0.jpg", label)])
    with pytest.raises(
        ManifestError,
        match=r"pairs\.json, entry 0: label .* is unknown; write 1, true, genuine, same or yes for",
    ):
        read_pairs(path)


@pytest.mark.parametrize(
    ("label", "same"),
    [
        *((label, True) for label in (True, 1, 1.0, "1", "True", " genuine")),
        *((label, False) for label in (False, 0, -1, "0", "-1", "FALSE", "impostor")),
    ],
)
def test_labels_as_text_or_truth(folder, write_json, label, same):
    pairs = read_pairs(write(folder, "dicts", write_json, [("a/a_0.jpg", "b/b_0.jpg", label)]))
    assert pairs.same.tolist() == [same]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": ["x.jpg"]}, "not a list of pairs"),
        ([], r"no pairs in it\. Write"),
        ([["90018", "90019"]], r"entry 0: not a pair with a label, this is \[\"90018\", \"90019\"\]"),
        ([{"img1": "a/a_0.jpg", "img2": "b/b_0.jpg"}], "entry 0: not a pair with a label"),
        ([["a/a_0.jpg", 3, 1]], "entry 0: not an image path, this is 3"),
        ([["a/a_0.jpg", "a/a_0.jpg", 1]], "entry 0: image a/a_0.jpg is paired with itself"),
        ([["a/a_0.jpg", "b/../a/a_0.jpg", 1]], "entry 0: .* is paired with itself"),
        ([["a/a_0.jpg", "a/gone.jpg", 1]], r"entry 0: image .*gone\.jpg: no such file"),
        ([["a/a_0.jpg", "b", 1]], "entry 0: image .*b: a folder, not a file"),
    ],
)
def test_refused_json(folder, write_json, values, message):
    path = write_json(folder / "pairs.json", values)
    with pytest.raises(ManifestError, match=rf"pairs\.json.*{message}"):
        read_pairs(path)


def test_damaged_images_are_refused(folder, write_json, jpeg):
    (folder / "b" / "b_0.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    with pytest.raises(ManifestError, match=r"entry 1: image .*b_0\.jpg: truncated or damaged"):
        read_pairs(write(folder, "lists", write_json))


def test_files_that_cannot_be_read(tmp_path):
    for name in ("gone.txt", "gone.json"):
        with pytest.raises(ManifestError, match=f"{name}: no such file"):
            read_pairs(tmp_path / name)
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe a b 1")
    with pytest.raises(ManifestError, match=r"latin\.txt: not UTF-8 text \(byte 0\)"):
        read_pairs(tmp_path / "latin.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ManifestError, match=r"folder\.txt: cannot be read"):
        read_pairs(tmp_path / "folder.txt")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], True),
        ([["a", "b", 1]], True),
        ({"pairs": [["a", "b", 1]]}, True),
        ({"pairs": []}, False),
        ({"90004": ["a.jpg"]}, False),
        ({"pairs": ["a.jpg"]}, False),  # a person called pairs
        (3, False),
    ],
)
def test_is_pairs_file(tmp_path, write_json, values, expected):
    assert is_pairs_file(write_json(tmp_path / "x.json", values)) is expected


def test_is_pairs_file_of_other_things(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    assert not is_pairs_file(tmp_path)
    assert not is_pairs_file(tmp_path / "broken.json")
    assert not is_pairs_file(tmp_path / "gone.json")
    assert is_pairs_file(tmp_path / "gone.txt"), "so that reading it says that it is gone"
