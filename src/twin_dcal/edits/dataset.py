"""A data set of twins made of a data set of faces: every person with enough photographs becomes edited twins."""

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.config import DataConfig
from twin_dcal.data.decode import decode_pixels, read_bytes
from twin_dcal.data.families import SPLITS
from twin_dcal.data.manifest import load_face_data
from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder, replacing, write_text
from twin_dcal.prepare.detector import FaceDetector
from twin_dcal.workers import begin_worker, interrupts_held

from .dealing import deal, groups_of_copies
from .face import Camera, fit_camera
from .identity import draw_edit
from .warp import apply_edit

Pixels = NDArray[np.uint8]

META_NAME, SETTINGS_NAME, SOURCES_NAME = "meta.jsonl", "edited.json", "source_families.json"
_LETTERS = "abc"
_SUBSAMPLING = 0  # colours as fine as brightness


@dataclass(frozen=True)
class Settings:
    """What decides about the pixels of a set."""

    strength: float = 1.0
    """1 makes twins that a face network which has not seen them confuses about as it confuses real ones."""
    selves: int = 2
    """Edited people made of one person."""
    min_images: int = 4
    """Photographs that each edited person has at least; people with fewer than `selves` times that stay single."""
    max_yaw: float = 40.0
    """Degrees a head may be turned aside."""
    min_score: float = 0.8
    """Of the face detector."""
    max_misfit: float = 0.06
    """How far landmarks may be from where a face has them, in eye distances."""
    jpeg_quality: int = 95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("strength", 0, 3), ("selves", 2, 3), ("min_images", 1, 1000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} {getattr(self, name)}: use {low} to {high}")


class Person(NamedTuple):
    """Somebody of the source."""

    name: str
    family: str
    """The source's: of look-alikes or twins there."""
    split: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """A photograph whose face can be edited."""

    path: Path
    pixels: Pixels
    landmarks: NDArray[np.float64]
    score: float
    camera: Camera


def generate(
    faces: str | Path, output: str | Path, settings: Settings, *, workers: int = 1
) -> dict[str, Any]:
    """Write a whole data set; its numbers.

    Args: faces: a data set of aligned faces in any layout that training reads.
    """
    folder = Path(output)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"output: {folder} is not empty. Name another folder.")
    make_folder(folder)
    records: list[dict[str, Any]] = []
    for made in _in_parallel(
        partial(write_person, folder, settings), read_people(faces, settings.seed), workers
    ):
        records += made
    return _describe(folder, settings, records)


def read_people(faces: str | Path, seed: int) -> list[Person]:
    """Everybody of a data set, sorted, with the splits that it has or that are drawn from the seed."""
    data = load_face_data(DataConfig(data_dir=str(faces), min_images=1), seed)
    people = []
    for split in SPLITS:
        found = getattr(data, split)
        first = {}
        for person, family in zip(found.people, found.family_of.tolist(), strict=True):
            first.setdefault(family, person)
            people.append((person, first[family], split, found))
    images = {split: getattr(data, split).images_of() for split in SPLITS}
    return sorted(Person(person, family, split, images[split][person]) for person, family, split, _ in people)


def _in_parallel(work: Any, people: Sequence[Person], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers <= 1:
        yield from map(work, people)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_worker) as pool:
        with interrupts_held():
            results = pool.map(work, people, chunksize=4)
        yield from results


def write_person(folder: Path, settings: Settings, person: Person) -> list[dict[str, Any]]:
    """One person's edited selves; a record of each photograph, and of each that was left out."""
    seen, records = look_at(person, settings)
    copies = groups_of_copies([each.pixels for each in seen])
    pictures = len(seen) - sum(len(group) - 1 for group in copies)
    selves = settings.selves if pictures >= settings.selves * settings.min_images else 1
    for half, numbers in enumerate(deal(len(seen), copies, selves, settings.seed, person.name)):
        name = person.name + _LETTERS[half]
        edit = draw_edit(settings.seed, person.name, half).scaled(settings.strength)
        for number, chosen in enumerate(numbers):
            path = Path(person.split, name, f"{name}_{number:03d}.jpg")
            pixels = apply_edit(seen[chosen].pixels, seen[chosen].camera, edit)
            _save(folder / path, pixels, settings.jpeg_quality)
            records.append(_record(path, name, half, person, seen[chosen]))
    return records


def look_at(person: Person, settings: Settings) -> tuple[list[Seen], list[dict[str, Any]]]:
    """Photographs that can be edited, and a record of each that cannot, with the reason."""
    detector = _detector()
    seen, left_out = [], []
    for path in person.paths:
        pixels = decode_pixels(read_bytes(path), str(path))
        found = _seen(path, pixels, detector, settings)
        if isinstance(found, Seen):
            seen.append(found)
        else:
            left_out.append({"source": str(path), "source_person": person.name, "left_out": found})
    return seen, left_out


_DETECTORS: list[FaceDetector] = []  # of this process


def _detector() -> FaceDetector:
    if not _DETECTORS:
        _DETECTORS.append(FaceDetector())
    return _DETECTORS[0]


def _seen(path: Path, pixels: Pixels, detector: FaceDetector, settings: Settings) -> "Seen | str":
    """The photograph, or why its face cannot be edited."""
    faces = detector.detect(pixels)
    if not faces:
        return "no face found"
    middle = np.array(pixels.shape[1::-1]) / 2
    face = max(
        faces, key=lambda face: face.box[2] * face.box[3] / (1 + np.hypot(*(face.landmarks[2] - middle)))
    )
    if face.score < settings.min_score:
        return "doubtful face"
    camera = fit_camera(face.landmarks)
    if abs(camera.yaw) > settings.max_yaw:
        return "turned too far"
    if camera.misfit > settings.max_misfit:
        return "landmarks unlike a face's"
    return Seen(path, pixels, face.landmarks, face.score, camera)


def _save(path: Path, pixels: Pixels, quality: int) -> None:
    make_folder(path.parent)
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, format="JPEG", quality=quality, subsampling=_SUBSAMPLING)


def _record(path: Path, name: str, half: int, person: Person, seen: Seen) -> dict[str, Any]:
    return {
        "path": path.as_posix(), "person": name, "half": half, "source": str(seen.path), "source_person": person.name,
        "source_family": person.family, "split": person.split, "landmarks": seen.landmarks.round(2).tolist(),
        "yaw": round(seen.camera.yaw, 1), "pitch": round(seen.camera.pitch, 1),
        "misfit": round(seen.camera.misfit, 4), "score": round(seen.score, 3),
    }  # fmt: skip


def _describe(folder: Path, settings: Settings, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON files of a complete set; its numbers."""
    info: dict[str, list[str]] = {}
    of_source: dict[str, dict[str, None]] = {}
    source_family: dict[str, str] = {}
    left_out: dict[str, int] = {}
    for record in records:
        if "left_out" in record:
            left_out[record["left_out"]] = left_out.get(record["left_out"], 0) + 1
            continue
        info.setdefault(record["person"], []).append(record["path"])
        of_source.setdefault(record["source_person"], {})[record["person"]] = None
        source_family[record["person"]] = record["source_family"]
    pairs = [list(pair) for people in of_source.values() for pair in combinations(people, 2)]
    numbers = {
        "people": len(info), "twin_pairs": len(pairs), "images": sum(map(len, info.values())), "left_out": left_out,
    }  # fmt: skip
    with replacing(folder / META_NAME) as file:
        for record in records:
            file.write((json.dumps(record, separators=(",", ":")) + "\n").encode())
    write_text(folder / SOURCES_NAME, json.dumps(source_family, indent=0) + "\n")
    write_text(folder / "dataset_infor.json", json.dumps(info, indent=1) + "\n")
    write_text(folder / "twin_pairs_infor.json", json.dumps(pairs) + "\n")
    write_text(folder / SETTINGS_NAME, json.dumps({"settings": asdict(settings), **numbers}, indent=1) + "\n")
    return numbers
