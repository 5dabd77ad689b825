"""The outcome of an ablation in plain values: each variant's figures over seeds, and differences to the first."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from twin_dcal.evaluation.compare import Run, aligned, compare
from twin_dcal.evaluation.evaluate import EvaluationOptions
from twin_dcal.evaluation.result import Figures
from twin_dcal.metrics.averaging import JackknifedRun, jackknife, mean_difference
from twin_dcal.metrics.intervals import COMPARED
from twin_dcal.metrics.pair_stream import SECTIONS

from .variants import Variant

SCHEMA_VERSION = 1
LEVEL = 0.95
METHOD = "paired family jackknife of the mean over seeds, Student t"


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A trained run's scores of the test pairs, and where they are from, in plain values."""

    variant: Variant
    seed: int
    scores: Run
    about: Mapping[str, str]


def summarize(runs: Iterable[ScoredRun], effort: EvaluationOptions) -> Figures:
    """Mean and standard deviation over seeds of EER and AUC, and paired differences to the first variant.

    Args: runs: all seeds of the first variant, then those of the next; the same seeds, in the same order, for each.
        Each is let go before the next is taken, but for the first.
    Returns: what ablation.json holds. MetricError where runs do not score the same pairs.
    """
    jackknifed: dict[Variant, list[JackknifedRun]] = {}
    variants: dict[Variant, Figures] = {}
    warnings: dict[str, None] = {}
    first: Run | None = None
    for run in runs:
        # In the first run's order, so that families have the same numbers, and the same are left out.
        source = run.scores.scored.source if first is None else aligned(first, run.scores)[1]
        first = first or run.scores
        warnings |= dict.fromkeys(run.scores.scored.comparisons.warnings)
        figures = jackknife(source, effort.seed, intervals=effort.num_replicates > 0)
        jackknifed.setdefault(run.variant, []).append(figures)
        start = {"variant": run.variant.name, "branches": list(run.variant.branches), "runs": []}
        told = {"seed": run.seed, **run.about, "sections": _sections(run.scores)}
        variants.setdefault(run.variant, start)["runs"].append(told)
    for each in variants.values():
        each["sections"] = _over_seeds(each["runs"])
    head, *others = jackknifed
    one = jackknifed[head][0]
    return {
        "schema_version": SCHEMA_VERSION,
        "seeds": [each["seed"] for each in variants[head]["runs"]],
        "variants": list(variants.values()),
        "differences": [
            {"variant": other.name, "against": head.name,
             "sections": _differences(jackknifed[other], jackknifed[head])}
            for other in others
        ],
        "warnings": list(warnings),
        "intervals": {
            "level": LEVEL, "method": METHOD, "num_families": one.num_families,
            "num_replicates": max(map(len, one.left_out.values()), default=0), "seed": effort.seed,
            "refusal": one.refusal or None,
        },
    }  # fmt: skip


def _sections(run: Run) -> Figures:
    """A run's own figures and curves; its intervals are in its evaluation_report.json."""
    told: Figures = compare([run], EvaluationOptions(num_replicates=0))["runs"][0]["sections"]
    return {
        name: {key: value for key, value in section.items() if key != "intervals"}
        for name, section in told.items()
    }


def _over_seeds(runs: Sequence[Figures]) -> Figures:
    """Mean and sample standard deviation, the latter None for a single seed; and how many pairs there are."""
    sections: Figures = {}
    for name in (name for name in SECTIONS if name in runs[0]["sections"]):
        parts = [run["sections"][name] for run in runs]
        sections[name] = {key: parts[0][key] for key in ("num_genuine", "num_impostors")}
        for figure in COMPARED:
            values = [part[figure] for part in parts]
            sd = statistics.stdev(values) if len(values) > 1 else None
            sections[name][figure] = {"mean": statistics.fmean(values), "sd": sd}
    return sections


def _differences(ours: Sequence[JackknifedRun], theirs: Sequence[JackknifedRun]) -> Figures:
    sections: Figures = {}
    for section, figure in ours[0].exact:
        told = asdict(mean_difference(ours, theirs, (section, figure), LEVEL))
        sections.setdefault(section, {})[figure] = {**told, "by_seed": list(told["by_seed"])}
    return sections
