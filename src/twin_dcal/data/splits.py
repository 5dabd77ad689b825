"""Which family is in train, val or test: drawn from a seed, or read from an earlier run's split.json."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from twin_dcal.errors import ManifestError
from twin_dcal.files import write_text
from twin_dcal.plural import plural

from .faceset import FaceData
from .families import SPLITS, shared_families
from .findings import first_few
from .jsonfile import as_id, read_json, shown

_STREAM = 0x5911  # sets the split apart from other uses of the same seed
_ENOUGH_SINGLES = 6


def draw_splits(
    people: Iterable[str], family_of: Mapping[str, str], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Give each person 'train' or a split of `fractions`, families whole, whatever the order of `people`.

    Twin families and single people are drawn apart, so that each split gets its share of both. A split with a
    fraction above 0 gets at least 1 twin family if there are 3 or more; without any twins it gets at least 2
    people if there are 6 or more. Train keeps at least one family of each kind. ManifestError if the
    fractions leave nothing to train.
    """
    if sum(fractions.values()) >= 1:
        given = " + ".join(f"{name}_fraction {value:g}" for name, value in fractions.items())
        raise ManifestError(f"{given} leaves no family to train on. Make them sum to less than 1.")
    members: dict[str, list[str]] = {}
    for person in people:
        members.setdefault(family_of.get(person, person), []).append(person)
    twins = sorted(name for name, family in members.items() if len(family) > 1)
    singles = sorted(name for name, family in members.items() if len(family) == 1)
    rng = np.random.default_rng((seed, _STREAM))
    split_of_family = _draw(twins, fractions, 1 if len(twins) >= 3 else 0, rng)
    fewest_singles = 2 if not twins and len(singles) >= _ENOUGH_SINGLES else 0
    split_of_family |= _draw(singles, fractions, fewest_singles, rng)
    return {person: split_of_family[name] for name, family in members.items() for person in family}


def read_split(path: Path) -> dict[str, str]:
    """Person id to split, from `{"train": [ids], "val": [ids], "test": [ids]}`; val and test may be missing.

    ManifestError names the file and what is wrong with it.
    """
    shape = 'Write {"train": ["id", ...], "val": [...], "test": [...]}.'
    values = read_json(path)
    if not isinstance(values, dict) or "train" not in values or not set(values) <= set(SPLITS):
        raise ManifestError(f"{path}: not a split, this is {shown(values)}. {shape}")
    split_of: dict[str, str] = {}
    for split, ids in values.items():
        if not isinstance(ids, list):
            raise ManifestError(f"{path}, '{split}': not a list of ids, this is {shown(ids)}. {shape}")
        for number, value in enumerate(ids):
            person = as_id(value, f"{path}, '{split}', entry {number}")
            if person in split_of:
                known = split_of[person]
                raise ManifestError(
                    f"{path}: person '{person}' is listed in {known} and in {split}. Keep one."
                )
            split_of[person] = split
    return split_of


def write_split(face_data: FaceData, path: str | Path) -> None:
    """Write who is in which split; `data.split_file` reads it back."""
    splits = {split: list(getattr(face_data, split).people) for split in SPLITS}
    write_text(path, json.dumps(splits, indent=1) + "\n")


def apply_split_file(path: Path, num_images: Mapping[str, int], min_images: int) -> dict[str, str]:
    """The split of an earlier run for the people of this data set.

    People with fewer than `min_images` images may be absent, since that run left them out of training; they
    go to train, to be left out again. ManifestError lists other ids that are on one side only.
    """
    split_of = read_split(path)
    unknown = sorted(set(split_of).difference(num_images))
    if unknown:
        raise ManifestError(
            f"{path}: {plural(len(unknown), 'person is', 'people are')} not in the data set: {first_few(unknown)}. "
            "Use the split of this data set, or delete the ids."
        )
    absent = sorted(set(num_images).difference(split_of))
    missing = [person for person in absent if num_images[person] >= min_images]
    if missing:
        raise ManifestError(
            f"{path}: {plural(len(missing), 'person', 'people')} of the data set in no split: {first_few(missing)}. "
            "Add them to one, or make a new split without data.split_file."
        )
    return split_of | dict.fromkeys(absent, "train")


def refuse_shared_families(split_of: Mapping[str, str], family_of: Mapping[str, str], source: object) -> None:
    """ManifestError naming the first families that are in two splits."""
    shared = shared_families(split_of, family_of)
    if shared:
        raise ManifestError(
            f"{source}: families in two splits: {shared}. Twins must be in one split: move them together, "
            "or correct the twin pairs."
        )


def _draw(
    families: list[str], fractions: Mapping[str, float], at_least: int, rng: np.random.Generator
) -> dict[str, str]:
    order = rng.permutation(len(families)).tolist()
    split_of: dict[str, str] = {}
    taken = 0
    for split, fraction in fractions.items():
        wanted = max(round(fraction * len(families)), at_least) if fraction > 0 else 0
        count = max(min(wanted, len(families) - 1 - taken), 0)
        split_of |= {families[number]: split for number in order[taken : taken + count]}
        taken += count
    return split_of | {families[number]: "train" for number in order[taken:]}
