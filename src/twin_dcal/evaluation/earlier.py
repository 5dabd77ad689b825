"""What an earlier evaluation left in a folder: files of two evaluations never stand beside each other.

Only files with names that evaluations write are touched, never what a link of that name leads to: whatever else is in
the folder is somebody's own.
"""

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder
from twin_dcal.jsontext import parse_json

logger = logging.getLogger(__name__)

REPORT_NAME = "evaluation_report.json"
EARLIER = "earlier"
_ALWAYS = ("evaluation_summary.txt", "families.csv", "people.csv", "worst_pairs.csv", "embeddings.npz")
_ON_REQUEST = (
    "report.html", "explanations.json", "explanations.md", "visualizations/explained_*.png",
    "examples/false_*match_*.jpg",
    *(
        f"visualizations/{stem}.{form}"
        for stem in (
            "roc", "det", "histograms", "confusion", "reliability", "families", "breakdowns", "embedding"
        )
        for form in ("png", "pdf", "svg")
    ),
)  # fmt: skip
COMPARISON_NAME = "comparison.json"
_COMPARISON = (
    "comparison.md", "comparison.html", "disagreements.csv",
    *(f"visualizations/comparison_det.{form}" for form in ("png", "pdf", "svg")),
)  # fmt: skip


def make_room(folder: str | Path, about: Mapping[str, Any]) -> Path | None:
    """Clear a folder for an evaluation: one of the same system on the same pairs is replaced, another is moved to a
    folder of its own below `earlier`, and that is said. So are files of these names without a report beside them, but
    for those that are evaluated.

    Args: about: what the report says of system and data. Returns where the other one was moved to, if one was.
    """
    home = Path(folder)
    report = home / REPORT_NAME
    is_there = report.is_file()
    if is_there and _content(_read(report)) == _content(about):
        gone = list(_present(home, _ON_REQUEST))
        for path in gone:
            path.unlink()
        if gone:
            logger.info("%s: report, plots and examples of the same evaluation are replaced", home)
        return None
    others = [path for path in _present(home, (*_ALWAYS, *_ON_REQUEST)) if not _is_input(path, about)]
    if is_there:
        return _move(home, [*others, report], "another evaluation, which is")
    return _move(home, others, "files of other evaluations or of yours, which are") if others else None


def make_room_for_comparison(folder: str | Path, comparison: Mapping[str, Any]) -> Path | None:
    """Likewise for a comparison: one of the same systems on the same pairs is replaced, another is moved."""
    home = Path(folder)
    if not (home / COMPARISON_NAME).is_file():
        return None
    if _systems(_read(home / COMPARISON_NAME)) == _systems(comparison):
        return None
    return _move(home, [*_present(home, _COMPARISON), home / COMPARISON_NAME], "another comparison, which is")


def _move(home: Path, paths: Sequence[Path], held: str) -> Path:
    """Move files to a folder that is named after the time of the last of them, the report.

    It is moved last: whoever is stopped before that finds it next time, and goes on in the same folder.
    """
    earlier = home / EARLIER
    if (earlier.exists() or earlier.is_symlink()) and not earlier.is_dir():
        raise ConfigError(f"{earlier}: not a folder, and earlier evaluations go there; move it away")
    last = paths[-1]
    written = time.strftime("%Y%m%d-%H%M%S", time.localtime(last.stat().st_mtime))
    target = _unused(earlier / written, last.relative_to(home))
    for path in paths:
        place = target / path.relative_to(home)
        make_folder(place.parent)
        path.rename(place)
    logger.info("%s held %s in %s now", home, held, target)
    return target


def _present(home: Path, names: Sequence[str]) -> Iterator[Path]:
    """Files of these names, with `*` for any part, in the folder itself and not behind links."""
    for name in names:
        for path in sorted(home.glob(name)):
            if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
                yield path


def _is_input(path: Path, about: Mapping[str, Any]) -> bool:
    parts = (about.get(name) for name in ("model", "embeddings", "scores"))
    named = [part.get("path") for part in parts if isinstance(part, dict)]
    return any(isinstance(name, str) and Path(name).exists() and path.samefile(name) for name in named)


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


def _unused(path: Path, name: Path) -> Path:
    """The path, or with a number behind it, where no such file is in it yet."""
    folders = (
        path if number == 1 else path.with_name(f"{path.name}-{number}") for number in itertools.count(1)
    )
    return next(folder for folder in folders if not (folder / name).exists())
