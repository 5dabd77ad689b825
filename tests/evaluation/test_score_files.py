"""Scores as files: ours come back to the last bit, other systems' are read, faults are named by line."""

import re
import stat
import sys

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation import score_columns, score_files
from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.evaluation.score_columns import UNSTATED
from twin_dcal.evaluation.score_files import is_scores_file, read_scores, write_scores
from twin_dcal.metrics.pair_stream import ListedPairs
from twin_dcal.metrics.pairs import PairKind

FULL = "img1,img2,kind,score,person1,person2,family1,family2"


@pytest.fixture
def csv_file(tmp_path):
    def write(*lines, name="s.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return path

    return write


def one_line(path, **options):
    with pytest.raises(MetricError) as error:
        read_scores(path, **options)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ours_come_back_to_the_last_bit(tmp_path, suffix, monkeypatch):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    monkeypatch.setattr(score_files, "ROWS_AT_ONCE", 7)  # several parts of a block
    comparisons, vectors = faces(3, images_each=2)
    comparisons.names[0] = 'a "quoted", name\nof two lines.jpg'
    source = pair_source(comparisons, vectors)
    path = tmp_path / "new" / f"scores.{suffix}"
    write_scores(path, source, comparisons)
    table = read_scores(path)
    (block,) = source.blocks()
    assert table.scores.dtype == np.float32
    assert np.array_equal(table.scores, block.score)
    assert np.array_equal(table.kinds, block.kind)
    for rows, expected in ((table.first, block.first), (table.second, block.second)):
        assert [table.names[row] for row in rows] == [comparisons.names[row] for row in expected]
    person_of = dict(zip(comparisons.names, comparisons.people.tolist(), strict=True))
    family_of = dict(zip(comparisons.names, comparisons.families.tolist(), strict=True))
    assert table.people.tolist() == [person_of[name] for name in table.names]
    assert table.families.tolist() == [family_of[name] for name in table.names]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_64_bit_scores_stay_exact(tmp_path):
    scores = [0.1, 1 / 3, 12345.678901234567]
    comparisons = Comparisons("x", ["a", "b", "c"], None, None, None, {})
    write_scores(tmp_path / "s.csv", ListedPairs(scores, [0, 3, 3], [0, 0, 1], [1, 2, 2]), comparisons)
    table = read_scores(tmp_path / "s.csv")
    assert table.scores.tolist() == scores
    assert table.people is table.families is None
    assert table.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER, PairKind.OTHER]


def test_what_other_systems_write(csv_file):
    path = csv_file(
        "img2, label,score,img1,model",
        "b.jpg,1,0.5,a.jpg,x",
        "",
        "c.jpg,0,-1e-3,a.jpg,x",
        encoding="utf-8-sig",
    )
    table = read_scores(path)
    assert table.names == ("a.jpg", "b.jpg", "c.jpg")
    assert (table.first.tolist(), table.second.tolist()) == ([0, 0], [1, 2])
    assert table.scores.tolist() == [0.5, -1e-3]
    assert table.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER]
    assert table.lines.tolist() == [2, 4]
    kinds = read_scores(
        csv_file("img1,img2,kind,score", "a,b,Genuine,1", "a,c,twin,0", "a,d,unrelated,0", "a,e,impostor,0")
    )
    assert kinds.kinds.tolist() == [0, 1, 2, 3]
    assert read_scores(csv_file("img1,img2,score", "a,b,1")).kinds.tolist() == [UNSTATED]


@pytest.mark.parametrize("separator", [",", ", ", ";", "; ", "\t"])
def test_cells_are_what_stands_between_separators(csv_file, separator):
    rows = [
        ("Img1", "IMG2", "Label", "SCORE"), ("a.jpg", "b.jpg", "True", "0.5"), (" a.jpg", "c.jpg ", "impostor", "0.25"),
        ("c.jpg", "b.jpg", "-1", "0.1"),
    ]  # fmt: skip
    table = read_scores(csv_file(*map(separator.join, rows)))
    assert table.names == ("a.jpg", "b.jpg", "c.jpg")
    assert table.scores.tolist() == [0.5, 0.25, pytest.approx(0.1)]
    assert table.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER, PairKind.OTHER]


def test_blanks_after_commas_hide_no_contradiction(csv_file):
    path = csv_file("img1, img2, label, score", "a.jpg, b.jpg, 1, 0.5", "a.jpg,b.jpg,0,0.5")
    assert "line 3: the label contradicts line 2" in one_line(path)


def test_parquet_of_other_systems(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    path = tmp_path / "s.parquet"
    columns = {
        "img1": ["a", "a"],
        "img2": ["b", "c"],
        "label": [True, False],
        "score": [0.25, 0.125],
        "n": [1, None],
    }
    parquet.write_table(pyarrow.table(columns), path)
    table = read_scores(path)
    assert table.scores.tolist() == [0.25, 0.125]
    assert table.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER]
    parquet.write_table(pyarrow.table({**columns, "score": [0.25, None]}), path)
    assert read_scores(path).failed.tolist() == [False, True]
    path.write_bytes(path.read_bytes()[:50])
    assert ": not a parquet file, or damaged" in one_line(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "s.parquet"
    path.write_bytes(b"PAR1")
    assert one_line(path) == ": parquet needs pyarrow: pip install 'twin-dcal[parquet]'. Or use a .csv file."
    comparisons = Comparisons("x", ["a", "b"], None, None, None, {})
    with pytest.raises(MetricError, match=r"pip install 'twin-dcal\[parquet\]'"):
        write_scores(tmp_path / "out.parquet", ListedPairs([0.5], [0], [0], [1]), comparisons)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r": an empty file"),
        (["img1,img2,label,score"], r": no pairs in it"),
        (["img1,img2,label", "a,b,1"], r": no column score among img1, img2, label"),
        (["a,b,1,0.5"], r": no column img1, img2, score among"),
        (["img1,img2,score,person1", "a,b,1,p"], r": columns person1 and person2 come together"),
        (["img1,img2,label,score", "a,b,1,0.5", "a,c"], r", line 3: 2 columns, not 4"),
        (["img1,img2,label,score", "a,b,1,0.5", ",c,0,0.5"], r", line 3: img1 is empty"),
        (
            ["img1,img2,label,score", "a,b,1,inf"],
            r", line 2: score inf is not a finite number; leave it empty",
        ),
        (["img1,img2,label,score", "a,b,1,", "a,c,0,NaN"], r": no pair has a score\. Columns: img1"),
        (
            ["img1,img2,label,score", "a,b,1,0.5", "b,a,1,"],
            r", line 3: the score contradicts .* \(0\.5 and none\)",
        ),
        (["img1,img2,label,score,fold", "a,b,1,0.5,"], r", line 2: fold is empty"),
        (["img1,img2,label,score", "a,b,1,high"], r", line 2: score 'high' is not a number"),
        (
            ["img1,img2,label,score", "a,b,2,0.5"],
            r", line 2: label '2' is unknown; write 1, true, genuine, same or yes for",
        ),
        (["img1,img2,label,score", "a,b,,0.5"], r", line 2: label '' is unknown"),
        (["img1,img2,kind,score", "a,b,same,0.5"], r", line 2: kind 'same' is none of genuine, twin"),
        (["img1,img2,kind,label,score", "a,b,twin,1,0.5"], r", line 2: label 1 contradicts kind 'twin'"),
        (["img1,img2,label,score", "a,a,1,0.5"], r", line 2: image a is paired with itself"),
        (
            ["img1,img2,label,score", "a,b,1,0.5", "c,b,0,0.5", "b,a,0,0.5"],
            r", line 4: the label contradicts line 2, the same two images \(genuine and other\)",
        ),
        (
            ["img1,img2,label,score", "a,b,1,0.5", "b,a,1,0.6"],
            r", line 3: the score contradicts line 2, the same two images \(0\.5 and 0\.6\)",
        ),
        (
            [FULL, "a,b,twin,0.5,p,q,f,f", "a,c,twin,0.5,r,q,f,f"],
            r", line 3: person1 of a is r, before it was p",
        ),
        (
            [FULL, "a,b,twin,0.5,p,q,f,f", "c,b,twin,0.5,p,q,f,g"],
            r", line 3: family2 of b is g, before it was f",
        ),
        ([FULL, "a,b,twin,0.5,p,,f,f"], r", line 2: person2 is empty"),
        (["img1,img2,label,score", '"a,b,1,0.5'], r", line 2: not CSV"),
    ],
)
def test_faults_are_one_line_with_file_and_line(csv_file, lines, message):
    path = csv_file(*lines) if lines else csv_file()
    if not lines:
        path.write_text("")
    assert re.search(message, one_line(path))


def test_a_repeated_pair_is_kept_once_and_said(csv_file, caplog):
    path = csv_file("img1,img2,label,score", "a,b,1,0.5", "c,a,0,0.1", "b,a,1,0.50000001", "a,b,1,0.5")
    table = read_scores(path)
    assert table.scores.tolist() == [0.5, 0.1]
    assert (table.first.tolist(), table.second.tolist()) == ([0, 2], [1, 0])
    assert f"{path}, line 4: 2 pairs left out, listed before, this one first" in caplog.text
    assert one_line(path, strict=True).endswith("(strict)")


def test_other_files_are_refused(tmp_path):
    assert one_line(tmp_path / "none.csv") == ": no such file of scores"
    (tmp_path / "s.txt").write_text("a b 1")
    assert ": scores are read from .csv or .parquet files" in one_line(tmp_path / "s.txt")
    (tmp_path / "latin.csv").write_bytes("img1,img2,score\né,b,1\n".encode("latin-1"))
    assert ": not UTF-8 text (byte" in one_line(tmp_path / "latin.csv")
    with pytest.raises(MetricError, match=r"written to \.csv or \.parquet"):
        write_scores(
            tmp_path / "s.txt",
            ListedPairs([1.0], [0], [0], [1]),
            Comparisons("", ["a", "b"], None, None, None, {}),
        )
    assert is_scores_file("A.CSV")
    assert not is_scores_file("pairs.txt")


FAILED = ["", "NA", "N/A", "NaN", "nan", "-inf", "-Infinity", "null", "None", " na "]


@pytest.mark.parametrize("by_rows", [False, True])
def test_a_comparison_without_a_score_failed(csv_file, monkeypatch, by_rows):
    if by_rows:
        monkeypatch.setattr(score_files, "read_batches", lambda path: None)
    rows = [f"a,x{number},0,{cell}" for number, cell in enumerate(FAILED)]
    path = csv_file("img1,img2,label,score", *rows, "a,b,1,0.5")
    table = read_scores(path)
    assert table.failed.tolist() == [True] * len(FAILED) + [False]
    assert table.scores[-1] == 0.5
    assert table.scores.dtype == np.float32
    assert one_line(path, strict=True) == ", line 2: 10 pairs without a score, this one first (strict)"
    twice = csv_file("img1,img2,label,score", "a,b,1,", "b,a,1,NaN", "a,c,0,0.1", name="twice.csv")
    assert read_scores(twice).failed.tolist() == [True, False]


ODD = [
    'img1,img2,kind,score,other\n"a, b.jpg",c.jpg,genuine,0.1,"x\ny"\nc.jpg,d.jpg,twin,0.25,z\n',
    "img1;img2;label;score\r\na;b;1;1e-3\r\n' =c;b;0;-5\r\n",
    "score,img2,img1,fold,label\n0.1,b,a,7,1\n0.2,c,b,3,false\n0.30000000000000004,d,a,7,0\n",
    "img1,img2,score\na,b,0.1\n\n\nc,d,0.2\n",
    f"{FULL}\na,b,twin,0.5,p,q,f,f\nb,c,unrelated,,q,r,f,g\na,c,unrelated,-2.5,p,r,f,g\n",
    "\ufeffimg1,img2,kind,label,score\na,b,Genuine,1,2\na,c,impostor,0,3\n",
]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_both_readers_say_the_same(tmp_path, monkeypatch, text, block):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    monkeypatch.setattr(score_columns, "BLOCK_BYTES", block)
    path = tmp_path / "s.csv"
    path.write_bytes(text.encode())
    fast = read_scores(path)
    monkeypatch.setattr(score_files, "read_batches", lambda path: None)
    slow = read_scores(path)
    assert fast.names == slow.names
    for name in ("first", "second", "scores", "kinds", "people", "families", "lines", "folds"):
        ours, theirs = getattr(fast, name), getattr(slow, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_the_fast_reader_reads_what_is_usual(tmp_path):
    """Otherwise the comparison of both readers would compare one with itself."""
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    read = []
    for number, text in enumerate(ODD):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(text.encode())
        read.append(score_columns.read_batches(path) is not None)
    assert read == [False, True, True, False, True, True]
