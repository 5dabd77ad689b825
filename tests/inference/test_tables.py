"""Tables in, tables out: each picture once, faults as rows, and on from where it was killed."""

import csv
import datetime
import decimal
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli import verify
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.inference import pair_table
from twin_dcal.inference.records import Records, read_table
from twin_dcal.metrics.error_curve import Threshold


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    torch.manual_seed(0)
    return tiny_model(tmp_path_factory.mktemp("tables"), threshold=Threshold(0.75, {}))


@pytest.fixture
def engine(model_path):
    return TwinInferenceEngine(model_path, "cpu", align="never")


@pytest.fixture
def embedded(engine, monkeypatch):
    """How many pictures were embedded."""
    counts, real = [], engine.backend.embed

    def counting(pixels, feature_type="combined"):
        counts.append(len(pixels))
        return real(pixels, feature_type)

    monkeypatch.setattr(engine.backend, "embed", counting)
    return counts


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return sorted(map(str, tiny_faces.glob("test/*/*.png")))


def drawn_pairs(photos, count=300, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(photos[at] for at in rng.integers(0, len(photos), 2)) for _ in range(count)]


def write_csv(path, pairs, more=()):
    path.write_text("img1,img2,label\n" + "".join(f"{a},{b},{n}\n" for n, (a, b) in enumerate(pairs)))
    return path


def without_times(records):
    return [{key: value for key, value in each.items() if key != "elapsed_ms"} for each in records]


def test_a_table_is_decided_pair_by_pair_and_each_picture_embedded_once(engine, embedded, photos, tmp_path):
    pairs = drawn_pairs(photos)
    table = write_csv(tmp_path / "pairs.csv", pairs)
    found = engine.verify_table(table, tmp_path / "out.csv")
    assert sum(embedded) == len({name for pair in pairs for name in pair}) == len(photos)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [str(number) for number in range(300)]
    for at in (0, 63, 64, 299):
        pair = engine.verify_pair(*pairs[at])
        assert found[at]["similarity"] == pytest.approx(pair.similarity, abs=1e-5)
        assert float(rows[at]["similarity"]) == found[at]["similarity"]
        assert rows[at]["same_person"] == str(pair.same_person)
    assert (tmp_path / "out.csv").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "pairs.csv"], (
        "nothing is left beside it"
    )


def test_a_thousand_pairs_over_a_hundred_photographs_embed_a_hundred(engine, embedded, photos, tmp_path):
    copies = [tmp_path / f"{number}.png" for number in range(100)]
    for number, copy in enumerate(copies):
        copy.write_bytes(Path(photos[number % len(photos)]).read_bytes())
    pairs = drawn_pairs([str(copy) for copy in copies], 1000)
    assert len({name for pair in pairs for name in pair}) == 100
    assert len(engine.verify_table(write_csv(tmp_path / "pairs.csv", pairs))) == 1000
    assert sum(embedded) == 100
    embedded.clear()
    assert len(engine.batch_verify(pairs)) == 1000
    assert sum(embedded) == 100


def test_faults_are_rows(engine, photos, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    table = write_csv(tmp_path / "pairs.csv", [photos[:2], (photos[0], "gone.png"), (bad, photos[1])])
    found = engine.verify_table(table)
    assert [each["error"] is None for each in found] == [True, False, False]
    assert "gone.png: no such file" in found[1]["error"]
    assert (found[2]["similarity"], found[2]["label"]) == (None, "2")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_results_are_written_in_every_form(engine, photos, tmp_path, ending):
    table = write_csv(tmp_path / "pairs.csv", [photos[:2], (photos[0], "gone.png")])
    path = tmp_path / f"out{ending}"
    found = engine.verify_table(table, path)
    if ending == ".jsonl":
        read = [json.loads(line) for line in path.read_text().splitlines()]
        assert read == found
        return
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    read = read_table(path, ["img1", "img2"])
    assert [float(read[0][key]) for key in ("similarity", "threshold")] == [
        found[0][key] for key in ("similarity", "threshold")
    ]
    assert "gone.png" in read[1]["error"]
    assert "model" not in read[0]


def test_columns_that_parquet_has_no_kind_for_are_written_as_text(engine, photos, tmp_path):
    pytest.importorskip("pyarrow")
    table = Frame(
        "tolist",
        img1=[Path(photos[0]), photos[1]],
        img2=photos[1:3],
        note=[{1: "a"}, None],
        mixed=[1, "b"],
        z=[1j, 2j],
    )
    engine.verify_table(table, tmp_path / "out.parquet")
    read = read_table(tmp_path / "out.parquet", ["img1", "img2"])
    assert [row["img1"] for row in read] == [str(photos[0]), photos[1]]
    assert [(row["note"], row["mixed"], row["z"]) for row in read] == [
        ("{1: 'a'}", "1", "1j"),
        (None, "b", "2j"),
    ]


def test_an_interrupted_table_goes_on_and_ends_alike(engine, embedded, photos, tmp_path, monkeypatch):
    pairs = drawn_pairs(photos, 200)
    table = write_csv(tmp_path / "pairs.csv", pairs)
    whole = engine.verify_table(table, tmp_path / "whole.jsonl")
    real, calls = engine.decide_pairs, []

    def killed(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(engine, "decide_pairs", killed)
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        engine.verify_table(table, out)
    partial = tmp_path / ".out.jsonl.partial"
    assert not out.exists()
    assert partial.stat().st_mode & 0o077 == 0
    with partial.open("a") as file:  # a line that was half written when the process was killed
        file.write('{"img1": "a')
    calls.clear()
    monkeypatch.setattr(engine, "decide_pairs", lambda *given: calls.append(len(given[0])) or real(*given))
    found = engine.verify_table(table, out)
    assert calls == [64, 8], "128 of 200 pairs were decided before"
    assert without_times(found) == without_times(map(json.loads, out.read_text().splitlines()))
    for one, other in zip(without_times(found), without_times(whole), strict=True):
        assert one.pop("similarity") == pytest.approx(other.pop("similarity"), abs=1e-5)
        assert one == other
    assert not partial.exists()
    # Of another threshold, or after a picture has changed, everything is decided anew.
    calls.clear()
    monkeypatch.setattr(engine, "decide_pairs", killed)
    with pytest.raises(KeyboardInterrupt):
        engine.verify_table(table, out)
    engine.set_threshold(0.1)
    monkeypatch.setattr(engine, "decide_pairs", real)
    assert {each["threshold"] for each in engine.verify_table(table, out)} == {0.1}


def test_paths_are_found_beside_the_table(engine, tiny_faces, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [name.removeprefix(f"{tiny_faces}/") for name in photos[:2]]
    table = tiny_faces / "pairs.tsv"
    table.write_text("\t".join(names) + "\n")
    try:
        [found] = engine.verify_table(table)
    finally:
        table.unlink()
    assert (found["error"], found["img1"], found["img1_path"]) == (None, names[0], photos[0])


class Frame:
    """What pandas and polars have in common, and no more."""

    def __init__(self, method, **columns):
        self.columns = list(columns)
        self._columns = {
            name: SimpleNamespace(**{method: lambda v=values: v}) for name, values in columns.items()
        }

    def __getitem__(self, name):
        return self._columns[name]


@pytest.mark.parametrize("method", ["tolist", "to_list", "to_pylist"])
def test_data_frames_of_any_library(engine, photos, method):
    [found] = engine.verify_table(Frame(method, IMG1=[photos[0]], img2=[photos[1]], fold=[3]))
    assert (found["img1"], found["fold"], found["error"]) == (photos[0], 3, None)


def test_a_frame_has_no_column_of_results_in_capitals(engine, photos):
    with pytest.raises(ManifestError, match=r"column Warnings, as results have \(capitals do not count\)"):
        engine.verify_table(Frame("tolist", img1=photos[:1], img2=photos[1:2], **{" Warnings": [3]}))


def test_real_data_frames(engine, photos):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"img1": [photos[0], photos[0]], "img2": [photos[1], "gone.png"], "fold": [1, 2]}
    )
    made = engine.verify_table(frame).to_pandas()
    assert list(made.columns[:3]) == ["img1", "img2", "fold"]
    assert made["same_person"].tolist()[1] is None
    assert made["error"].isna().tolist() == [True, False]
    arrow = pytest.importorskip("pyarrow")
    assert len(engine.verify_table(arrow.Table.from_pandas(frame))) == 2


def test_to_pandas_without_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        Records([{"a": 1}]).to_pandas()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no row in it"), ("img1,img2\n", "no pair in it"), ("a,b,c\n", "must name the columns img1, img2"),
        ("img1,img2\na\n", "line 2: 1 column, not 2"), ("img1,img2\n,b.png\n", "line 2: img1 is no path"),
        ("img1,img2,similarity\na,b,c\n", "column similarity, as results have"),
        ("img1,img2,SAME_PERSON\na,b,c\n", "column SAME_PERSON, as results have"),
        ("img1,img2,Img1_Path\na,b,c\n", "column Img1_Path, as results have"),
        ("IMG1,img2,Error\na,b,c\n", "column Error, as results have"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_pairs(engine, tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ManifestError, match=told):
        engine.verify_table(tmp_path / "t.csv")


def test_other_things_that_are_no_tables(engine, tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    for given in (tmp_path / "t.parquet", tmp_path / "gone.csv", "t.xlsx", 7, Frame("tolist", img1=["a"])):
        with pytest.raises(ManifestError):
            engine.verify_table(given)
    with pytest.raises(ConfigError, match=r"out\.xlsx: results are written to \.csv, \.jsonl, \.parquet"):
        engine.verify_table(Frame("tolist", img1=["a"], img2=["b"]), "out.xlsx")


def test_the_command(model_path, photos, tmp_path, capsys):
    table = write_csv(tmp_path / "pairs.csv", [photos[:2], (photos[0], "gone.png")])
    given = ["--model", str(model_path), "--align", "never", "--pairs", str(table)]
    assert verify.main([*given, "--output", str(tmp_path / "out.csv")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 pairs: ")
    assert "1 not compared" in told
    assert verify.main(given) == 2
    assert capsys.readouterr().err == "error: --pairs and --output go together\n"
    table = write_csv(tmp_path / "none.csv", [("a.png", "b.png")])
    assert verify.main([*given[:-1], str(table), "--output", str(tmp_path / "none.jsonl")]) == 2
    assert "no pair can be compared; first: a.png: no such file" in capsys.readouterr().err
    assert (tmp_path / "none.jsonl").exists()


def test_rows_in_one_block_are_as_in_another(engine, photos, monkeypatch):
    frame = Frame("tolist", img1=photos[:9], img2=photos[1:10])
    whole = engine.verify_table(frame)
    monkeypatch.setattr(pair_table, "_AT_ONCE", 2)
    assert [each["similarity"] for each in engine.verify_table(frame)] == pytest.approx(
        [each["similarity"] for each in whole], abs=1e-5
    )


def test_a_name_that_no_file_can_have_is_a_row(engine, photos, tmp_path):
    table = write_csv(tmp_path / "pairs.csv", [photos[:2], (photos[0], "x" * 300 + ".png")])
    found = engine.verify_table(table)
    assert found[0]["error"] is None
    assert "x" * 300 in found[1]["error"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_names_that_are_no_text_are_written_in_every_form(engine, photos, tmp_path, ending):
    pytest.importorskip("pyarrow")
    (tmp_path / "J\udcfcr.png").write_bytes(Path(photos[0]).read_bytes())
    table = write_csv(tmp_path / "pairs.csv", [(photos[0], "J\\udcfcr.png")])
    engine.verify_table(table, tmp_path / f"out.{ending}")
    assert b"J\\udcfcr.png" in (tmp_path / f"out.{ending}").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        [
            "J\udcfcr.png",
            f"out.{ending}",
            "pairs.csv",
        ]
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_values_that_json_lacks_are_kept_also_after_an_interruption(
    engine, photos, tmp_path, monkeypatch, ending
):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "img1": photos[:2], "img2": photos[1:3], "day": [datetime.date(2026, 1, 2)] * 2,
        "price": [decimal.Decimal("1.50")] * 2, "code": [b"\xffa"] * 2,
    }  # fmt: skip
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    monkeypatch.setattr(pair_table, "_AT_ONCE", 1)
    real, calls = engine.decide_pairs, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(engine, "decide_pairs", interrupted)
    output = tmp_path / f"out.{ending}"
    with pytest.raises(KeyboardInterrupt):
        engine.verify_table(tmp_path / "t.parquet", output)
    found = engine.verify_table(tmp_path / "t.parquet", output)
    assert len(calls) == 3
    assert [row["day"] for row in found] == columns["day"]
    if ending == "parquet":
        kept = parquet.read_table(output).select(["day", "price", "code"]).to_pydict()
        assert kept == {name: columns[name] for name in ("day", "price", "code")}
    else:
        assert "2026-01-02" in output.read_text()


@pytest.mark.parametrize(
    "rest", [b"\0\0\0\n", b'{"x":\n', b"\xff\xfe\n", b"[]\n", b"{}\n", b"[" * 100_000 + b"\n"]
)
def test_what_a_crash_left_of_a_table_is_done_anew(engine, photos, tmp_path, rest):
    table = write_csv(tmp_path / "pairs.csv", [photos[:2], photos[1:3]])
    whole = engine.verify_table(table)
    beside = tmp_path / ".out.csv.partial"
    rows = read_table(table, ("img1", "img2"))
    key = pair_table._key(engine, rows, [(row["img1"], row["img2"]) for row in rows], "largest")
    beside.write_bytes(json.dumps(key).encode() + b"\n" + rest)
    assert without_times(engine.verify_table(table, tmp_path / "out.csv")) == without_times(whole)
    good = json.dumps({**whole[0]}).encode() + b"\n"
    beside.write_bytes(json.dumps(key).encode() + b"\n" + good * 3)
    assert len(engine.verify_table(table, tmp_path / "out.csv")) == 2


def test_a_table_is_not_replaced_by_its_results(engine, photos, tmp_path):
    table = write_csv(tmp_path / "pairs.csv", [photos[:2]])
    (tmp_path / "link.csv").symlink_to(table)
    before = table.read_bytes()
    for output in (table, tmp_path / "link.csv"):
        with pytest.raises(ConfigError, match="which is read; name another file"):
            engine.verify_table(table, output)
    assert table.read_bytes() == before


@pytest.mark.parametrize("name", [".out.csv.lock", ".out.csv.partial", ".out.csv.partial.new"])
def test_side_files_are_not_written_through_links(engine, photos, tmp_path, name):
    """In a folder of several people somebody else may have put a link where a side file will be."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / name).symlink_to(precious)
    table = write_csv(tmp_path / "pairs.csv", [photos[:2]])
    try:
        engine.verify_table(table, tmp_path / "out.csv")
    except ConfigError as error:
        assert "a link, which is not written through" in str(error)  # noqa: PT017
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.tsv"])
def test_a_table_that_never_ends_is_not_waited_for(engine, tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ManifestError, match=r"a pipe or a device|no such file"):
        engine.verify_table(tmp_path / name)


def test_text_of_a_parquet_table_that_is_no_text(engine, photos, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    bad = arrow.array([b"\xff.png"], arrow.binary()).cast(arrow.string(), safe=False)
    table = arrow.table({"img1": bad, "img2": [photos[0]]})
    with pytest.raises(ManifestError, match="damaged"):
        engine.verify_table(table)


class Columns:
    """Named columns in any order, as pandas has them."""

    def __init__(self, *columns):
        self.columns = [name for name, _ in columns]
        self._values = columns

    def __getitem__(self, wanted):
        return next(values for name, values in self._values if name == wanted)


def test_headings_that_are_numbers_and_cells_of_numpy(photos, tmp_path):
    names, cells = np.array(["a", "b"]), np.array([np.int64(7), np.float32(0.5)], object)
    frame = Columns(("img1", names), (2024, np.array([1, 2])), ("img2", names[::-1]), ("n", cells))
    rows = read_table(frame, ("img1", "img2"))
    assert list(rows) == [
        {"img1": "a", "2024": 1, "img2": "b", "n": 7}, {"img1": "b", "2024": 2, "img2": "a", "n": 0.5},
    ]  # fmt: skip
    rows.write(tmp_path / "rows.jsonl")
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == list(rows)


def test_a_frame_that_is_no_table_says_why():
    twice = Columns(("img1", np.array(["a"])), ("img2", np.array(["b"])), ("img1", np.array(["c"])))
    with pytest.raises(ManifestError, match="img1"):
        read_table(twice, ("img1", "img2"))
    ragged = Columns(("img1", np.array(["a"])), ("img2", np.array(["b", "c"])))
    with pytest.raises(ManifestError, match="^the table: columns of 1 and of 2 rows$"):
        read_table(ragged, ("img1", "img2"))


@pytest.mark.parametrize("twins", [None, [("al", "bo")]])
def test_hits_are_a_table_in_every_form(engine, photos, tmp_path, twins):
    gallery = engine.enroll({"al": [photos[0]], "bo": [photos[1]]}, twins=twins)
    found = gallery.search(photos[0]).records()
    known = {"bo": pytest.approx(found[1]["similarity"])} if twins else {}
    for ending in ("csv", "jsonl", "parquet"):
        if ending == "parquet":
            pytest.importorskip("pyarrow")
        path = tmp_path / f"hits.{ending}"
        found.write(path)
        if ending == "jsonl":
            told = [json.loads(line) for line in path.read_text().splitlines()]
            assert told[0]["twins"] == known
            continue
        told = read_table(path, ("rank", "person"))
        assert [row["person"] for row in told] == ["al", "bo"]
        assert json.loads(told[0]["twins"]) == known, ending
