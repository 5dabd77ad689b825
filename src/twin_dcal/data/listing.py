"""What a data set says it holds: people and image paths from folders or JSON, before any image is opened."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

from .families import SPLITS, split_siblings
from .findings import Finding, first_few, left_out, note
from .formats import IMAGE_EXTENSIONS
from .jsonfile import read_json, shown
from .paths import PathResolver

INFO_NAME = "dataset_infor.json"
INFO_NAMES = (INFO_NAME, "id_to_images.json")
"""What the description is called, here and by other tools for ND-TWIN; also with train_, val_ or test_ in front."""
LAYOUTS = (
    "Accepted: ROOT/{train,val,test}/PERSON/*.jpg (val and test may be missing), ROOT/PERSON/*.jpg, a "
    f"{' or '.join(INFO_NAMES)} with person ids and image paths, or train_{INFO_NAME} beside test_{INFO_NAME}; "
    f"images are {', '.join(sorted(IMAGE_EXTENSIONS))}."
)
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True)
class Listing:
    """People and their images as listed; `split_of` (person id to split) is empty without a split."""

    source: Path
    folder: Path
    """Where files that belong to the data set, such as twin pairs, are looked for."""
    images: Mapping[str, tuple[Path, ...]]
    split_of: Mapping[str, str]
    findings: tuple[Finding, ...]
    files: tuple[Path, ...] = ()
    """Descriptions that were read."""


def list_folder(folder: Path, data_root: Path | None = None) -> Listing:
    """A data set's folder in any layout; JSON descriptions win over the folders beside them.

    ManifestError if it does not exist or fits no layout.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ManifestError(f"{folder}: the data folder {what}. {LAYOUTS}")
    for name in INFO_NAMES:
        by_split = {split: folder / f"{split}_{name}" for split in SPLITS}
        by_split = {split: path for split, path in by_split.items() if path.is_file()}
        if by_split:
            return _list_series(by_split, folder, data_root)
        if (folder / name).is_file():
            return _list_json(folder / name, folder, data_root)
    if any((folder / split).is_dir() for split in SPLITS):
        return _list_split_folders(folder)
    images, findings = _scan_people(folder)
    if not any(images.values()):
        raise ManifestError(f"{folder}: no person folders with images in it. {LAYOUTS}")
    return Listing(folder, folder, images, {}, tuple(findings))


def is_data_set(folder: Path) -> bool:
    """Whether a folder has a description of images, splits, or folders of people in it."""
    names = [f"{prefix}{name}" for name in INFO_NAMES for prefix in ("", *(f"{split}_" for split in SPLITS))]
    return (
        any((folder / name).is_file() for name in names)
        or any((folder / split).is_dir() for split in SPLITS)
        or any(_scan_people(folder)[0].values())
    )


def list_info(
    path: Path, folder: Path | None = None, data_root: Path | None = None, with_siblings: bool = True
) -> Listing:
    """A `dataset_infor.json`, or the series of `train_…`, `val_…`, `test_…` files that `path` is one of.

    Args: folder: the data folder, by default the file's own; data_root: where paths are looked up first.
    ManifestError names file and entry for anything of another shape.
    """
    series = split_siblings(path) if with_siblings else {}
    if series:
        return _list_series(series, folder or path.parent, data_root)
    return _list_json(path, folder or path.parent, data_root)


def _list_split_folders(folder: Path) -> Listing:
    by_split = {}
    findings: list[Finding] = []
    for split in SPLITS:
        if (folder / split).is_dir():
            by_split[split], found = _scan_people(folder / split)
            findings += found
    beside = [entry.name for entry in _visible(folder) if entry.name not in SPLITS and entry.is_dir()]
    if beside:
        findings.append(note(f"folders beside train, val and test are not read: {first_few(beside)}"))
    images, split_of = _merge_splits(by_split, folder)
    return Listing(folder, folder, images, split_of, tuple(findings))


def _list_series(by_split: Mapping[str, Path], folder: Path, data_root: Path | None) -> Listing:
    images_by_split = {}
    findings = [note(f"split read from {', '.join(path.name for path in by_split.values())}")]
    for split, path in by_split.items():
        images_by_split[split], found = _read_info(path, folder, data_root)
        findings += found
    findings += [note(f"{name} beside them is not read") for name in INFO_NAMES if (folder / name).is_file()]
    source = next(iter(by_split.values()))
    images, split_of = _merge_splits(images_by_split, source)
    return Listing(source, folder, images, split_of, tuple(findings), tuple(by_split.values()))


def _list_json(path: Path, folder: Path, data_root: Path | None) -> Listing:
    images, findings = _read_info(path, folder, data_root)
    splits = _splits_by_folder(images, folder)
    inside = [split for split in splits.values() if split]
    if not inside or len(inside) < len(splits):
        if inside:
            share = f"{len(splits) - len(inside)} of {plural(len(splits), 'image')}"
            findings.append(note(f"{share} outside train/, val/ and test/: those folders set no split"))
        return Listing(path, folder, images, {}, tuple(findings), (path,))
    by_split: dict[str, dict[str, tuple[Path, ...]]] = {}
    for person, paths in images.items():
        for split in {splits[image] for image in paths}:
            by_split.setdefault(split, {})[person] = paths
    _, split_of = _merge_splits(by_split, path)
    findings.append(note(f"split read from the folders that {path.name} names"))
    return Listing(path, folder, images, split_of, tuple(findings), (path,))


def _splits_by_folder(images: Mapping[str, Iterable[Path]], folder: Path) -> dict[Path, str]:
    """Image path to the split folder of `folder` it is under, '' for none."""
    root = folder.resolve()
    split_of_parent: dict[Path, str] = {}
    splits: dict[Path, str] = {}
    for paths in images.values():
        for path in paths:
            if path.parent not in split_of_parent:
                parent = path.parent.resolve()
                first = parent.relative_to(root).parts[:1] if parent.is_relative_to(root) else ()
                split_of_parent[path.parent] = first[0] if first and first[0] in SPLITS else ""
            splits[path] = split_of_parent[path.parent]
    return splits


def _merge_splits(
    by_split: Mapping[str, Mapping[str, tuple[Path, ...]]], source: Path
) -> tuple[dict[str, tuple[Path, ...]], dict[str, str]]:
    images: dict[str, tuple[Path, ...]] = {}
    split_of: dict[str, str] = {}
    for split, people in by_split.items():
        for person, paths in people.items():
            if person in split_of:
                raise ManifestError(
                    f"{source}: person '{person}' is in {split_of[person]} and in {split}. Move all images "
                    "of a person to one split, or give different people different ids."
                )
            images[person], split_of[person] = paths, split
    return images, split_of


def _scan_people(folder: Path) -> tuple[dict[str, tuple[Path, ...]], list[Finding]]:
    images: dict[str, tuple[Path, ...]] = {}
    loose: list[str] = []
    unsupported: list[str] = []
    nested: list[str] = []
    for person in _visible(folder):
        if not person.is_dir():
            if person.suffix.lower() in IMAGE_EXTENSIONS:
                loose.append(person.name)
            continue
        paths = []
        for entry in _visible(person):
            if entry.suffix.lower() in IMAGE_EXTENSIONS:
                paths.append(entry)
            else:
                (nested if entry.is_dir() else unsupported).append(f"{person.name}/{entry.name}")
        images[person.name] = tuple(paths)
    findings = left_out("image", "images", f"in {folder.name}/ but in no person's folder", loose)
    findings += left_out("file", "files", "not an image extension", unsupported)
    findings += left_out("folder", "folders", "inside a person's folder", nested)
    return images, findings


def _visible(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be read ({error.strerror}). Check its permissions.") from None
    return [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in _CLUTTER]


def _read_info(
    path: Path, folder: Path, data_root: Path | None
) -> tuple[dict[str, tuple[Path, ...]], list[Finding]]:
    values = read_json(path)
    if not isinstance(values, dict):
        shape = '{"id": ["image path", ...], ...}'
        raise ManifestError(f"{path}: not a data set, this is {shown(values)}. Write {shape}.")
    find = PathResolver(path.parent, data_root or folder, root_first=data_root is not None)
    images: dict[str, tuple[Path, ...]] = {}
    unsupported: list[str] = []
    num_moved = num_listed = 0
    for person, written_paths in values.items():
        paths = []
        for written in _written_paths(path, person, written_paths):
            num_listed += 1
            if Path(written).suffix.lower() not in IMAGE_EXTENSIONS:
                unsupported.append(written)
                continue
            found = find(written)
            num_moved += found != path.parent / written
            paths.append(found)
        images[person] = tuple(paths)
    findings = left_out("listed path", "listed paths", "not an image extension", unsupported)
    if num_moved:
        share = f"{num_moved} of {num_listed} listed paths"
        findings.append(note(f"{share} found under {find.root} by their last parts"))
    return images, findings


def _written_paths(path: Path, person: str, values: Any) -> list[str]:
    if not person:
        raise ManifestError(f"{path}: an empty person id. Give every person an id.")
    if not isinstance(values, list):
        raise ManifestError(f"{path}, '{person}': not a list of image paths, this is {shown(values)}")
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise ManifestError(
                f"{path}, '{person}', entry {number}: not an image path, this is {shown(value)}"
            )
    return values


def find_images(folder: str | Path, extensions: Iterable[str] = IMAGE_EXTENSIONS) -> list[str]:
    """Every picture in a folder and its subfolders, sorted. Hidden files and linked folders are left out. ManifestError
    for a folder that is missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(f"{folder}: {'a file, not' if folder.exists() else 'no such'} folder of images")
    wanted = tuple(extensions)
    found: list[str] = []
    for home, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        chosen = (name for name in names if name.lower().endswith(wanted) and not name.startswith("."))
        found += (str(Path(home) / name) for name in chosen)
    return sorted(found)
