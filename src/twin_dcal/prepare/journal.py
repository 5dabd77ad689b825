"""What is known of photos already worked on: a JSON line each, appended while working, so that a stop loses little."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from twin_dcal.files import open_own, write_text, writing

from .photo import Record

STATE, JOURNAL, CROPS, PLACED = ".prepare", "journal.jsonl", "crops", "placed.json"


def read_journal(path: Path) -> dict[str, Record]:
    """Records by key; a line that a stop cut short, or that somebody changed into something else, is passed over."""
    records: dict[str, Record] = {}
    if not path.is_file():
        return records
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
                if isinstance(record, dict) and _is_whole(record):
                    records[record["key"]] = record
            except ValueError:
                continue
    return records


def open_journal(path: Path) -> IO[str]:
    """For appending, readable by the owner only; the first new line begins on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND), "a", encoding="utf-8")
    if file.tell():
        file.write("\n")
    return file


def append(file: IO[str], record: Record) -> None:
    with writing(file.name):
        file.write(_line(record))
        file.flush()


def compact(path: Path, records: Iterable[Record]) -> None:
    """Leave these records only, in order of their keys."""
    by_key = {record["key"]: record for record in records if record["key"]}
    write_text(path, "".join(_line(by_key[key]) for key in sorted(by_key)))


def _line(record: Record) -> str:
    return json.dumps(record, separators=(",", ":"), sort_keys=True) + "\n"


def _is_whole(record: Record) -> bool:
    """Whether the fields that others rely on are there, and crops lie where this package puts them."""
    faces = record.get("faces")
    if not isinstance(record.get("key"), str) or not isinstance(faces, list) or "fault" not in record:
        return False
    return all(
        isinstance(face, dict) and isinstance(face.get("quality"), dict) and _is_ours(face.get("crop"))
        and all(isinstance(face.get(name), str) for name in ("crop_sha256", "hash", "mirrored_hash"))
        for face in faces
    )  # fmt: skip


def _is_ours(name: object) -> bool:
    folder, slash, file = name.partition("/") if isinstance(name, str) else ("", "", "")
    return (
        bool(slash)
        and (folder + file.partition("-")[0]).isalnum()
        and "/" not in file
        and file.endswith(".jpg")
    )
