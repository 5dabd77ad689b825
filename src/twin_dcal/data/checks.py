"""Listed images that can be used: each file looked at once, cheaply unless asked to be thorough."""

from collections.abc import Mapping
from pathlib import Path

from twin_dcal.errors import ManifestError

from .decode import damage
from .findings import Finding, first_few, left_out


def check_images(
    images: Mapping[str, tuple[Path, ...]], source: Path, *, thorough: bool = False
) -> tuple[dict[str, tuple[Path, ...]], list[Finding]]:
    """The images that can be read, of the people who have any, and what was left out.

    Args: thorough: decode every file; else one that is damaged in the middle is met when it is used.
    Left out: missing, empty and damaged files, folders, what is not an image, repeats, people without any.
    ManifestError if one file (also by a link) is listed under two people.
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
    for fault in sorted(faults):
        findings += left_out("image", "images", fault, faults[fault])
    findings += left_out("person", "people", "no usable image", sorted(set(images).difference(usable)))
    return usable, findings


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
