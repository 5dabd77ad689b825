"""Which photographs there are: a folder of person folders, or a JSON file of ids and paths.

Nothing is opened here, and links to folders are not followed, so a loop of links ends the walk of one entry only.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from twin_dcal.data.families import PAIRS_NAMES, SPLITS, find_twin_pairs, read_twin_pairs
from twin_dcal.data.listing import list_info
from twin_dcal.errors import ManifestError

_CLUTTER = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", *PAIRS_NAMES}
    | {f"{split}_{name}" for split in SPLITS for name in PAIRS_NAMES}
)
_MAX_NAME = 120


@dataclass(frozen=True, order=True)
class Photo:
    """A file that may be a photo of a person; `name` is how reports call it, on one line."""

    person: str
    name: str
    path: Path


@dataclass(frozen=True)
class Sources:
    """Photos, sorted; and entries that are none, as (name, reason)."""

    photos: tuple[Photo, ...]
    others: tuple[tuple[str, str], ...]


def find_photos(source: str | Path) -> Sources:
    """Every file below PHOTOS/PERSON/, or those that a JSON file `{"id": ["path", ...]}` names.

    Args: source: a folder, or a .json file. ManifestError if there is nothing to read in it.
    """
    root = Path(source)
    if root.is_file() and root.suffix.lower() == ".json":
        listing = list_info(root, with_siblings=False)
        photos = [
            Photo(person, one_line(_below(path, root.parent)), path)
            for person, paths in listing.images.items() for path in paths
        ]  # fmt: skip
        sources = Sources(tuple(sorted(set(photos))), tuple(("", found.text) for found in listing.findings))
    else:
        sources = _walk(root)
    if not sources.photos:
        raise ManifestError(
            f"{source}: no photographs. Put them into one folder a person: PHOTOS/PERSON/*.jpg."
        )
    return sources


def nested_folders(root: str | Path, sources: Sources) -> tuple[str, ...]:
    """Folders like `group/anna` where every person's photos lie in two folders or more below the person's own: perhaps
    those are the people. () for anything else, and for a JSON file."""
    if not Path(root).is_dir():
        return ()
    below: dict[str, set[str]] = {}
    for photo in sources.photos:
        inner = photo.name.split("/")[1:-1]
        below.setdefault(photo.person, set()).add(inner[0] if inner else "")
    if any(len(folders) < 2 or "" in folders for folders in below.values()):
        return ()
    return tuple(
        f"{person}/{folder}" for person, folders in sorted(below.items()) for folder in sorted(folders)
    )


def pairs_of(source: str | Path, given: str | None) -> list[tuple[str, str]]:
    """Twin pairs of the file given, else of one beside the photos; [] without. ManifestError names file and entry."""
    if given is not None:
        return list(read_twin_pairs([Path(given).expanduser()]).pairs)
    root = Path(source)
    files = find_twin_pairs(root if root.is_dir() else root.parent)
    return list(read_twin_pairs(files).pairs)


def one_line(name: str) -> str:
    """A name with control characters and undecodable bytes written as %XX; letters of any script stay."""
    return "".join(
        letter if letter.isprintable() and letter != "%" else quote(letter, safe="", errors="surrogateescape")
        for letter in name
    )


def file_name(name: str) -> str:
    """A name that is one safe part of a path: no separators, no leading dot, not too long for a file system."""
    safe = one_line(name).translate(_UNSAFE).strip(" ")
    safe = "%2E" + safe[1:] if safe.startswith(".") else safe
    while len(safe.encode()) > _MAX_NAME:
        safe = safe[:-1]
    return safe or "%20"


_UNSAFE = {ord(letter): quote(letter, safe="") for letter in '/\\:*?"<>|'}


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A different `file_name` for each name, also where case does not count; the same whatever the order."""
    taken: set[str] = set()
    given: dict[str, str] = {}
    for name in sorted(set(names)):
        wanted = candidate = file_name(name)
        number = 2
        while candidate.lower() in taken:
            candidate = f"{wanted}~{number}"
            number += 1
        taken.add(candidate.lower())
        given[name] = candidate
    return given


def crop_names(photos: Iterable[Photo]) -> Mapping[Photo, str]:
    """A file name without ending for each photo of one person: its own stem, or its whole name where stems meet."""
    listed = sorted(photos)
    stems = [Path(photo.path.name).stem.lower() for photo in listed]
    wanted = {
        photo: Path(photo.path.name).stem
        if stems.count(stem) == 1
        else photo.name.partition("/")[2] or photo.name
        for photo, stem in zip(listed, stems, strict=True)
    }
    names = file_names(f"{name}" for name in wanted.values())
    return {photo: names[name] for photo, name in wanted.items()}


def _walk(root: Path) -> Sources:
    photos: list[Photo] = []
    others: list[tuple[str, str]] = []
    for person in _entries(root, root, others):
        if person.is_symlink() and not person.is_file():
            others.append(
                (_told(person, root), "a link to a folder, or to nothing; links to folders are not followed")
            )
        elif person.is_dir():
            ident = one_line(person.name)
            photos += [Photo(ident, _told(path, root), path) for path in _files_below(person, root, others)]
        else:
            others.append((_told(person, root), "a file outside every person's folder"))
    return Sources(tuple(sorted(photos)), tuple(others))


def _files_below(folder: Path, root: Path, others: list[tuple[str, str]]) -> list[Path]:
    files, folders = [], [folder]
    while folders:
        for entry in _entries(folders.pop(), root, others):
            if entry.is_symlink() and not entry.is_file():
                others.append((_told(entry, root), "a link to a folder, to itself or to nothing"))
            elif entry.is_dir():
                folders.append(entry)
            else:
                files.append(entry)
    return files


def _entries(folder: Path, root: Path, others: list[tuple[str, str]]) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found)
    except OSError as error:
        if folder == root:
            raise ManifestError(
                f"{folder}: cannot be read ({error.strerror}). Name a folder of person folders."
            ) from None
        others.append((_told(folder, root), f"a folder that cannot be read ({error.strerror})"))
        return []
    return [folder / name for name in names if name[0] != "." and name.lower() not in _CLUTTER]


def _told(path: Path, root: Path) -> str:
    return one_line(_below(path, root))


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
