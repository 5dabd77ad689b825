"""Names that are no UTF-8, and cells that a spreadsheet would run: written in one way, and read back as they were."""

import csv
import io
import json
import os
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_dcal.csvfile import csv_of_records, csv_text, from_cell, to_cell
from twin_dcal.data.paths import PathResolver, as_written
from twin_dcal.data.tables import read_lines, read_rows
from twin_dcal.errors import ManifestError
from twin_dcal.files import write_text
from twin_dcal.names import printable, restored, written
from twin_dcal.report.wording import shown

LATIN = os.fsdecode(b"J\xfcrgen.jpg")


@given(st.binary(min_size=1))
def test_any_bytes_are_written_as_text_and_come_back(name):
    text = written(os.fsdecode(name))
    text.encode()
    if b"\\udc" not in name:
        assert os.fsencode(restored(text)) == name


def test_sound_names_are_written_as_they_are():
    for name in ("Jürgen.jpg", "嬢.png", r"C:\faces\udder.jpg", r"a\udc12"):
        assert restored(written(name)) == written(name) == name


def test_a_name_on_a_terminal_is_one_line_and_obeyed_in_nothing():
    assert printable("a\nb\x1b[31m\u202e\u2028\t") == r"a\nb\x1b[31m\u202e\u2028\t"
    assert printable(LATIN) == written(LATIN)
    for name in ("Jürgen.jpg", "嬢 1.png", "2.5\u202f%", "👩\u200d🦰", r"C:\new\x1b"):
        assert printable(name) == name
    assert printable("a\n\tb\r", "\n\t") == "a\n\tb\\r"


def test_text_files_and_json_hold_such_names(tmp_path):
    write_text(tmp_path / "a.json", json.dumps({"name": LATIN}, ensure_ascii=False))
    assert (tmp_path / "a.json").read_text("utf-8") == '{"name": "J\\udcfcrgen.jpg"}'
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["name"] == LATIN
    assert shown(LATIN) == "J\\udcfcrgen.jpg"


def test_a_written_name_finds_its_file(tmp_path):
    (tmp_path / LATIN).write_bytes(b"x")
    assert as_written(written(LATIN), tmp_path).read_bytes() == b"x"
    assert PathResolver(tmp_path)(written(LATIN)) == tmp_path / LATIN
    assert as_written(r"no\udcfcfile", tmp_path) == tmp_path / r"no\udcfcfile"


@pytest.mark.parametrize(("there", "told"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_the_other_unicode_form_finds_its_file(tmp_path, there, told):
    file = tmp_path / normalize(there, "José") / normalize(there, "Zoë 1.jpg")
    file.parent.mkdir()
    file.write_bytes(b"x")
    name = normalize(told, "José/Zoë 1.jpg")
    assert name != normalize(there, name)
    for spelled in (name, name.replace("/", "\\")):
        assert as_written(spelled, tmp_path) == file
        assert PathResolver(tmp_path)(spelled) == file
    assert PathResolver(tmp_path / "lists", tmp_path)(f"/kaggle/input/{name}") == file
    other = tmp_path / name
    other.parent.mkdir()
    other.write_bytes(b"y")
    assert as_written(name, tmp_path) == other, "what is there as it is written is meant"
    assert as_written(normalize(told, "Zoë"), tmp_path) == tmp_path / normalize(told, "Zoë"), (
        "told as written"
    )


def test_a_list_of_file_names_may_hold_any_bytes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"J\xfcrgen.jpg\n\na\x0bb.png\n")
    with pytest.raises(ManifestError, match=r"not UTF-8 text \(byte 1\)"):
        read_lines(path, ManifestError)
    assert read_lines(path, ManifestError, are_names=True) == [(1, LATIN), (3, "a\x0bb.png")]
    path.write_text("a.jpg", encoding="utf-16")
    with pytest.raises(ManifestError, match="NUL bytes"):
        read_lines(path, ManifestError, are_names=True)


@pytest.mark.parametrize(
    "text", ["=cmd()|x", "+1+cmd|' /C calc'!A0", "-l", "@home", "\tx", "\rx", "'=x", "-", "\n="]
)
def test_formulas_are_text_in_a_cell(text):
    cell = to_cell(text)
    assert cell == f"'{text}"
    assert from_cell(cell) == text


@pytest.mark.parametrize(
    "value", [-1, -0.25, 1e-7, np.float32(-2), "-0.250000", "+3", "-1e-05", "-.5", True, None]
)
def test_numbers_stay_numbers(value):
    assert to_cell(value) is value


@pytest.mark.parametrize("text", ["", "a=b", "Jürgen", "'quoted'", "0x", "a,b", 'say "no"'])
def test_other_text_stays_as_it_is(text):
    assert to_cell(text) == text == from_cell(text)


@given(st.text())
def test_every_text_comes_back_from_its_cell(text):
    if r"\udc" not in text:
        assert from_cell(to_cell(text)) == text


def test_tables_are_read_back(tmp_path):
    rows = [["=cmd()|x", LATIN, -0.5], ["a,b", "Jürgen", 3]]
    text = csv_text(("one", "two", "three"), rows)
    assert text.splitlines()[1] == "'=cmd()|x,J\\udcfcrgen.jpg,-0.5"
    write_text(tmp_path / "t.csv", text)
    read = [cells for _, cells in read_rows(tmp_path / "t.csv", ManifestError)]
    assert read == [["one", "two", "three"], *([str(cell) for cell in row] for row in rows)]
    records = [dict(zip(("one", "two", "three"), row, strict=True)) for row in rows]
    assert csv_of_records(records) == text


@pytest.mark.parametrize("name", ["\r=x", "a\rb", '\r"=x,y"', "\r\n=x"])
def test_a_carriage_return_ends_no_row(tmp_path, name):
    text = csv_text(("person", "number"), [[name, 1], ["plain", 2]])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["person", "number"],
        [to_cell(name), "1"],
        ["plain", "2"],
    ]
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    assert [cells for _, cells in read_rows(tmp_path / "t.csv", ManifestError)][1:] == [
        [name, "1"],
        ["plain", "2"],
    ]


def test_one_module_writes_csv():
    """No other has a writer of its own, which would not know of formulas."""
    from pathlib import Path

    import twin_dcal

    home = Path(twin_dcal.__file__).parent
    found = {str(path.relative_to(home)) for path in home.rglob("*.py") if "csv.writer" in path.read_text("utf-8")
             or "DictWriter" in path.read_text("utf-8")}  # fmt: skip
    assert found == {"csvfile.py"}


def test_cells_cannot_start_a_formula_after_quoting():
    (row,) = csv.reader(io.StringIO(csv_text(("=a,b",), [])))
    assert row == ["'=a,b"]
