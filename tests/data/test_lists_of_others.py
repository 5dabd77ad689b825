"""Lists of pairs as other tools write them: tables with any separator, LFW's own, paths of another system."""

import pytest

from twin_dcal.data.pairs import is_pairs_file, read_pairs
from twin_dcal.errors import ManifestError

A0, A1, B0 = "a/a_0.jpg", "a/a_1.jpg", "b/b_0.jpg"


@pytest.fixture
def folder(tmp_path, people):
    people(tmp_path, {"a": 2, "b": 2})
    return tmp_path


def read(folder, name, text, encoding="utf-8", **options):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    assert is_pairs_file(path)
    pairs = read_pairs(path, **options)
    names = [p.relative_to(folder).as_posix() for p in pairs.paths]
    return [(names[a], names[b], s) for a, b, s in zip(pairs.first, pairs.second, pairs.same, strict=True)]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.txt"])
@pytest.mark.parametrize("separator", [",", ", ", ";", "\t"])
@pytest.mark.parametrize("heading", [True, False])
def test_tables_with_and_without_headings(folder, name, separator, heading):
    rows = [["img1", "IMG2", " Label"]] * heading + [[A0, A1, "True"], [A0, B0, "-1"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    assert read(folder, name, text, "utf-8-sig") == [(A0, A1, True), (A0, B0, False)]


def test_headings_may_stand_in_any_order_beside_others(folder):
    text = f"label,fold,img2,img1\ngenuine,1,{A1},{A0}\nimpostor,2,{B0},{A0}\n"
    assert read(folder, "p.csv", text) == [(A0, A1, True), (A0, B0, False)]
    with pytest.raises(ManifestError, match=r"p\.csv, line 2: 3 columns, not 4"):
        read(folder, "p.csv", f"label,fold,img2,img1\n1,{A1},{A0}\n")


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.txt"])
@pytest.mark.parametrize(
    "heading", ["bild_a;bild_b;gleich", "a,b,same", "one\ttwo\tlabel", "img1 img2 truth"]
)
def test_a_heading_that_is_not_known_is_called_that(folder, name, heading):
    with pytest.raises(ManifestError) as told:
        read(folder, name, f"{heading}\n{A0};{A1};1\n")
    assert f"{name}, line 1: not a known heading: " in str(told.value)
    assert "img1,img2,label" in str(told.value)
    with pytest.raises(ManifestError, match="line 1: label .* is unknown"):
        read(folder, "q.csv", f"{A0},{A1},perhaps\n")


@pytest.mark.parametrize(("same", "different"), [("same", "Different"), ("YES", "no"), ("ja", "nein")])
def test_labels_in_words(folder, same, different):
    text = f"img1;img2;label\n{A0};{A1};{same}\n{A0};{B0};{different}\n"
    assert read(folder, "p.csv", text) == [(A0, A1, True), (A0, B0, False)]


def test_a_comma_in_a_path_of_a_text_list_is_no_separator(tmp_path, people):
    people(tmp_path, {"x,y": 2})
    assert read(tmp_path, "p.txt", "x,y/x,y_0.jpg x,y/x,y_1.jpg 1\n") == [
        ("x,y/x,y_0.jpg", "x,y/x,y_1.jpg", True)
    ]


def test_blanks_belong_to_paths_in_tables(tmp_path, people):
    people(tmp_path, {"my friend": 2})
    expected = [("my friend/my friend_0.jpg", "my friend/my friend_1.jpg", True)]
    assert read(tmp_path, "p.csv", 'my friend/my friend_0.jpg, "my friend/my friend_1.jpg",  1\n') == expected


def test_backslashes_of_another_system(folder):
    text = f"{A0} {A1} 1\n".replace("/", "\\")
    assert read(folder, "p.txt", text) == [(A0, A1, True)]


@pytest.fixture
def lfw(tmp_path, jpeg):
    for person, number in (("Ann_Lee", 1), ("Ann_Lee", 12), ("Bo", 3)):
        path = tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\t1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\t3\n", [True, False]),
        ("1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\t3\n", [True, False]),
    ],
    ids=["pairs.txt", "pairsDevTest.txt"],
)
@pytest.mark.parametrize("named", [False, True])
def test_lfw_as_it_is(lfw, text, expected, named):
    path = lfw / "pairs.txt"
    path.write_text(text)
    pairs = read_pairs(path, data_root=lfw / "lfw" if named else None)
    assert pairs.same.tolist() == expected
    assert [p.name for p in pairs.paths] == ["Ann_Lee_0001.jpg", "Ann_Lee_0012.jpg", "Bo_0003.jpg"]
    assert pairs.people == ("Ann_Lee", "Ann_Lee", "Bo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2\t1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\t3\n", "2 pairs, but its first line says 4"),
        ("1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\n", "line 3: not `Name n1 n2`"),
        ("1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\t" + "9" * 5000 + "\n", "line 3: not `Name n1 n2`"),
        ("9" * 5000 + "\nAnn_Lee\t1\t12\n", "line 1"),
        ("1\nAnn_Lee\t1\t12\nAnn_Lee\t1\t" + "x" * 300 + "\t4\n", r"line 3: image .*xxx.* cannot be opened"),
        ("1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\t4\n", r"line 3: image .*Bo/Bo_0004\.jpg: no such file"),
    ],
)
def test_damaged_lfw_lists(lfw, text, message):
    path = lfw / "pairs.txt"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_pairs(path)
