"""The folder of a set of edited twins: whether it may be written to, and its descriptions.

A set in the making holds `edited.json` (its settings, written first) and `.unfinished/` (a note for every person of
the source who is whole); the latter goes last, so a set without it is complete.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from twin_dcal.data.families import PAIRS_NAME, SPLITS
from twin_dcal.data.listing import INFO_NAME
from twin_dcal.errors import ConfigError
from twin_dcal.files import UNFINISHED, make_folder, replacing, write_text
from twin_dcal.jsontext import parse_json

SETTINGS_NAME, NOTES_NAME, MASKS_NAME = "edited.json", UNFINISHED, "masks"
META_NAME, SOURCES_NAME, EDITS_NAME = "meta.jsonl", "source_families.json", "edits.json"
LOCK_NAME = ".edits.lock"
_DESCRIPTIONS = (INFO_NAME, PAIRS_NAME, META_NAME, SOURCES_NAME, EDITS_NAME)
_PHOTO, _MASK = re.compile(r"_\d{3,}\.jpg"), re.compile(r"_\d{3,}_[abc]\.png")

Record = Mapping[str, Any]


def claim(folder: Path, settings: Record, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready, or raise ConfigError with why it is not ours to write to."""
    file = folder / SETTINGS_NAME
    if file.is_file() and overwrite:
        _clear(folder)
    elif file.is_file():
        if not resume:
            raise ConfigError(
                f"output: {folder} holds a set already. Use --resume to finish it, or --overwrite."
            )
        _refuse_other_settings(folder, settings, read_settings(folder))
        return
    elif folder.is_dir() and any(path.name != LOCK_NAME for path in folder.iterdir()):
        raise ConfigError(
            f"output: {folder} is not empty and holds no set of edited twins. Name another folder."
        )
    write_text(file, json.dumps({"settings": dict(settings)}, indent=1) + "\n")
    make_folder(folder / NOTES_NAME)


def is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _DESCRIPTIONS) and not (folder / NOTES_NAME).exists()


def read_settings(folder: Path) -> dict[str, Any]:
    """ConfigError if there are none."""
    try:
        place = folder / SETTINGS_NAME
        return dict(parse_json(place.read_text(encoding="utf-8"), place)["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{folder / SETTINGS_NAME} cannot be read. Make the set anew with --overwrite."
        ) from None


def _refuse_other_settings(folder: Path, settings: Record, kept: Record) -> None:
    wrong = [
        f"{key} {kept.get(key)}, not {value}" for key, value in settings.items() if kept.get(key) != value
    ]
    if wrong:
        raise ConfigError(
            f"output: {folder} was begun with {', '.join(wrong)}. Use the same, or --overwrite."
        )


def _clear(folder: Path) -> None:
    """Remove what this package wrote, nothing else; the settings stay, so that after a stop it is still a set."""
    for name in _DESCRIPTIONS:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / NOTES_NAME, ignore_errors=True)
    for place, pattern in [*((split, _PHOTO) for split in SPLITS), (MASKS_NAME, _MASK)]:
        for home in sorted(path for path in (folder / place).glob("*") if path.is_dir()):
            for file in home.iterdir():
                if file.name.startswith(home.name) and pattern.fullmatch(file.name[len(home.name) :]):
                    file.unlink()
            _remove_if_empty(home)
        _remove_if_empty(folder / place)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def map_name(photo: str, other: str) -> str:
    """Where the map of a photograph's difference to a twin lies: `masks/0017a/0017a_003_b.png` for 0017b."""
    path = Path(photo)
    return Path(MASKS_NAME, path.parent.name, f"{path.stem}_{other[-1]}.png").as_posix()


def note_of(folder: Path, number: int) -> Path:
    """The records of one person of the source, by number."""
    return folder / NOTES_NAME / f"{number}.jsonl"


def describe(
    folder: Path, settings: Record, count: int, edit_of: Callable[[str, int], Any]
) -> dict[str, Any]:
    """The JSON files of a set whose `count` people are all noted, then no more notes; its numbers.

    Args: edit_of: the description of a self of a person.
    """
    lines = [note_of(folder, number).read_text(encoding="utf-8") for number in range(count)]
    records = [json.loads(line) for text in lines for line in text.splitlines()]
    made = [record for record in records if "left_out" not in record]
    info: dict[str, list[str]] = {}
    selves: dict[str, dict[str, None]] = {}
    for record in made:
        info.setdefault(record["person"], []).append(record["path"])
        selves.setdefault(record["source_person"], {})[record["person"]] = None
    pairs = [list(pair) for people in selves.values() for pair in combinations(people, 2)]
    with replacing(folder / META_NAME) as file:
        file.writelines(text.encode() for text in lines)
    edits = {record["person"]: edit_of(record["source_person"], record["half"]) for record in made}
    write_text(folder / EDITS_NAME, json.dumps(edits, separators=(",", ":")) + "\n")
    families = {record["person"]: record["source_family"] for record in made}
    write_text(folder / SOURCES_NAME, json.dumps(families, indent=0) + "\n")
    write_text(folder / INFO_NAME, json.dumps(info, indent=1) + "\n")
    write_text(folder / PAIRS_NAME, json.dumps(pairs) + "\n")
    numbers = _numbers(records, len(info), len(pairs))
    write_text(folder / SETTINGS_NAME, json.dumps({"settings": dict(settings), **numbers}, indent=1) + "\n")
    shutil.rmtree(folder / NOTES_NAME)
    return numbers


def numbers_of(folder: Path) -> dict[str, Any]:
    """What `describe` returned for a set that is complete."""
    kept = json.loads((folder / SETTINGS_NAME).read_text(encoding="utf-8"))
    return {key: value for key, value in kept.items() if key != "settings"}


def _numbers(records: Sequence[Record], people: int, pairs: int) -> dict[str, Any]:
    reasons = [record["left_out"] for record in records if "left_out" in record]
    return {
        "people": people,
        "twin_pairs": pairs,
        "photos": len(records) - len(reasons),
        "left_out": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
    }
