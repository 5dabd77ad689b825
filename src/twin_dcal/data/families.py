"""Families: who is whose twin, from a file of twin pairs, JSON or a table."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_dcal.errors import ManifestError

from .findings import Finding, first_few, left_out, note
from .jsonfile import as_id, read_json, shown
from .tables import Row, column_names, headings, read_lines, read_rows, separator_of

SPLITS = ("train", "val", "test")
PAIRS_NAME = "twin_pairs_infor.json"
_TABLES = (".csv", ".tsv", ".txt")
PAIRS_NAMES = tuple(
    f"{stem}{ending}"
    for ending in (".json", *_TABLES)
    for stem in ("twin_pairs_infor", "twin_pairs", "twin_id_pairs")
)
"""What the file is called, here and by other tools; also with train_, val_ or test_ in front."""
_SHAPES = 'Write [["id", "id"], ...] or {"train": [["id", "id"], ...], "val": ..., "test": ...}.'
_COLUMNS = (
    ("person1", "person2"), ("id1", "id2"), ("twin1", "twin2"), ("person_1", "person_2"), ("id_1", "id_2"),
    ("twin_1", "twin_2"), ("person_a", "person_b"), ("id_a", "id_b"), ("twin_a", "twin_b"),
)  # fmt: skip
_TABLE_SHAPES = "Write two ids a line, or name the columns person1,person2 (and split, if there is one)."


@dataclass(frozen=True)
class TwinPairs:
    """Twin pairs without faults; `split_of` is empty unless the files say which split people are in."""

    pairs: tuple[tuple[str, str], ...]
    split_of: Mapping[str, str]
    findings: tuple[Finding, ...]


def connected_families(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components of the pair graph: each id that is in a pair, to the smallest id of its family."""
    twins: dict[str, set[str]] = {}
    for one, other in pairs:
        twins.setdefault(one, set()).add(other)
        twins.setdefault(other, set()).add(one)
    family_of: dict[str, str] = {}
    for first in sorted(twins):
        reached = [] if first in family_of else [first]
        while reached:
            person = reached.pop()
            if person not in family_of:
                family_of[person] = first
                reached.extend(twins[person])
    return family_of


def find_twin_pairs(folder: Path) -> list[Path]:
    """Files of twin pairs in a data set's folder: one per split if there are such, else the single one.

    The first of `PAIRS_NAMES` that is there is taken.
    """
    for name in PAIRS_NAMES:
        by_split = [folder / f"{split}_{name}" for split in SPLITS]
        found = [path for path in by_split if path.is_file()]
        if found or (folder / name).is_file():
            return found or [folder / name]
    return []


def split_siblings(path: Path) -> dict[str, Path]:
    """For `train_x.json` (or val_, test_) the existing files of that series by split; {} for other names."""
    named = re.fullmatch(r"(train|val|test)_(.+)", path.name)
    if not named:
        return {}
    series = {split: path.with_name(f"{split}_{named[2]}") for split in SPLITS}
    return {split: file for split, file in series.items() if file == path or file.is_file()}


def with_siblings(path: Path) -> list[Path]:
    """A file of twin pairs, with those of the other splits beside it if it is of one."""
    return list(split_siblings(path).values()) or [path]


def read_twin_pairs(files: Sequence[Path]) -> TwinPairs:
    """Twin pairs of one file, or of one file per split (`train_...`, `val_...`, `test_...`).

    An id paired with itself and repeated pairs are left out with a finding; ids may be whole numbers.
    ManifestError names file and entry for anything that is not a pair.
    """
    pairs: list[tuple[str, str]] = []
    split_of: dict[str, str] = {}
    with_itself: list[str] = []
    repeated: list[str] = []
    seen: set[frozenset[str]] = set()
    for file in files:
        for split, one, other in _entries(file):
            for person in (one, other) if split else ():
                if split_of.setdefault(person, split) != split:
                    known = split_of[person]
                    raise ManifestError(f"{file}: person '{person}' is in {known} and in {split}. Keep one.")
            if one == other:
                with_itself.append(one)
            elif frozenset((one, other)) in seen:
                repeated.append(f"{one}-{other}")
            else:
                seen.add(frozenset((one, other)))
                pairs.append((one, other))
    findings = left_out("twin pair", "twin pairs", "an id paired with itself", with_itself)
    findings += left_out("twin pair", "twin pairs", "listed before", repeated)
    if len(files) > 1:
        findings.append(note(f"twin pairs read from {', '.join(file.name for file in files)}"))
    return TwinPairs(tuple(pairs), split_of, tuple(findings))


def shared_families(split_of: Mapping[str, str], family_of: Mapping[str, str]) -> str | None:
    """A phrase naming the first families that have people in two splits, None if there are none."""
    splits_of_family: dict[str, dict[str, str]] = {}
    for person in sorted(split_of):
        splits_of_family.setdefault(family_of.get(person, person), {})[person] = split_of[person]
    shared = [
        " and ".join(f"'{person}' ({split})" for person, split in members.items())
        for members in splits_of_family.values()
        if len(set(members.values())) > 1
    ]
    return first_few(shared) if shared else None


def _entries(file: Path) -> list[tuple[str, str, str]]:
    """(split or '', id, id) of every pair in a file."""
    named = file.name.partition("_")[0]
    ending = file.suffix.lower()
    if ending in _TABLES:
        return list(_table_entries(file, named if named in SPLITS else ""))
    if ending != ".json" and file.is_file():
        raise ManifestError(
            f"{file}: twin pairs are read from .json, .csv, .tsv and .txt. Save them as one of these."
        )
    values = read_json(file)
    if isinstance(values, list):
        return _pairs(values, named if named in SPLITS else "", str(file))
    if not isinstance(values, dict):
        raise ManifestError(f"{file}: not a list of twin pairs. {_SHAPES}")
    if set(values) in ({"pairs"}, {"twin_pairs"}):
        ((key, entries),) = values.items()
        return _pairs(entries, named if named in SPLITS else "", f"{file}, '{key}'")
    wrong = sorted(set(values).difference(SPLITS))
    if wrong:
        raise ManifestError(f"{file}: unknown key {shown(wrong[0])}; keys are train, val and test. {_SHAPES}")
    by_split = (_pairs(entries, split, f"{file}, '{split}'") for split, entries in values.items())
    return [pair for pairs in by_split for pair in pairs]


def _pairs(entries: Any, split: str, place: str) -> list[tuple[str, str, str]]:
    if not isinstance(entries, list):
        raise ManifestError(f"{place}: not a list of twin pairs, this is {shown(entries)}. {_SHAPES}")
    pairs = []
    for number, entry in enumerate(entries):
        at = f"{place}, entry {number}"
        if not isinstance(entry, list) or len(entry) != 2:
            raise ManifestError(f"{at}: a twin pair is a list of two ids, this is {shown(entry)}. {_SHAPES}")
        pairs.append((split, as_id(entry[0], at), as_id(entry[1], at)))
    return pairs


def _table_entries(file: Path, split: str) -> Iterator[tuple[str, str, str]]:
    """As `_entries`, of a table with a line of headings or without."""
    columns: Mapping[str, int] = {"person1": 0, "person2": 1}
    needed = 2
    for number, (line, cells) in enumerate(_rows(file)):
        place = f"{file}, line {line}"
        if number == 0 and (named := _headings(cells, place)):
            columns, needed = named, len(cells)
            continue
        if len(cells) != needed:
            counted = f"{len(cells)} column{'s' * (len(cells) != 1)}"
            raise ManifestError(
                f"{place}: {counted}, not {needed}: {shown(', '.join(cells))}. {_TABLE_SHAPES}"
            )
        one, other = cells[columns["person1"]], cells[columns["person2"]]
        if not one or not other:
            raise ManifestError(f"{place}: an id is empty: {shown(', '.join(cells))}. {_TABLE_SHAPES}")
        told = cells[columns["split"]] if "split" in columns else split
        if told not in ("", *SPLITS):
            raise ManifestError(f"{place}: there is no split '{told}'. Use train, val or test.")
        yield told, one, other


def _rows(file: Path) -> Iterable[Row]:
    """Cells of each line; of a text without another separator, what stands between blanks."""
    if file.suffix.lower() == ".txt":
        lines = read_lines(file, ManifestError)
        if lines and separator_of(lines[0][1]) not in lines[0][1]:
            return [(number, text.split()) for number, text in lines]
    return read_rows(file, ManifestError)


def _headings(cells: Sequence[str], place: str) -> dict[str, int]:
    """Columns of the two ids, and of the split if there is one; {} for a line that is none of headings."""
    names = column_names(cells)
    for pair in _COLUMNS:
        missing = [name for name in pair if name not in names]
        if len(missing) == 1:
            raise ManifestError(f"{place}: column {missing[0]} is missing. {_TABLE_SHAPES}")
        if not missing:
            names = headings(cells, place, ManifestError)
            found = dict(zip(("person1", "person2"), map(names.index, pair), strict=True))
            return found | ({"split": names.index("split")} if "split" in names else {})
    return {}
