"""Pairs of images to compare, with the truth: the files behind an evaluation on given comparisons."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twin_dcal.errors import ManifestError

from .checks import real_path
from .decode import damage
from .findings import left_out, texts
from .jsonfile import read_json, shown
from .paths import PathResolver

_SHAPES = (
    'Write [{"img1": path, "img2": path, "label": 1}, ...], {"pairs": [[path, path, 1], ...]} or text lines '
    "`path path 1`; label 1 is the same person, 0 another."
)
_LABELS = {"1": True, "0": False}


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

    @property
    def num_pairs(self) -> int:
        return len(self.same)


def is_pairs_file(path: str | Path) -> bool:
    """Whether a file lists pairs (.txt, a JSON list or `{"pairs": [[…], …]}`) and is not a data set."""
    path = Path(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return path.suffix.lower() == ".txt" and not path.is_dir()
    try:
        values = read_json(path)
    except ManifestError:
        return False
    if isinstance(values, dict):
        values = values.get("pairs")
        return isinstance(values, list) and not all(isinstance(entry, str) for entry in values)
    return isinstance(values, list)


def read_pairs(path: str | Path, data_root: str | Path | None = None) -> PairList:
    """Read evaluation pairs; image paths are resolved as those of a data set.

    A pair listed twice, in either order, with one label is kept once, with a finding. ManifestError names
    file and entry of a wrong shape or label, a missing or damaged image, an image paired with itself, and
    contradicting labels.
    """
    path, root = Path(path).expanduser(), Path(data_root).expanduser() if data_root else None
    find = PathResolver(path.parent, root or path.parent, root_first=root is not None)
    images = _Images()
    pairs: dict[tuple[int, int], tuple[bool, str]] = {}
    repeated: list[str] = []
    for place, written, same in _entries(path):
        one, other = (images.number(find(name), place) for name in written)
        if one == other:
            raise ManifestError(f"{place}: image {written[0]} is paired with itself. Delete the entry.")
        known = pairs.get((one, other)) or pairs.get((other, one))
        if known is None:
            pairs[one, other] = (same, place)
        elif known[0] == same:
            repeated.append(place.removeprefix(f"{path}, "))
        else:
            raise ManifestError(f"{place}: the label contradicts {known[1]}, the same images. Correct one.")
    if not pairs:
        raise ManifestError(f"{path}: no pairs in it. {_SHAPES}")
    indices = np.array(list(pairs), dtype=np.int64)
    labels = np.array([same for same, _ in pairs.values()], dtype=bool)
    findings = texts(left_out("pair", "pairs", "listed before", repeated))
    return PairList(tuple(images.paths), indices[:, 0], indices[:, 1], labels, findings)


class _Images:
    """Distinct image files in the order in which pairs name them."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._number_of: dict[Path, int] = {}
        self._parents: dict[Path, Path] = {}

    def number(self, path: Path, place: str) -> int:
        file = real_path(path, self._parents)
        if file not in self._number_of:
            fault = damage(path)
            if fault:
                todo = "Restore it, delete the entry or set the data root."
                raise ManifestError(f"{place}: image {path}: {fault}. {todo}")
            self._number_of[file] = len(self.paths)
            self.paths.append(path)
        return self._number_of[file]


def _entries(path: Path) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """(place for messages, the two written paths, same)."""
    raw = _text_entries(path) if path.suffix.lower() == ".txt" else _json_entries(path)
    for place, one, other, label in raw:
        for name in (one, other):
            if not isinstance(name, str) or not name:
                raise ManifestError(f"{place}: not an image path, this is {shown(name)}. {_SHAPES}")
        # bool and int print as themselves; 1.0 or "yes" are refused instead of guessed at.
        text = str(int(label)) if isinstance(label, bool) else str(label)
        if text not in _LABELS:
            raise ManifestError(f"{place}: label {shown(label)} is neither 1 (same person) nor 0 (another)")
        yield place, (one, other), _LABELS[text]


def _text_entries(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file. Check the path.") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")] if "\t" in line else line.split()
        if len(parts) != 3:
            raise ManifestError(
                f"{path}, line {number}: {len(parts)} columns, not 3: {shown(line)}. "
                "Write `path path label`, with tabs between them if paths have blanks."
            )
        yield f"{path}, line {number}", parts[0], parts[1], parts[2]


def _json_entries(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    values = read_json(path)
    entries = values.get("pairs") if isinstance(values, dict) else values
    if not isinstance(entries, list):
        raise ManifestError(f"{path}: not a list of pairs, this is {shown(values)}. {_SHAPES}")
    for number, entry in enumerate(entries):
        place = f"{path}, entry {number}"
        if isinstance(entry, dict) and {"img1", "img2", "label"} <= set(entry):
            yield place, entry["img1"], entry["img2"], entry["label"]
        elif isinstance(entry, list) and len(entry) == 3:
            yield place, entry[0], entry[1], entry[2]
        else:
            raise ManifestError(f"{place}: not a pair with a label, this is {shown(entry)}. {_SHAPES}")
