"""CSV as it is written here: numbers as they are, and no text that a spreadsheet would run as a formula.

Names of people and files come from others; `=cmd()|x` in a cell is a command to a spreadsheet. Such text gets an
apostrophe in front, which spreadsheets take for "this is text"; `from_cell` takes it off again.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from .names import restored, written

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FIRST = frozenset("=+-@\t\r\n'")


def to_cell(value: Any) -> Any:
    """A value for a cell: text as `names.written`, with an apostrophe in front of what is a formula; others as is."""
    if not isinstance(value, str):
        return value
    if value[:1] in _FIRST and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        value = f"'{value}"
    return value if value.isascii() else written(value)


def from_cell(text: str) -> str:
    """The text that `to_cell` was given."""
    return restored(text[1:] if text[:1] == "'" and _FORMULA.match(text) else text)


class CsvWriter:
    """Writes rows of cells to a text file, each through `to_cell`. Lines end in \\n."""

    def __init__(self, file: TextIO) -> None:
        self._plain = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def row(self, cells: Iterable[Any]) -> None:
        made = [to_cell(cell) for cell in cells]
        # A carriage return ends a row for every reader, but csv quotes it only where it ends rows for the writer too.
        ends_rows = any(isinstance(cell, str) and "\r" in cell for cell in made)
        (self._quoted if ends_rows else self._plain).writerow(made)

    def rows(self, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            self.row(row)


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A whole table as text, headings first."""
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.row(columns)
    writer.rows(rows)
    return text.getvalue()


def csv_of_records(records: Sequence[Mapping[str, Any]]) -> str:
    """Likewise for mappings with the same keys, which are the headings."""
    return csv_text(list(records[0]), (record.values() for record in records))
