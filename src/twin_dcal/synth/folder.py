"""The folder of a set: whether it may be written to, and what of it this package wrote.

A set in the making holds `synth.json` (its settings, written first) and `.unfinished/` (a note for every family that
is whole); the latter goes last, so a set without it is complete.
"""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twin_dcal.errors import ConfigError
from twin_dcal.files import UNFINISHED, write_text
from twin_dcal.jsontext import parse_json

from .settings import Settings

SETTINGS_NAME, NOTES_NAME, MASKS_NAME, LOCK_NAME = "synth.json", UNFINISHED, "masks", ".synth.lock"
META_NAME = "meta.jsonl"
DRAWN_NAME = ".drawn"
"""In the folder of a data set that was made of drawn faces, such as by dcal-prepare."""
_LEVELS_UP = 4
"""Of folders above an image in which what tells that may lie."""
DESCRIPTIONS = ("dataset_infor.json", "twin_pairs_infor.json", "test_pairs.json")
SPLITS = ("train", "val", "test")

_PERSON, _PHOTO, _MASK = (
    re.compile(pattern) for pattern in (r"\d{5,}[abc]", r"\d{5,}[abc]_\d{3,}\.jpg", r"\d{5,}[abc][abc]\.png")
)


def claim(folder: Path, settings: Settings, *, resume: bool, overwrite: bool) -> None:
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
        if is_complete(folder):
            return
        _remove_halves(folder)
    elif any(path.name != LOCK_NAME for path in _entries(folder)):
        raise ConfigError(f"output: {folder} is not empty and holds no SynTwins set. Name another folder.")
    write_text(file, json.dumps(asdict(settings), indent=1) + "\n")
    (folder / NOTES_NAME).mkdir(exist_ok=True)


def is_complete(folder: Path) -> bool:
    described = all((folder / name).is_file() for name in (*DESCRIPTIONS, META_NAME))
    return described and not (folder / NOTES_NAME).exists()


def read_settings(folder: Path) -> dict[str, Any]:
    """What synth.json holds. ConfigError if it is not there or not a JSON object."""
    file = folder / SETTINGS_NAME
    try:
        kept = parse_json(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        raise ConfigError(f"{folder} holds no SynTwins set: there is no {SETTINGS_NAME} in it.") from None
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise ConfigError(f"output: {file} cannot be read. Make the set anew with --overwrite.")
    return kept


def _refuse_other_settings(folder: Path, settings: Settings, kept: dict[str, Any]) -> None:
    wrong = [
        f"{key} {kept.get(key)}, not {value}"
        for key, value in asdict(settings).items()
        if kept.get(key) != value
    ]
    if wrong:
        raise ConfigError(
            f"output: {folder} was begun with {', '.join(wrong)}. Use the same, or --overwrite."
        )


def _clear(folder: Path) -> None:
    """Remove what this package wrote, nothing else; the settings stay, so that after a stop it is still a set."""
    for name in (*DESCRIPTIONS, META_NAME):
        (folder / name).unlink(missing_ok=True)
    _remove_halves(folder)
    shutil.rmtree(folder / NOTES_NAME, ignore_errors=True)
    homes = [home for split in SPLITS for home in _entries(folder / split) if _PERSON.fullmatch(home.name)]
    for home in homes:
        _remove_files(home, _PHOTO)
    for split in SPLITS:
        _remove_if_empty(folder / split)
    _remove_files(folder / MASKS_NAME, _MASK)


def _remove_halves(folder: Path) -> None:
    """Files that a process was writing when it was killed."""
    for name in (*DESCRIPTIONS, META_NAME, SETTINGS_NAME):
        for half in folder.glob(f".{name}.*.tmp"):
            half.unlink()


def _remove_files(folder: Path, pattern: re.Pattern[str]) -> None:
    for path in _entries(folder):
        if pattern.fullmatch(path.name):
            path.unlink()
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def are_drawn(paths: Iterable[Path]) -> bool:
    """Whether every image lies in a set that dcal-synth drew, or in one that was made of it."""
    folders = {path.parent for path in paths}
    sets = {above for folder in folders for above in [folder, *folder.parents][:_LEVELS_UP]}
    drawn = {folder for folder in sets if _is_drawn(folder)}
    return bool(folders) and all(
        drawn.intersection([folder, *folder.parents][:_LEVELS_UP]) for folder in folders
    )


def _is_drawn(folder: Path) -> bool:
    if (folder / DRAWN_NAME).is_file():
        return True
    if not (folder / SETTINGS_NAME).is_file():
        return False
    try:
        return "difficulty" in read_settings(folder)
    except (ConfigError, OSError):
        return False
