"""SynTwins as a data set on disk: the standard layout, and what no real set has, the truth about every image.

Families are drawn one by one, by any number of processes, and a note is left of each that is whole; a run that was
stopped goes on with the others. Descriptions are written last, from the notes.
"""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twin_dcal.errors import ConfigError
from twin_dcal.files import replacing, write_text, writing
from twin_dcal.locking import locked
from twin_dcal.progress import ProgressBar
from twin_dcal.workers import begin_worker, interrupts_held

from .difference import difference_map
from .folder import LOCK_NAME, MASKS_NAME, META_NAME, NOTES_NAME, claim, is_complete
from .known import Known, know
from .photo import draw_photo
from .settings import Settings, mask_name, person_id, photo_name

__all__ = ["Settings", "generate", "write_family"]

_PAIRS = 5  # first entry of generator keys
_DIGITS = 6  # significant ones, in meta.jsonl


def generate(
    output: str | Path, settings: Settings, *, workers: int = 1, resume: bool = False, overwrite: bool = False
) -> int:
    """Write a whole data set; the number of images.

    Args: workers: processes; with more than one, a script must keep its own start under `if __name__ == "__main__"`.
    ConfigError for a folder that holds something else, a set of other settings, or that another process draws into;
    OSError for a full disk.
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output: {folder} is a file; name a folder.")
    with locked(folder / LOCK_NAME, f"drawing into {folder}", "--output"):
        return _generate(folder, settings, workers, resume, overwrite)


def _generate(folder: Path, settings: Settings, workers: int, resume: bool, overwrite: bool) -> int:
    claim(folder, settings, resume=resume, overwrite=overwrite)
    if is_complete(folder):
        return sum(map(len, json.loads((folder / "dataset_infor.json").read_text()).values()))
    missing = [family for family in range(settings.families) if not _note_of(folder, family).is_file()]
    done = settings.families - len(missing)
    with ProgressBar(settings.families, "drawing", "families", done=done) as bar:
        for _ in _in_parallel(folder, settings, missing, workers):
            bar.update()
    return _describe(folder, settings)


def _in_parallel(folder: Path, settings: Settings, families: Sequence[int], workers: int) -> Iterator[None]:
    if workers <= 1 or len(families) <= 1:
        for family in families:
            write_family(folder, settings, family)
            yield
        return
    with ExitStack() as stack:
        pool = stack.enter_context(
            ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_worker)
        )
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)  # runs first: an error stops the rest
        with interrupts_held():
            waiting = [pool.submit(write_family, folder, settings, family) for family in families]
        for future in as_completed(waiting):
            future.result()
            yield


def write_family(folder: Path, settings: Settings, family: int) -> None:
    """Draw, photograph and write one family; its notes last, as the sign that it is whole."""
    members = know(settings.people_of(family), settings.texels)
    records = [record for known in members for record in _write_photos(folder, settings, known)]
    for one, other in combinations(members, 2):
        pixels = difference_map(
            (one.person, one.maps), (other.person, other.maps), one.frame, settings.image_size
        )
        path = folder / MASKS_NAME / mask_name(family, one.person.twin, other.person.twin)
        path.parent.mkdir(exist_ok=True)
        with writing(path):
            Image.fromarray(pixels).save(path)
    lines = [json.dumps(_rounded(record), separators=(",", ":")) + "\n" for record in records]
    write_text(_note_of(folder, family), "".join(lines))


def _write_photos(folder: Path, settings: Settings, known: Known) -> Iterator[dict[str, Any]]:
    """One person's photos; a record of each for meta.jsonl."""
    family, twin = known.person.family, known.person.twin
    home = Path(settings.split_of(family), person_id(family, twin))
    (folder / home).mkdir(parents=True, exist_ok=True)
    for number in range(settings.images):
        photo = draw_photo(settings.seed, family, twin, number, settings.level)
        pixels, points = known.take(photo, settings.image_size)
        path = home / photo_name(family, twin, number)
        with writing(folder / path):
            Image.fromarray(pixels).save(folder / path, quality=photo.quality, subsampling=0)
        yield {
            "path": path.as_posix(),
            "person": home.name,
            "family": family,
            "twin": twin,
            "number": number,
            "landmarks": points.tolist(),
            "photo": photo._asdict(),
            "geometry": known.person.geometry._asdict(),
            "skin": known.person.skin._asdict(),
            "marks": [mark._asdict() for mark in known.person.marks],
        }


def _rounded(value: Any) -> Any:
    """The same with every float cut to few digits: half the size, and far finer than a pixel."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value


def _note_of(folder: Path, family: int) -> Path:
    return folder / NOTES_NAME / f"{family}.jsonl"


def _describe(folder: Path, settings: Settings) -> int:
    """The JSON files of a complete set, then no more notes; the number of images."""
    info: dict[str, list[str]] = {}
    members: dict[int, dict[str, None]] = {}
    with replacing(folder / META_NAME) as file:
        for family in range(settings.families):
            text = _note_of(folder, family).read_text()
            file.write(text.encode())
            for record in map(json.loads, text.splitlines()):
                info.setdefault(record["person"], []).append(record["path"])
                members.setdefault(family, {})[record["person"]] = None
    pairs = [list(pair) for people in members.values() for pair in combinations(people, 2)]
    tested = [list(people) for family, people in members.items() if settings.split_of(family) == "test"]
    write_text(folder / "dataset_infor.json", json.dumps(info, indent=1) + "\n")
    write_text(folder / "twin_pairs_infor.json", json.dumps(pairs) + "\n")
    test_pairs = _test_pairs(info, tested, settings.seed)
    write_text(folder / "test_pairs.json", json.dumps(test_pairs, indent=0) + "\n")
    _remove_notes(folder)
    return sum(map(len, info.values()))


def _remove_notes(folder: Path) -> None:
    for note in (folder / NOTES_NAME).iterdir():
        note.unlink()
    (folder / NOTES_NAME).rmdir()


def _test_pairs(info: dict[str, list[str]], families: list[list[str]], seed: int) -> list[dict[str, Any]]:
    """All genuine and twin pairs of the test families, and up to as many unrelated ones as genuine."""
    genuine = [pair for people in families for person in people for pair in combinations(info[person], 2)]
    twins = [
        (mine, yours)
        for people in families
        for one, other in combinations(people, 2)
        for mine in info[one]
        for yours in info[other]
    ]
    photos = [[path for person in people for path in info[person]] for people in families]
    rng = np.random.default_rng((_PAIRS, seed))
    unrelated: dict[tuple[str, str], None] = {}
    for _ in range(len(genuine) if len(families) > 1 else 0):
        one, other = sorted(rng.choice(len(families), 2, replace=False).tolist())
        pair = (photos[one][rng.integers(len(photos[one]))], photos[other][rng.integers(len(photos[other]))])
        unrelated[pair] = None
    labelled = [(pair, 1) for pair in genuine] + [(pair, 0) for pair in (*twins, *unrelated)]
    return [{"img1": one, "img2": other, "label": label} for (one, other), label in labelled]
