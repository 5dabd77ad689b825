"""What an earlier evaluation left in a folder: files of two evaluations never stand beside each other."""

import itertools
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_dcal.files import make_folder

logger = logging.getLogger(__name__)

REPORT_NAME = "evaluation_report.json"
EARLIER = "earlier"
_ALWAYS = (
    REPORT_NAME, "evaluation_summary.txt", "families.csv", "people.csv", "worst_pairs.csv", "embeddings.npz",
)  # fmt: skip
_ON_REQUEST = ("report.html", "explanations.json", "explanations.md")
_FOLDERS = ("visualizations", "examples")
_PICTURES = (".png", ".pdf", ".svg", ".jpg")


def make_room(folder: str | Path, about: Mapping[str, Any]) -> Path | None:
    """Clear a folder for an evaluation: one of the same system on the same data is replaced, another is moved to a
    folder of its own below `earlier`, and that is said.

    Args: about: what the report says of system and data. Returns where the other one was moved to, if one was.
    """
    home = Path(folder)
    report = home / REPORT_NAME
    if not report.is_file():
        return None
    if _is_same(_read(report), about):
        for path in _left_over(home):
            path.unlink()
        return None
    target = _unused(home / EARLIER / time.strftime("%Y%m%d-%H%M%S", time.localtime(report.stat().st_mtime)))
    make_folder(target)
    for name in (*_ALWAYS, *_ON_REQUEST, *_FOLDERS):
        if (home / name).exists():
            (home / name).rename(target / name)
    logger.info("%s held another evaluation, which is in %s now", home, target)
    return target


def _read(report: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_same(told: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether two reports are of the same data, and of models, embeddings or scores with the same content."""

    def content(values: Mapping[str, Any]) -> list[Any]:
        parts = [values.get(name) for name in ("model", "embeddings", "scores")]
        hashes = [part.get("sha256") if isinstance(part, dict) else None for part in parts]
        return [values.get("test_data"), values.get("feature_type"), *hashes]

    return content(told) == content(about)


def _left_over(home: Path) -> Iterator[Path]:
    """Files that an evaluation writes when it is asked to, and that would stay beside the next one's."""
    yield from (path for name in _ON_REQUEST if (path := home / name).is_file())
    for folder in _FOLDERS:
        if (home / folder).is_dir():
            yield from [path for path in (home / folder).iterdir() if path.suffix in _PICTURES]


def _unused(path: Path) -> Path:
    names = (
        path if number == 1 else path.with_name(f"{path.name}-{number}") for number in itertools.count(1)
    )
    return next(name for name in names if not name.exists())
