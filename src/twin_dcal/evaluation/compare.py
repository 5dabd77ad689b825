"""Two or more systems on the same pairs: their differences with intervals, as tables and as curves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.files import is_file, write_text
from twin_dcal.jsontext import parse_json
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.intervals import Intervals
from twin_dcal.metrics.pair_stream import SECTIONS, AllPairs, ListedPairs, PairSource, count_pairs
from twin_dcal.metrics.paired import (
    Comparison,
    Difference,
    holm,
    leave_out_of_both,
    paired_intervals,
    paired_rates,
    rates_of,
)
from twin_dcal.plural import plural
from twin_dcal.progress import track

from .comparison_table import markdown, part_of
from .earlier import make_room_for_comparison
from .embedding_files import read_embeddings
from .evaluate import EvaluationOptions, intervals_of
from .inputs import DataFiles
from .match_names import rows_of_images
from .protocol import fingerprint
from .result import Figures
from .sampling import Sampling
from .score_files import is_scores_file, read_scores
from .systems import EmbeddingsSystem, Scored, ScoresSystem, System

SCHEMA_VERSION = 1
CURVE_POINTS = 200


@dataclass(frozen=True, eq=False)
class Run:
    """A system's scores under a name."""

    name: str
    scored: Scored


def find_run(path: str) -> Path:
    """The embeddings or scores of an evaluation's folder, or the file itself. ConfigError where there are none."""
    place = Path(path)
    if place.is_file():
        return place
    names = ("embeddings.npz", "scores.parquet", "scores.csv")
    for folder in (place, place / "evaluation"):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    report = place / "evaluation_report.json"
    if report.is_file():
        scores = _scores_of(report)
        if scores is not None:
            return scores
    if (place / "best_model.pth").is_file():
        return place / "best_model.pth"
    raise ConfigError(
        f"--compare {path}: neither a file nor a folder with embeddings.npz, scores.csv, scores.parquet or "
        "best_model.pth. Name the --output_dir of an evaluation."
    )


def _scores_of(report: Path) -> Path | None:
    """The file of scores that an evaluation was made of; None where its report names none. ConfigError for a report
    that is damaged."""
    try:
        told = parse_json(report.read_text("utf-8"), report)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--compare: {report} is damaged ({error}). Evaluate anew.") from None
    scores = told.get("scores") if isinstance(told, dict) else None
    name = scores.get("path") if isinstance(scores, dict) else None
    return Path(name) if isinstance(name, str) and is_file(name) else None


def open_stored(path: Path, files: DataFiles, sampling: Sampling) -> System:
    """Embeddings or scores of a file."""
    if is_scores_file(path):
        return ScoresSystem(read_scores(path, files.strict), files)
    return EmbeddingsSystem(read_embeddings(path, keep_failed=True), files, sampling)


def aligned(first: Run, other: Run) -> tuple[PairSource, PairSource]:
    """Both runs' scores of the same pairs in the same order. MetricError where the pairs are not the same."""
    a, b = first.scored.comparisons, other.scored.comparisons
    rows = rows_of_images(b.names, a.names, other.name, first.name)
    if len(rows) != len(b.names):
        raise MetricError(
            f"{first.name} and {other.name}: {len(a.names)} and "
            f"{plural(len(b.names), 'image')}. Evaluate both on the same pairs."
        )
    _refuse_other_people(first, other, rows)
    people, families = (
        theirs[rows] if mine is None and theirs is not None else mine
        for mine, theirs in ((a.people, b.people), (a.families, b.families))
    )
    vectors = other.scored.vectors
    if a.pairs is None and b.pairs is None and not (vectors is None or people is None or families is None):
        return first.scored.source, AllPairs(vectors[rows], people, families, other.scored.fusion)
    one, two = _listed_alike(first, other, rows)
    low, high = one.keys // len(rows), one.keys % len(rows)
    made = (
        ListedPairs(each.scores, one.kinds, low, high, people=people, families=families)
        for each in (one, two)
    )
    return next(made), next(made)


def compare(runs: Sequence[Run], effort: EvaluationOptions) -> Figures:
    """Every run's figures with intervals and curve, and its differences to the first run. Plain values.

    Figures: EER and AUC, FNMR and TAR where the FMR is at most 0.01, 0.001 and 0.0001, and the headline. p-values of
    one figure are also given as Holm corrects them for the number of runs that are compared with the first.
    """
    told = [_alone(run, effort) for run in track(runs, "judging", "runs")]
    differences = []
    for other, figures in track(list(zip(runs[1:], told[1:], strict=True)), "comparing", "runs"):
        pair = aligned(runs[0], other)
        if effort.num_replicates:
            both = leave_out_of_both(*pair, seed=effort.seed)
            found = _difference(paired_intervals(*pair, both=both), paired_rates(*pair, both=both))
        else:
            found = _difference_alone(told[0], figures)
        differences.append({"run": other.name, "against": runs[0].name, **found})
    _correct(differences)
    compared = fingerprint(runs[0].scored.comparisons)
    return {
        "schema_version": SCHEMA_VERSION,
        "compared_sha256": compared,
        "runs": told,
        "differences": differences,
    }


def write_comparison(comparison: Figures, folder: str | Path) -> Path:
    """Write comparison.json (with curves) and comparison.md; the path of the latter. A comparison of other systems or
    pairs that the folder holds is moved to a folder of its own."""
    home = Path(folder)
    make_room_for_comparison(home, comparison)
    write_text(
        home / "comparison.json", json.dumps(comparison, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    )
    write_text(home / "comparison.md", markdown(comparison))
    return home / "comparison.md"


@dataclass(frozen=True, eq=False)
class ListedRun:
    """Pairs (P,) in one order: key low row * N + high row, kind, score."""

    keys: NDArray[np.int64]
    kinds: NDArray[np.int8]
    scores: NDArray[np.floating[Any]]


def _listed(scored: Scored, row_of: NDArray[np.int64]) -> ListedRun:
    """The pairs of a run sorted by image rows. Args: row_of (N,): the common row of each of its images."""
    blocks = list(scored.source.blocks())
    first, second = (
        row_of[np.concatenate([getattr(b, side) for b in blocks])] for side in ("first", "second")
    )
    keys = np.minimum(first, second) * row_of.size + np.maximum(first, second)
    order = np.argsort(keys, kind="stable")
    kinds, scores = np.concatenate([b.kind for b in blocks]), np.concatenate([b.score for b in blocks])
    return ListedRun(keys[order], kinds[order], scores[order])


def listed_together(runs: Sequence[Run]) -> list[ListedRun]:
    """The pairs of every run in one order, by the image rows of the first. MetricError unless they are the same."""
    first = runs[0]
    if len(runs) == 1:
        return [_listed(first.scored, np.arange(len(first.scored.comparisons.names)))]
    found: list[ListedRun] = []
    for other in runs[1:]:
        rows = rows_of_images(
            other.scored.comparisons.names, first.scored.comparisons.names, other.name, first.name
        )
        _refuse_other_people(first, other, rows)
        one, two = _listed_alike(first, other, rows)
        found = [*(found or [one]), two]
    return found


def _listed_alike(first: Run, other: Run, rows: NDArray[np.intp]) -> tuple[ListedRun, ListedRun]:
    """Both runs' pairs in one order. MetricError where they are not the same pairs of the same kinds."""
    num_first, num_other = (run.scored.source.num_pairs for run in (first, other))
    other_pairs = MetricError(
        f"{first.name} and {other.name} do not hold the same pairs ({num_first:,} and {num_other:,}). "
        "Evaluate both on the same pairs."
    )
    if num_first != num_other:
        raise other_pairs
    row_of = np.empty(len(rows), np.int64)
    row_of[rows] = np.arange(len(rows))
    one, two = _listed(first.scored, np.arange(len(rows))), _listed(other.scored, row_of)
    if not np.array_equal(one.keys, two.keys):
        raise other_pairs
    if not np.array_equal(one.kinds, two.kinds):
        raise MetricError(
            f"{first.name} and {other.name} disagree on which pairs are genuine, twin or unrelated."
        )
    return one, two


def _refuse_other_people(first: Run, other: Run, rows: NDArray[np.intp]) -> None:
    """MetricError where the two name people or families differently in more than words."""
    for field in ("people", "families"):
        mine, theirs = getattr(first.scored.comparisons, field), getattr(other.scored.comparisons, field)
        if mine is None or theirs is None:
            continue
        both = len({*zip(mine.tolist(), theirs[rows].tolist(), strict=True)})
        if not both == np.unique(mine).size == np.unique(theirs).size:
            raise MetricError(f"{first.name} and {other.name} disagree on the {field} of the images.")


def _alone(run: Run, effort: EvaluationOptions) -> Figures:
    counts = count_pairs(run.scored.source)
    intervals = intervals_of(run.scored.source, counts, None, effort)
    sections = {}
    for name in SECTIONS:
        if counts.has(name):
            scores = counts.section(name)
            ends = _ends(intervals, name)
            sections[name] = {
                "eer": error_rates.eer(scores).eer, "roc_auc": error_rates.auc(scores), "intervals": ends,
                "num_genuine": scores.num_genuine, "num_impostors": scores.num_impostors, "curve": _curve(scores),
            }  # fmt: skip
    headline: dict[str, float] = {}
    for (name, figure), value in rates_of(counts).items():
        (headline if name == "headline" else sections[name])[figure] = value
    return {
        "name": run.name, "sections": sections, "headline": headline, "warnings": list(run.scored.comparisons.warnings),
    }  # fmt: skip


def _ends(intervals: Intervals | None, section: str) -> dict[str, list[float]]:
    found = intervals.figures.get(section, {}) if intervals else {}
    wanted = ("eer", "roc_auc", *(name for name in found if name.startswith(("fnmr_at", "tar_at"))))
    return {name: [found[name].low, found[name].high] for name in wanted if name in found}


def _curve(scores: error_rates.CountedScores) -> Mapping[str, list[float]]:
    """At most 400 exact points of the DET curve, even along both axes."""
    points = error_rates.roc(scores, corners_only=True)
    wanted = np.geomspace(1 / scores.num_impostors, 1, CURVE_POINTS)
    by_fmr = np.searchsorted(points.fmr, wanted, side="right") - 1
    by_fnmr = np.searchsorted(-points.fnmr, -np.linspace(1, 0, CURVE_POINTS))
    chosen = np.unique(np.concatenate([[0], by_fmr, np.minimum(by_fnmr, points.fnmr.size - 1)]))
    return {"fmr": points.fmr[chosen].tolist(), "fnmr": points.fnmr[chosen].tolist()}


def _difference(pair: Comparison, rates: Mapping[tuple[str, str], Difference]) -> Figures:
    """Other run minus first run: what the jackknife gives, turned round."""
    sections = {
        section: {name: _turned(each) for name, each in figures.items()}
        for section, figures in pair.differences.items()
    }
    for (section, name), each in rates.items():
        sections.setdefault(section, {})[name] = _turned(each)
    return {
        "level": pair.level, "method": pair.method, "num_families": pair.num_families,
        "num_replicates": pair.num_units, "seed": pair.seed, "sections": sections,
        "refusals": dict(pair.refusals),
    }  # fmt: skip


def _difference_alone(first: Figures, other: Figures) -> Figures:
    """Other run minus first run, without intervals."""
    parts = {**other["sections"], "headline": other["headline"]}
    sections = {
        section: {
            name: {"difference": value - part_of(first, section)[name]}
            for name, value in figures.items()
            if name in ("eer", "roc_auc", "twin_fmr", "fnmr") or name.startswith(("fnmr_at", "tar_at"))
        }
        for section, figures in parts.items()
    }
    return {"num_replicates": 0, "sections": sections, "refusals": {}}


def _correct(differences: Sequence[Figures]) -> None:
    """Add to every p-value the one that Holm's correction makes of it, over the runs compared in the same figure."""
    figures: dict[tuple[str, str], list[Figures]] = {}
    for each in differences:
        for section, told in each["sections"].items():
            for name, found in told.items():
                if "p_value" in found:
                    figures.setdefault((section, name), []).append(found)
    for several in figures.values():
        for found, p_value in zip(several, holm([found["p_value"] for found in several]), strict=True):
            found["p_value_holm"] = p_value


def _turned(each: Difference) -> Figures:
    ends = {"difference": 0.0 - each.difference, "low": 0.0 - each.high, "high": 0.0 - each.low}  # no -0.0
    return {**ends, "p_value": each.p_value}
