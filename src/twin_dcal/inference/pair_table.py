"""A table of pairs to a table of decisions: each picture once, faults as rows, and on from where it was interrupted."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from twin_dcal.data.paths import found_from
from twin_dcal.data.tables import column_names
from twin_dcal.errors import ManifestError
from twin_dcal.files import make_folder, open_own, refuse_own_input, remove_half_written, replacing, writing
from twin_dcal.locking import locked
from twin_dcal.plural import plural
from twin_dcal.progress import ProgressBar

from .aligning import Faces
from .pictures import EmbeddedOnce
from .records import Records, check_results, path_in, read_table
from .result import RESULT_KEYS

if TYPE_CHECKING:
    from .engine import TwinInferenceEngine

logger = logging.getLogger(__name__)

COLUMNS = ("img1", "img2")
_AT_ONCE = 64  # pairs between two lines of progress and two writes


def verify_table(
    engine: "TwinInferenceEngine", table: Any, output: str | Path | None = None, *,
    faces: Faces = "largest", progress: bool = False,
) -> Records:  # fmt: skip
    """Decide on the pairs of a table (see `TwinInferenceEngine.verify_table`)."""
    folder = Path(table).parent if isinstance(table, str | Path) else Path()
    rows = read_table(table, COLUMNS)
    if not rows:
        raise ManifestError("the table has no pair in it")
    own = set(column_names([*RESULT_KEYS, "img1_path", "img2_path", "error"]))
    taken = [
        name.strip() for name, small in zip(rows[0], column_names(list(rows[0])), strict=True) if small in own
    ]
    if taken:
        raise ManifestError(
            f"the table has a column {taken[0]}, as results have (capitals do not count); give it another name"
        )
    pairs = [
        (found_from(path_in(row, "img1", place), folder), found_from(path_in(row, "img2", place), folder))
        for place, row in zip(rows.places, rows, strict=True)
    ]
    if output is None:
        return _decided(engine, rows, pairs, [], None, faces, progress)
    path = check_results(output)
    refuse_own_input(path, "--output", table if isinstance(table, str | Path) else None)
    with locked(path.with_name(f".{path.name}.lock"), f"writing {path}", "--output", path):
        beside = path.with_name(f".{path.name}.partial")
        key = _key(engine, rows, pairs, faces)
        remove_half_written(beside.parent, beside.name)
        done = _read_partial(beside, key, rows)
        if done:
            logger.info("going on after %s of an interrupted run", plural(len(done), "pair"))
        with _appending(beside, key, done) as file:
            results = _decided(engine, rows, pairs, done, file, faces, progress)
        results.write(path)
        beside.unlink()
    return results


def _decided(
    engine: "TwinInferenceEngine", rows: Records, pairs: list[tuple[str, str]], done: list[dict[str, Any]],
    file: IO[str] | None, faces: Faces, progress: bool,
) -> Records:  # fmt: skip
    results, known = Records(done), EmbeddedOnce(engine.embedder)
    with ProgressBar(len(pairs), "comparing", "pairs", done=len(done), shown=progress) as bar:
        for start in range(len(done), len(pairs), _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, len(pairs)))
            told = engine.decide_pairs([pairs[at] for at in part], known, faces)
            new = [{**rows[at], **each} for at, each in zip(part, told, strict=True)]
            if file is not None:
                file.writelines(json.dumps(each, default=str) + "\n" for each in new)
                file.flush()
            results += new
            bar.update(len(part))
    return results


def _key(
    engine: "TwinInferenceEngine", rows: Records, pairs: list[tuple[str, str]], faces: Faces
) -> str:  # fmt: skip
    """Changes with the model, how it decides, the table, and the size or time of any picture."""
    deciding = engine.deciding
    told = [engine.source.sha256, engine.align, deciding.threshold, dict(deciding.origin), faces, rows]
    hashed = hashlib.sha256(json.dumps(told, default=str, sort_keys=True).encode("utf-8", "surrogateescape"))
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        try:
            info = Path(name).stat()
            hashed.update(f"{info.st_size} {info.st_mtime_ns}\n".encode())
        except (OSError, ValueError):
            hashed.update(b"\n")
    return hashed.hexdigest()


def _read_partial(path: Path, key: str, rows: Records) -> list[dict[str, Any]]:
    """What an interrupted run of the same work had decided, up to the last whole line, or to where a crash of the
    machine left something else; nothing of other work."""
    if not path.is_file() or path.is_symlink():
        return []
    head, *lines = path.read_text("utf-8", errors="replace").split("\n")
    if head != json.dumps(key):
        return []
    done: list[dict[str, Any]] = []
    for line, row in zip(lines[:-1], rows, strict=False):  # the last one is empty, or half a line
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(told, dict) or not {*row, "error"} <= set(told):
            break
        done.append({**told, **row})  # with times and decimals as they are, which JSON has as text
    return done


@contextmanager
def _appending(path: Path, key: str, done: list[dict[str, Any]]) -> Iterator[IO[str]]:
    """The file for what is decided from now on, begun anew with what was decided before."""
    make_folder(path.parent)
    with writing(path):
        with replacing(path) as whole:
            lines = (json.dumps(each, default=str) + "\n" for each in (key, *done))
            whole.writelines(line.encode() for line in lines)
        with os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8") as file:
            yield file
