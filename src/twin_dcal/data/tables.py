"""Tables as text: cells between commas, semicolons or tabs, as spreadsheets and other tools write them."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from twin_dcal.csvfile import from_cell
from twin_dcal.errors import MetricError, TwinDcalError
from twin_dcal.files import refuse_endless

SEPARATORS = ("\t", ";", ",")

Row = tuple[int, list[str]]
"""Number of the line in the file, and its cells without blanks around them."""


def read_lines(path: Path, fault: type[TwinDcalError], *, are_names: bool = False) -> list[tuple[int, str]]:
    """Numbers and text of the lines that are not blank, without blanks around them. A byte order mark is fine.

    Args: fault: what is raised for a file that cannot be read or is no text; are_names: lines are file names, which
    may be any bytes, as `find` lists them.
    """
    if not are_names:  # a list of files may be what `find` is just writing
        refuse_endless(path, fault)
    with _readable(path, fault):
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape" if are_names else "strict")
    if "\0" in text:
        raise fault(f"{path}: not UTF-8 text (it has NUL bytes). Save it as UTF-8.")
    lines = text.split("\n") if are_names else text.splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_rows(path: Path, fault: type[TwinDcalError]) -> Iterator[Row]:
    """The rows of a table that are not empty; the separator is what its first line has most of. Text that was marked as
    text when it was written here (`csvfile`) comes as it was.

    Args: fault: what is raised, with file and line, for a file that cannot be read or is no table.
    """
    refuse_endless(path, fault)
    with _readable(path, fault), path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        reader = csv.reader(file, delimiter=separator_of(first), skipinitialspace=True, strict=True)
        try:
            for row in reader:
                cells = [from_cell(cell.strip()) for cell in row]
                if any(cells):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise fault(f"{path}, line {reader.line_num}: not CSV ({error}).") from None


@contextmanager
def _readable(path: Path, fault: type[TwinDcalError]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise fault(f"{path}: no such file. Check the path.") from None
    except UnicodeDecodeError as error:
        raise fault(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise fault(f"{path}: cannot be read ({error.strerror})") from None


def separator_of(line: str) -> str:
    """Tab, semicolon or comma, whichever is there most; a comma where none is."""
    return max(reversed(SEPARATORS), key=line.count)


def column_names(cells: Sequence[str]) -> list[str]:
    """Headings as they are looked up: in small letters."""
    return [cell.strip().casefold() for cell in cells]


def headings(cells: Sequence[str], place: object, fault: type[TwinDcalError]) -> list[str]:
    """`column_names` of a line that is one of headings. `fault` for a heading that is there twice: which of the two
    columns is meant would be a guess. Columns without a heading may be several."""
    names = column_names(cells)
    for at, name in enumerate(names):
        if name and name in names[:at]:
            raise fault(
                f"{place}: two columns are called '{name}' (capitals do not count). Rename or delete one of them."
            )
    return names


def pyarrow_parquet(path: str) -> Any:
    """pyarrow.parquet. MetricError that names the extra where it is not installed."""
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise MetricError(
            f"{path}: parquet needs pyarrow: pip install 'twin-dcal[parquet]'. Or use a .csv file."
        ) from None
