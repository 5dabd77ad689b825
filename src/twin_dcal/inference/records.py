"""Tables in and tables out: rows of a file or of a data frame, and results as rows. pandas is never needed to read."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from twin_dcal.csvfile import csv_text
from twin_dcal.data.tables import column_names, headings, pyarrow_parquet, read_rows
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.files import replacing, write_text
from twin_dcal.names import written
from twin_dcal.plural import plural

from .given import as_path

TABLES = (".csv", ".tsv", ".parquet")
_NESTED = ("threshold_source", "model", "attention_maps", "faces", "familiarity", "photographs")
RESULTS = (".csv", ".jsonl", ".parquet")


class Records(list[dict[str, Any]]):
    """Results as a list of dicts with the same keys, one for each row."""

    def flat(self) -> "Records":
        """Without what is nested: of each record its numbers, texts and truth values, its warnings as one text, and
        the twins of a hit as JSON."""
        return Records(
            {name: _as_text(name, value) for name, value in record.items() if name not in _NESTED}
            for record in self
        )

    def to_pandas(self) -> Any:
        """A pandas DataFrame of `flat`. ConfigError where pandas is not installed."""
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame.from_records(list(self.flat()))

    def write(self, path: str | Path) -> None:
        """To .csv or .parquet as `flat`, or to .jsonl with everything; readable by the owner only."""
        path = check_results(path)
        if path.suffix == ".jsonl":
            write_text(
                path, "".join(json.dumps(each, ensure_ascii=False, default=_told) + "\n" for each in self)
            )
            return
        rows = self.flat()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        if path.suffix == ".csv":
            write_text(path, csv_text(columns, ([row.get(name) for name in columns] for row in rows)))
            return
        parquet, arrow = pyarrow_parquet(str(path)), import_module("pyarrow")
        table = arrow.table({name: _column(arrow, [row.get(name) for row in rows]) for name in columns})
        with replacing(path) as file:
            parquet.write_table(table, file)


def _as_text(name: str, value: Any) -> Any:
    if name == "warnings":
        return "; ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if name == "twins" and isinstance(value, Mapping) else value


class Rows(Records):
    """Rows of a table. places: where each stands, for messages: `people.csv, line 3`."""

    def __init__(self, rows: Iterable[dict[str, Any]], places: Iterable[str]) -> None:
        super().__init__(rows)
        self.places = list(places)


def check_results(path: str | Path) -> Path:
    """ConfigError for an ending that results are not written to, or parquet without pyarrow."""
    path = as_path(path, "output")
    if path.suffix not in RESULTS:
        raise ConfigError(f"{path}: results are written to {', '.join(RESULTS)}")
    if path.suffix == ".parquet":
        pyarrow_parquet(str(path))
    return path


def _told(value: Any) -> str:
    """What JSON has no kind for as text: times, decimals, bytes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _column(arrow: Any, values: Sequence[Any]) -> Any:
    """A column for Parquet; as text where its values have no kind in common, or one that Parquet has not."""
    values = [written(value) if isinstance(value, str) else value for value in values]
    try:
        return arrow.array(values)
    except (arrow.ArrowException, TypeError, OverflowError):
        return arrow.array(
            [None if value is None else written(_told(value)) for value in values], arrow.string()
        )


def read_table(source: Any, columns: Sequence[str], name: str = "the table") -> Rows:
    """Rows of a CSV, TSV or Parquet file, or of a DataFrame (pandas, polars) or pyarrow table.

    Args: columns: those that must be there; of a text file without them in its first line, what its columns are.
    Returns: dicts with these columns in small letters, as they are named here, and all others as they are named there.
    ManifestError for anything else.
    """
    if isinstance(source, str | Path):
        path = as_path(source, name, ManifestError)
        if path.suffix.lower() not in TABLES:
            raise ManifestError(f"{path}: tables are read from {', '.join(TABLES)}, and DataFrames")
        if path.suffix.lower() == ".parquet":
            return _of_columns(_parquet(path), columns, str(path))
        return _of_text(path, columns)
    return _of_columns(source, columns, name)


def path_in(row: Mapping[str, Any], column: str, place: str) -> str:
    """The path in a cell. ManifestError, with its place, for anything else."""
    name = row[column]
    if not isinstance(name, str | Path) or not str(name):
        raise ManifestError(f"{place}: {column} is no path of a picture: {name!r:.40}")
    return str(name)


def _of_text(path: Path, columns: Sequence[str]) -> Rows:
    rows = list(read_rows(path, ManifestError))
    if not rows:
        raise ManifestError(f"{path}: no row in it")
    has_headings = set(columns) <= set(column_names(rows[0][1]))
    if not has_headings and len(rows[0][1]) != len(columns):
        raise ManifestError(f"{path}: the first line must name the columns {', '.join(columns)}")
    named = f"{path}, line {rows[0][0]}"
    names = _named(rows[0][1], columns, named) if has_headings else list(columns)
    for line, cells in rows:
        if len(cells) != len(names):
            raise ManifestError(f"{path}, line {line}: {plural(len(cells), 'column')}, not {len(names)}")
    listed = rows[has_headings:]
    return Rows(
        (dict(zip(names, cells, strict=True)) for _, cells in listed),
        (f"{path}, line {line}" for line, _ in listed),
    )


def _parquet(path: Path) -> Any:
    if not path.is_file():
        raise ManifestError(f"{path}: no such file. Check the path.")
    try:
        return pyarrow_parquet(str(path)).ParquetFile(io.BytesIO(path.read_bytes())).read()
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: not a parquet file, or damaged ({str(error)[:100]})") from error


def _of_columns(frame: Any, columns: Sequence[str], name: str) -> Rows:
    """Rows of whatever has named columns that can be made lists: pandas, polars and pyarrow call that differently."""
    try:
        keys = list(getattr(frame, "column_names", None) or frame.columns)  # numbers may be among them
        found = [str(each) for each in keys]
        names = _named(found, columns, name)
        lists = [_as_list(frame[each]) for each in keys]
    except UnicodeDecodeError as error:
        raise ManifestError(f"{name}: damaged: text that is no UTF-8") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ManifestError(f"{name}: a {type(frame).__name__}; give a file or a DataFrame") from error
    missing = [each for each in columns if each not in names]
    if missing:
        raise ManifestError(f"{name}: no column {missing[0]}; it has {', '.join(found)}")
    lengths = sorted({len(each) for each in lists})
    if len(lengths) > 1:
        raise ManifestError(f"{name}: columns of {lengths[0]:,} and of {plural(lengths[-1], 'row')}")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
    return Rows(rows, (f"{name}, row {number}" for number in range(1, len(rows) + 1)))


def _named(found: Sequence[str], columns: Sequence[str], place: str) -> list[str]:
    """What columns are called from here on. ManifestError where two are called the same: all of them are kept."""
    smalls = headings(found, place, ManifestError)
    if smalls.count("") > 1:
        raise ManifestError(
            f"{place}: {plural(smalls.count(''), 'column')} without a heading. Name or delete them."
        )
    return [small if small in columns else name for name, small in zip(found, smalls, strict=True)]


def _as_list(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            values = getattr(column, method)()
            return [each.item() if isinstance(each, np.generic) else each for each in values]
    raise TypeError(type(column).__name__)
