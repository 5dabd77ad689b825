"""Pairs of images to compare, with the truth: the files behind an evaluation on given comparisons."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

from .checks import real_path
from .decode import damage
from .findings import left_out, texts
from .jsonfile import read_json, shown
from .labels import LABELS_READ, parse_label
from .lfw import Entry, is_lfw, lfw_entries
from .paths import PathResolver
from .tables import SEPARATORS, Row, column_names, headings, read_lines, read_rows

_SHAPES = (
    'Write [{"img1": path, "img2": path, "label": 1}, ...], {"pairs": [[path, path, 1], ...]}, text lines '
    "`path path 1` or a table with the columns img1,img2,label; label 1 is the same person, 0 another."
)
_COLUMNS = ("img1", "img2", "label")
_FOLD = "fold"
_TABLES = (".csv", ".tsv")


@dataclass(frozen=True, eq=False)
class PairList:
    """Comparisons of images: pair i compares paths[first[i]] with paths[second[i]]."""

    paths: tuple[Path, ...]
    """Distinct images."""
    first: np.ndarray
    """int64 (num_pairs,) index into `paths`."""
    second: np.ndarray
    """int64 (num_pairs,) index into `paths`."""
    same: np.ndarray
    """bool (num_pairs,) true for genuine pairs."""
    findings: tuple[str, ...]
    people: tuple[str, ...] | None = None
    """Who is on each of `paths`, where the list says it."""
    folds: np.ndarray | None = None
    """int64 (num_pairs,) numbers from 0 on, where the list has folds."""

    @property
    def num_pairs(self) -> int:
        return len(self.same)


def is_pairs_file(path: str | Path) -> bool:
    """Whether a file lists pairs and is not a data set: .txt, .csv and .tsv, a JSON list or `{"pairs": [[…], …]}`."""
    path = Path(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return path.suffix.lower() in (".txt", *_TABLES) and not path.is_dir()
    try:
        values = read_json(path)
    except ManifestError:
        return False
    if isinstance(values, dict):
        values = values.get("pairs")
        return isinstance(values, list) and not all(isinstance(entry, str) for entry in values)
    return isinstance(values, list)


def read_pairs(
    path: str | Path, data_root: str | Path | None = None, images_dir: str | Path | None = None, *,
    thorough: bool = False,
) -> PairList:  # fmt: skip
    """Read evaluation pairs; image paths are resolved as those of a data set.

    Args: data_root: where images are looked up first; images_dir: where they are looked up last, instead of the file's
    own folder; thorough: decode every image. LFW's pairs.txt and pairsDevTest.txt name images by person and number,
    under either.
    A pair listed twice, in either order, with one label is kept once, with a finding. ManifestError names
    file and entry of a wrong shape or label, a missing or damaged image, an image paired with itself, and
    contradicting labels, and folds that some pairs lack.
    """
    path, root = Path(path).expanduser(), Path(data_root).expanduser() if data_root else None
    last = Path(images_dir).expanduser() if images_dir else path.parent
    find = PathResolver(path.parent, root or last, root_first=root is not None)
    images = _Images(thorough)
    pairs: dict[tuple[int, int], tuple[bool, str]] = {}
    fold_of: dict[tuple[int, int], str] = {}
    repeated: list[str] = []
    for place, written, same, who, fold in _entries(path, find):
        one, other = (
            images.number(find(name), place, whose) for name, whose in zip(written, who, strict=True)
        )
        if one == other:
            raise ManifestError(f"{place}: image {written[0]} is paired with itself. Delete the entry.")
        known = pairs.get((one, other)) or pairs.get((other, one))
        if known is None:
            pairs[one, other], fold_of[one, other] = (same, place), fold
        elif known[0] == same:
            repeated.append(place.removeprefix(f"{path}, "))
        else:
            raise ManifestError(f"{place}: the label contradicts {known[1]}, the same images. Correct one.")
    if not pairs:
        raise ManifestError(f"{path}: no pairs in it. {_SHAPES}")
    indices = np.array(list(pairs), dtype=np.int64)
    labels = np.array([same for same, _ in pairs.values()], dtype=bool)
    findings = texts(left_out("pair", "pairs", "listed before", repeated))
    people = tuple(images.people) if all(images.people) else None
    folds = _numbered(path, [*fold_of.values()], [place for _, place in pairs.values()])
    return PairList(tuple(images.paths), indices[:, 0], indices[:, 1], labels, findings, people, folds)


def _numbered(path: Path, folds: Sequence[str], places: Sequence[str]) -> np.ndarray | None:
    """Folds by number, in the order in which they come; None where no pair names one."""
    if not any(folds):
        return None
    if not all(folds):
        raise ManifestError(
            f"{places[folds.index('')]}: the pair has no fold, others have. Give one for each."
        )
    number_of = {fold: number for number, fold in enumerate(dict.fromkeys(folds))}
    return np.array([number_of[fold] for fold in folds])


class _Images:
    """Distinct image files in the order in which pairs name them."""

    def __init__(self, thorough: bool) -> None:
        self._thorough = thorough
        self.paths: list[Path] = []
        self.people: list[str] = []
        self._number_of: dict[Path, int] = {}
        self._parents: dict[Path, Path] = {}

    def number(self, path: Path, place: str, person: str) -> int:
        file = real_path(path, self._parents)
        if file not in self._number_of:
            fault = damage(path, thorough=self._thorough)
            if fault:
                todo = "Restore it, delete the entry or set the data root."
                raise ManifestError(f"{place}: image {path}: {fault}. {todo}")
            self._number_of[file] = len(self.paths)
            self.paths.append(path)
            self.people.append(person)
        return self._number_of[file]


def _entries(path: Path, find: PathResolver) -> Iterator[Entry]:
    """(place for messages, the two written paths, same, the two people or '', the fold or '')."""
    if path.suffix.lower() == ".json":
        raw = _json_entries(path)
    elif path.suffix.lower() in _TABLES:
        raw = _table_entries(path, read_rows(path, ManifestError))
    else:
        lines = [line for line in read_lines(path, ManifestError) if not line[1].startswith("#")]
        if is_lfw(lines):
            yield from lfw_entries(path, lines, find)
            return
        raw = _table_entries(path, _split(lines))
    for place, one, other, label, fold in raw:
        for name in (one, other):
            if not isinstance(name, str) or not name:
                raise ManifestError(f"{place}: not an image path, this is {shown(name)}. {_SHAPES}")
        same = parse_label(label)
        if same is None:
            raise ManifestError(f"{place}: label {shown(label)} is unknown; write {LABELS_READ}")
        yield place, (one, other), same, ("", ""), str(fold).strip()


def _table_entries(path: Path, rows: Iterable[Row]) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    at: tuple[int, ...] = (0, 1, 2)
    fold_at: int | None = None
    needed = 3
    for number, (line, cells) in enumerate(rows):
        if number == 0 and _are_headings(cells):
            names = headings(cells, f"{path}, line {line}", ManifestError)
            at, needed = tuple(names.index(name) for name in _COLUMNS), len(cells)
            fold_at = names.index(_FOLD) if _FOLD in names else None
            continue
        if number == 0 and _names_no_file(cells):
            raise ManifestError(
                f"{path}, line {line}: not a known heading: {shown(', '.join(cells))}. Name the columns "
                f"{','.join(_COLUMNS)}, in any order, or leave the heading out: `path path label`."
            )
        if len(cells) != needed:
            raise ManifestError(
                f"{path}, line {line}: {plural(len(cells), 'column')}, not {needed}: {shown(' '.join(cells))}. "
                "Write `path path label`, with tabs or commas between them if paths have blanks."
            )
        one, other, label = (cells[column] for column in at)
        yield f"{path}, line {line}", one, other, label, "" if fold_at is None else cells[fold_at]


def _split(lines: Sequence[tuple[int, str]]) -> Iterator[Row]:
    """Cells of the lines of a .txt. A path may hold a comma: what stands between columns is a separator only if it
    gives headings or a label on the first line, else tabs or blanks."""
    first = lines[0][1] if lines else ""
    between = next((separator for separator in SEPARATORS if _are_columns(first.split(separator))), None)
    for number, line in lines:
        here = between or ("\t" if "\t" in line else None)
        yield number, [cell.strip() for cell in line.split(here)]


def _are_headings(cells: Sequence[str]) -> bool:
    return set(_COLUMNS) <= set(column_names(cells))


def _names_no_file(cells: Sequence[str]) -> bool:
    """Whether a first line is one of headings rather than of a pair: nothing in it looks like a path, and it does not
    end in a number. The word of a label, such as `same`, may be a heading."""
    paths = any("/" in cell or "\\" in cell or Path(cell).suffix for cell in cells)
    is_number = parse_label(cells[-1]) is not None and not cells[-1].isalpha()
    return not paths and not is_number


def _are_columns(cells: Sequence[str]) -> bool:
    return _are_headings(cells) or (len(cells) == 3 and parse_label(cells[2]) is not None)


def _json_entries(path: Path) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    values = read_json(path)
    entries = values.get("pairs") if isinstance(values, dict) else values
    if not isinstance(entries, list):
        raise ManifestError(f"{path}: not a list of pairs, this is {shown(values)}. {_SHAPES}")
    for number, entry in enumerate(entries):
        place = f"{path}, entry {number}"
        if isinstance(entry, dict) and {"img1", "img2", "label"} <= set(entry):
            yield place, entry["img1"], entry["img2"], entry["label"], entry.get(_FOLD, "")
        elif isinstance(entry, list) and len(entry) == 3:
            yield place, entry[0], entry[1], entry[2], ""
        else:
            raise ManifestError(f"{place}: not a pair with a label, this is {shown(entry)}. {_SHAPES}")
