"""Crops from the cache to the data set's folders, and the files that describe them.

Crops are hard links to the cache where the file system has such, copies elsewhere. What an earlier run placed and this
one does not is removed; nothing else in the folder is touched.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from twin_dcal.data.families import PAIRS_NAME
from twin_dcal.data.jsonfile import read_json
from twin_dcal.data.listing import INFO_NAME
from twin_dcal.errors import ConfigError
from twin_dcal.files import write_text

from .grouping import Sessions
from .journal import CROPS, PLACED, STATE
from .judging import Crop, Dropped
from .sources import Photo, crop_names, file_name, file_names

FACES_NAME, DROPPED_NAME, REVIEW = "faces.jsonl", "dropped.csv", "review"


def claim(output: Path, source: Path) -> None:
    """Make the folder ready. ConfigError for one that holds something else, or that photos are read from."""
    inner, outer = output.resolve(), source.resolve()
    photos = outer if outer.is_dir() else outer.parent
    if inner == photos or (outer.is_dir() and (inner.is_relative_to(outer) or outer.is_relative_to(inner))):
        raise ConfigError(
            f"--output {output}: it lies in the folder of photographs, or that in it. Name another folder."
        )
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; name a folder.")
    if output.is_dir() and not (output / STATE).is_dir() and any(output.iterdir()):
        raise ConfigError(f"--output {output} holds something else. Name a new or empty folder.")
    output.mkdir(parents=True, exist_ok=True, mode=0o700)
    (output / STATE).mkdir(exist_ok=True, mode=0o700)


def paths_of(crops: Sequence[Crop], split_of: Mapping[str, str]) -> dict[Crop, str]:
    """[SPLIT/]PERSON/NAME.jpg for each crop; different for each, and safe whatever people and photos are called."""
    by_person: dict[str, list[Crop]] = {}
    for crop in crops:
        by_person.setdefault(crop.photo.person, []).append(crop)
    folders = file_names(by_person)
    paths: dict[Crop, str] = {}
    for person, own in by_person.items():
        names: Mapping[Photo, str] = crop_names({crop.photo for crop in own})
        parent = "/".join(filter(None, [split_of.get(person, ""), folders[person]]))
        for crop in own:
            number = f"-{crop.number + 1}" if crop.number else ""
            paths[crop] = f"{parent}/{names[crop.photo]}{number}.jpg"
    return paths


def place(output: Path, paths: Mapping[Crop, str], dropped: Sequence[Dropped], review: bool) -> None:
    """Bring crops to their places and remove those of an earlier run that have none any more.

    Args: review: crops that were left out go to review/REASON/PERSON/.
    """
    wanted = {path: crop.face["crop"] for crop, path in paths.items()}
    if review:
        wanted |= _review_paths(dropped)
    before = _placed_before(output)
    _note_placed(output, before | set(wanted))  # also known to the next run if this one is stopped
    for path in sorted(before - set(wanted)):
        _remove(output, path)
    for path, crop in sorted(wanted.items()):
        _link(output / STATE / CROPS / crop, output / path)
    _note_placed(output, set(wanted))


def describe(
    output: Path, paths: Mapping[Crop, str], pairs: Sequence[tuple[str, str]], sessions: Sessions
) -> None:
    """dataset_infor.json, twin_pairs_infor.json (if there are pairs) and faces.jsonl."""
    info: dict[str, list[str]] = {}
    for crop, path in sorted(paths.items(), key=lambda item: item[1]):
        info.setdefault(crop.photo.person, []).append(path)
    lines = [
        json.dumps(_face(crop, path, sessions), separators=(",", ":"), sort_keys=True) + "\n"
        for crop, path in sorted(paths.items(), key=lambda item: item[1])
    ]
    write_text(output / FACES_NAME, "".join(lines))
    if pairs:
        write_text(output / PAIRS_NAME, json.dumps([list(pair) for pair in pairs], indent=1) + "\n")
    else:
        (output / PAIRS_NAME).unlink(missing_ok=True)
    write_text(
        output / INFO_NAME, json.dumps({person: info[person] for person in sorted(info)}, indent=1) + "\n"
    )


def withdraw(output: Path) -> None:
    """Take back the description of an earlier run: what it describes is not so any more."""
    for name in (INFO_NAME, PAIRS_NAME, FACES_NAME):
        (output / name).unlink(missing_ok=True)


def _face(crop: Crop, path: str, sessions: Sessions) -> dict[str, Any]:
    return {
        "path": path, "person": crop.photo.person, "photo": crop.photo.name,
        "source_sha256": crop.record["source_sha256"], "box": crop.face["box"],
        "landmarks": crop.face["landmarks"], "num_faces": crop.record["num_faces"], "moved": crop.face["moved"],
        "quality": crop.face["quality"], "taken": crop.record["taken"],
        "session": sessions.session_of.get(crop.photo.name),
    }  # fmt: skip


def _review_paths(dropped: Sequence[Dropped]) -> dict[str, str]:
    paths = {}
    for out in dropped:
        if out.crop is not None:
            name = file_names([out.name.replace("/", " ")])[out.name.replace("/", " ")]
            path = f"{REVIEW}/{file_name(out.reason)}/{file_name(out.person)}/{name}"
            while f"{path}.jpg" in paths:
                path += "~"
            paths[f"{path}.jpg"] = out.crop.face["crop"]
    return paths


def _placed_before(output: Path) -> set[str]:
    """Paths that an earlier run wrote down; what leads out of the folder is not among them."""
    file = output / STATE / PLACED
    values = read_json(file) if file.is_file() else []
    return (
        {path for path in values if isinstance(path, str) and _stays_inside(path)}
        if isinstance(values, list)
        else set()
    )


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    safe = "\0" not in path and not PurePosixPath(path).is_absolute()
    return safe and len(parts) > 1 and ".." not in parts and parts[0] != STATE and path.endswith(".jpg")


def _note_placed(output: Path, paths: set[str]) -> None:
    write_text(output / STATE / PLACED, json.dumps(sorted(paths), indent=0) + "\n")


def _remove(output: Path, path: str) -> None:
    file = output / path
    if not file.parent.resolve().is_relative_to(output.resolve()):  # a folder of it is a link by now
        return
    file.unlink(missing_ok=True)
    for folder in file.parents:
        if folder == output or not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()


def _link(crop: Path, path: Path) -> None:
    if path.is_file() and path.samefile(crop):
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".placing.") as folder:
        held = Path(folder) / "crop"
        try:
            os.link(crop, held)
        except OSError:  # a file system without hard links
            shutil.copyfile(crop, held)
            held.chmod(0o600)
        held.replace(path)
