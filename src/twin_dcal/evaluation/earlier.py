"""What an earlier evaluation left in a folder: files of two evaluations never stand beside each other."""

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_dcal.files import make_folder
from twin_dcal.jsontext import parse_json

logger = logging.getLogger(__name__)

REPORT_NAME = "evaluation_report.json"
EARLIER = "earlier"
_ALWAYS = (
    REPORT_NAME, "evaluation_summary.txt", "families.csv", "people.csv", "worst_pairs.csv", "embeddings.npz",
)  # fmt: skip
_ON_REQUEST = ("report.html", "explanations.json", "explanations.md")
_FOLDERS = ("visualizations", "examples")
_PICTURES = (".png", ".pdf", ".svg", ".jpg")
COMPARISON_NAME = "comparison.json"
_COMPARISON = (
    COMPARISON_NAME, "comparison.md", "comparison.html", "disagreements.csv",
    *(f"visualizations/comparison_det{ending}" for ending in (".png", ".pdf", ".svg")),
)  # fmt: skip


def make_room(folder: str | Path, about: Mapping[str, Any]) -> Path | None:
    """Clear a folder for an evaluation: one of the same system on the same pairs is replaced, another is moved to a
    folder of its own below `earlier`, and that is said.

    Args: about: what the report says of system and data. Returns where the other one was moved to, if one was.
    """
    home = Path(folder)
    if not (home / REPORT_NAME).is_file():
        return None
    if _content(_read(home / REPORT_NAME)) == _content(about):
        for path in _left_over(home):
            path.unlink()
        return None
    return _move(home, REPORT_NAME, "evaluation", (*_ALWAYS, *_ON_REQUEST, *_FOLDERS))


def make_room_for_comparison(folder: str | Path, comparison: Mapping[str, Any]) -> Path | None:
    """Likewise for a comparison: one of the same systems on the same pairs is replaced, another is moved."""
    home = Path(folder)
    if not (home / COMPARISON_NAME).is_file():
        return None
    if _systems(_read(home / COMPARISON_NAME)) == _systems(comparison):
        return None
    return _move(home, COMPARISON_NAME, "comparison", _COMPARISON)


def _move(home: Path, report: str, kind: str, names: Sequence[str]) -> Path:
    """Move these files to a folder that is named after the time of the report."""
    written = time.localtime((home / report).stat().st_mtime)
    target = _unused(home / EARLIER / time.strftime("%Y%m%d-%H%M%S", written))
    for name in names:
        if (home / name).exists():
            make_folder((target / name).parent)
            (home / name).rename(target / name)
    logger.info("%s held another %s, which is in %s now", home, kind, target)
    return target


def _read(report: Path) -> Mapping[str, Any]:
    try:
        values = parse_json(report.read_text(encoding="utf-8"), report)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _content(told: Mapping[str, Any]) -> list[Any]:
    """What tells an evaluation from another: which pairs, and the content of model, embeddings or scores."""
    parts = [told.get(name) for name in ("model", "embeddings", "scores")]
    hashes = [part.get("sha256") if isinstance(part, dict) else None for part in parts]
    return [*(told.get(name) for name in ("test_data", "compared_sha256", "feature_type")), *hashes]


def _systems(comparison: Mapping[str, Any]) -> list[Any]:
    """What tells a comparison from another: which pairs, and the systems' names."""
    runs = comparison.get("runs")
    names = [run.get("name") for run in runs if isinstance(run, dict)] if isinstance(runs, list) else None
    return [comparison.get("compared_sha256"), names]


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
