"""Listed images that can be used: each file looked at cheaply unless asked to be thorough."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

from .decode import damage
from .findings import Finding, doubt, first_few, left_out

_NUM_LAST = 4096
"""Bytes at the end of a file that are compared first: pictures of equal size begin alike more often than they end."""


def check_images(
    images: Mapping[str, tuple[Path, ...]], source: Path, *, thorough: bool = False
) -> tuple[dict[str, tuple[Path, ...]], list[Finding]]:
    """The images that can be read, of the people who have any, and what was left out.

    Args: thorough: decode every file; else one that is damaged in the middle is met when it is used.
    Left out: missing, empty and damaged files, folders, what is not an image, repeats, people without any. Told and
    kept: copies of one picture. ManifestError if one file (also by a link) is listed under two people.
    """
    repeated, kept = _one_owner_each(images, source)
    faults: dict[str, list[Path]] = {}
    usable: dict[str, tuple[Path, ...]] = {}
    for person, paths in kept.items():
        sound = []
        for path in paths:
            fault = damage(path, thorough=thorough)
            if fault:
                faults.setdefault(fault, []).append(path)
            else:
                sound.append(path)
        if sound:
            usable[person] = tuple(sound)
    findings = left_out("image", "images", "listed before", repeated)
    findings += _about_copies(usable)
    for fault in sorted(faults):
        findings += left_out("image", "images", fault, faults[fault])
    findings += left_out("person", "people", "no usable image", sorted(set(images).difference(usable)))
    return usable, findings


def _about_copies(images: Mapping[str, tuple[Path, ...]]) -> list[Finding]:
    """What is doubtful because images are byte for byte others of the set; nobody knows which of them are right."""
    owner = {path: person for person, paths in images.items() for path in paths}
    of_one: list[Path] = []
    of_two: list[str] = []
    for copies in _copies(owner):
        if len({owner[path] for path in copies}) == 1:
            of_one += copies[1:]
        else:
            of_two.append(" and ".join(f"{path} ('{owner[path]}')" for path in copies))
    findings = []
    if of_two:
        findings.append(doubt(
            f"{plural(len(of_two), 'picture is', 'pictures are')} under two people, as copies: {first_few(of_two)}. "
            "Keep each under the person it shows"
        ))  # fmt: skip
    if of_one:
        told = f"{plural(len(of_one), 'image is a copy', 'images are copies')} of another image of the same person"
        findings.append(doubt(f"{told}: {first_few(of_one)}"))
    return findings


def _copies(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of files with the same content, each in the order given; the whole content is read only of files that are
    of one size and end alike."""
    alike = [list(paths)]
    for key in (_size, _last_bytes, _digest):
        alike = [group for among in alike for group in _grouped(among, key)]
    return alike


def _grouped(paths: Iterable[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of two and more with an equal key; a file that can no longer be read is in none."""
    groups: dict[Hashable, list[Path]] = {}
    for path in paths:
        with suppress(OSError):
            groups.setdefault(key(path), []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, _size(path) - _NUM_LAST))
        return file.read(_NUM_LAST)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _one_owner_each(
    images: Mapping[str, tuple[Path, ...]], source: Path
) -> tuple[list[Path], dict[str, list[Path]]]:
    """Repeated files, and the images of each person without them."""
    owner: dict[Path, str] = {}
    parents: dict[Path, Path] = {}
    repeated: list[Path] = []
    shared: list[str] = []
    kept: dict[str, list[Path]] = {}
    for person, paths in images.items():
        kept[person] = []
        for path in paths:
            file = real_path(path, parents)
            if file not in owner:
                owner[file] = person
                kept[person].append(path)
            elif owner[file] == person:
                repeated.append(path)
            else:
                shared.append(f"{path} ('{owner[file]}' and '{person}')")
    if shared:
        raise ManifestError(
            f"{source}: image files listed under two people: {first_few(shared)}. "
            "Keep each under the person it shows."
        )
    return repeated, kept


def real_path(path: Path, parents: dict[Path, Path]) -> Path:
    """`path.resolve()`, with the folder's part remembered in `parents`."""
    try:
        if path.is_symlink():
            return path.resolve()
        if path.parent not in parents:
            parents[path.parent] = path.parent.resolve()
        return parents[path.parent] / path.name
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links: `damage` will say so
        return path
