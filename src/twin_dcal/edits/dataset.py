"""A data set of twins made of a data set of faces: every person with enough photographs becomes edited twins."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from twin_dcal.config import DataConfig
from twin_dcal.data.families import SPLITS
from twin_dcal.data.manifest import load_face_data
from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder, write_text, writing
from twin_dcal.locking import locked
from twin_dcal.prepare.detector import FaceDetector
from twin_dcal.progress import ProgressBar
from twin_dcal.workers import begin_worker, interrupts_held

from .dealing import deal
from .difference import difference_map
from .folder import LOCK_NAME, claim, describe, is_complete, map_name, note_of, numbers_of
from .looking import LeftOut, Limits, Seen, groups_of_copies, look, new_detector
from .recipes import RECIPES, edited, self_of

STRENGTHS = {"easy": 1.4, "medium": 1.0, "hard": 0.83}
"""Of the difficulties of `dcal-synth`."""

LETTERS = "abc"
"""Of the selves of a person."""


@dataclass(frozen=True)
class Settings:
    """What decides about the pixels of a set."""

    strength: float = 1.0
    """How much is edited; 0 changes nothing."""
    recipe: str = "bumps"
    """Which kinds of edits (`recipes`)."""
    selves: int = 2
    """Edited people made of one person."""
    min_images: int = 4
    """Photographs of each edited person; of a person with fewer than `selves` times that, one edited person is made."""
    jpeg_quality: int = 95
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    calibration: dict[str, Any] | None = None
    """How the strength was found, where it was measured (`calibrate.Calibration`)."""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe '{self.recipe}': there are {', '.join(RECIPES)}")
        for name, low, high in (("strength", 0, 3), ("selves", 2, 3), ("min_images", 1, 1000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} {getattr(self, name)}: use {low} to {high}")

    def edit(self, person: str, half: int) -> Any:
        """What makes a self of a person."""
        return self_of(self.recipe, self.seed, person, half, self.strength)


class Person(NamedTuple):
    """Somebody of the source."""

    name: str
    family: str
    """The source's, by one of its people: of look-alikes or twins there."""
    split: str
    paths: tuple[Path, ...]


def generate(
    faces: str | Path, output: str | Path, settings: Settings, *, workers: int = 1, resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write a whole data set; its numbers.

    Args: faces: a data set of aligned faces in any layout that training reads; workers: processes; with more than one,
    a script must keep its own start under `if __name__ == "__main__"`.
    ConfigError for a folder that holds something else, a set of other settings, or that another process edits into;
    ManifestError for faces that are no data set.
    """
    folder = Path(output)
    people = read_people(faces, settings.seed)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output: {folder} is a file; name a folder.")
    with locked(folder / LOCK_NAME, f"editing into {folder}", "--output"):
        return _generate(people, Path(faces), folder, settings, workers, resume, overwrite)


def _generate(
    people: Sequence[Person], faces: Path, folder: Path, settings: Settings, workers: int, resume: bool,
    overwrite: bool,
) -> dict[str, Any]:  # fmt: skip
    claim(folder, asdict(settings), resume=resume, overwrite=overwrite)
    if is_complete(folder):
        return numbers_of(folder)
    missing = [number for number in range(len(people)) if not note_of(folder, number).is_file()]
    work = partial(write_person, folder, settings, faces)
    done = len(people) - len(missing)
    with ProgressBar(len(people), "editing", "people", done=done) as bar:
        for _ in in_parallel(work, [(number, people[number]) for number in missing], workers):
            bar.update()
    return describe(
        folder, asdict(settings), len(people), lambda person, half: settings.edit(person, half).described()
    )


def read_people(faces: str | Path, seed: int) -> list[Person]:
    """Everybody of a data set, sorted, with the splits that it has or that are drawn from the seed."""
    data = load_face_data(DataConfig(data_dir=str(faces), min_images=1), seed)
    people = []
    for split, found in zip(SPLITS, (data.train, data.val, data.test), strict=True):
        images, first = found.images_of(), dict[int, str]()
        for person, family in zip(found.people, found.family_of.tolist(), strict=True):
            people.append(Person(person, first.setdefault(family, person), split, images[person]))
    return sorted(people)


def in_parallel(work: Callable[..., Any], calls: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """Results of work(*call), in any order."""
    if workers <= 1 or len(calls) <= 1:
        yield from (work(*call) for call in calls)
        return
    with ExitStack() as stack:
        pool = stack.enter_context(
            ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_worker)
        )
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)  # runs first: an error stops the rest
        with interrupts_held():
            waiting = [pool.submit(work, *call) for call in calls]
        for future in as_completed(waiting):
            yield future.result()


@cache
def detector() -> FaceDetector:
    """This process's."""
    return new_detector()


def write_person(folder: Path, settings: Settings, faces: Path, number: int, person: Person) -> None:
    """Edit and write one person's photographs; a note of them last, as the sign that they are whole."""
    looks = [look(path, detector(), settings.limits) for path in person.paths]
    left_out = [each for each in looks if isinstance(each, LeftOut)]
    records: list[dict[str, Any]] = [
        {"source": _below(faces, each.path), "source_person": person.name, "left_out": each.reason}
        for each in left_out
    ]
    seen = [each for each in looks if isinstance(each, Seen)]
    hands = dealt(seen, settings, person.name)
    edits = [settings.edit(person.name, half) for half in range(len(hands))]
    for half, photos in enumerate(hands):
        name = person.name + LETTERS[half]
        for at, shot in enumerate(photos):
            path = Path(person.split, name, f"{name}_{at:03d}.jpg")
            _write_photo(folder, path, half, settings, shot, edits)
            kept = {"path": path.as_posix(), "person": name, "half": half, "source": _below(faces, shot.path)}
            records.append(kept | _about(person) | _about_face(shot))
    lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in records]
    write_text(note_of(folder, number), "".join(lines))


def dealt(seen: Sequence[Seen], settings: Settings, person: str) -> list[list[Seen]]:
    """Photographs of each edited self of a person; one self where there are too few."""
    copies = groups_of_copies([each.pixels for each in seen])
    pictures = len(seen) - sum(len(group) - 1 for group in copies)
    selves = settings.selves if pictures >= settings.selves * settings.min_images else 1
    return [[seen[at] for at in hand] for hand in deal(len(seen), copies, selves, settings.seed, person)]


def _write_photo(
    folder: Path, path: Path, half: int, settings: Settings, shot: Seen, edits: Sequence[Any]
) -> None:
    """The photograph as its own self, and a map of its difference to each other self."""
    versions = [edited(settings.recipe, shot.pixels, shot.camera, edit) for edit in edits]
    make_folder((folder / path).parent)
    with writing(folder / path), (folder / path).open("wb") as file:
        Image.fromarray(versions[half]).save(
            file, format="JPEG", quality=settings.jpeg_quality, subsampling=0
        )
    for other, version in enumerate(versions):
        if other != half:
            mask = folder / map_name(path.as_posix(), LETTERS[other])
            make_folder(mask.parent)
            with writing(mask):
                Image.fromarray(difference_map(versions[half], version)).save(mask)


def _below(faces: Path, path: Path) -> str:
    """The path as the source would write it."""
    return Path(os.path.relpath(path, faces if faces.is_dir() else faces.parent)).as_posix()


def _about(person: Person) -> dict[str, Any]:
    return {"source_person": person.name, "source_family": person.family, "split": person.split}


def _about_face(shot: Seen) -> dict[str, Any]:
    return {
        "landmarks": [list(point) for point in shot.found.landmarks],
        "yaw": round(shot.camera.yaw, 1),
        "pitch": round(shot.camera.pitch, 1),
        "misfit": round(shot.camera.misfit, 4),
        "score": shot.found.score,
    }
