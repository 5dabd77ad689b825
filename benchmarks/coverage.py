"""Do nominal 95 % intervals cover the truth, and do tests of equal systems reject 5 %?

Also with unequal numbers of images, and where one person has most of the genuine pairs.

Scores are sums of Gaussian effects of people, families, pairs of people, images and pairs of images, so that the true
value of every figure is known in closed form. Two systems share half of the variance of every effect but the last, and
are equally good. Each repetition draws new families of two people and asks `metrics.intervals` for intervals and
differences. The table shows how often the interval covered the truth and, in brackets, how often it lay above and
below it; then how often "no difference" was rejected at 5 %; all in %.

Exit 0 for PASS (twin EER, twin AUC, FNMR and twin FMR at the threshold, unrelated EER, headline: coverage 93 to 97 %,
give or take two standard errors of the simulation), 1 for FAIL.
With --carried instead: a threshold is chosen on as many other families, and the interval of the FMR that it achieves
is to cover the rate it was chosen for, with and without the error of the choice. Exit 0 where it does in 93 % or more.
Run: python benchmarks/coverage.py [--repetitions 500] [--processes 2] [--designs NAME ...] [--carried]
"""

import argparse
import math
import os
import sys
from functools import partial
from multiprocessing import get_context
from statistics import NormalDist

import numpy as np

from twin_dcal.metrics import intervals
from twin_dcal.metrics.carried import achieved_interval
from twin_dcal.metrics.pair_stream import ListedPairs, count_pairs
from twin_dcal.metrics.paired import paired_intervals
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.thresholds import choose_threshold

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MEANS = {PairKind.GENUINE: 0.6, PairKind.TWIN: 0.422, PairKind.UNRELATED: 0.1}
SPREAD, THRESHOLD, HEADLINE = 0.1, 0.4532, 1e-3
SHARED = 0.5
REQUIRED = (
    "twin EER", "twin AUC", "FNMR at the threshold", "twin FMR at the threshold", "unrelated EER", "headline twin FMR",
)  # fmt: skip
LOW, HIGH = 93.0, 97.0
CARRIED = {"chosen at FMR 0.01 of unrelated pairs": "far=0.01", "chosen at the twin EER": "eer"}

# Families, and images of each of their people, drawn anew in every repetition.
DESIGNS = {
    "15 families, 2–20 images": (15, lambda rng, people: rng.integers(2, 21, people)),
    "30 families, 2–20 images": (30, lambda rng, people: rng.integers(2, 21, people)),
    "60 families, 2–20 images": (60, lambda rng, people: rng.integers(2, 21, people)),
    "60 families, 5 images": (60, lambda rng, people: np.full(people, 5)),
    "30 families, one person 30, others 3": (30, lambda rng, people: np.r_[30, np.full(people - 1, 3)]),
}


def sources(design, seed):
    """Both systems on one new draw of families."""
    families, law = DESIGNS[design]
    rng = np.random.default_rng((seed, families))
    counts = law(rng, 2 * families)
    person = np.repeat(np.arange(2 * families), counts)
    first, second = np.triu_indices(person.size, 1)
    one, other = person[first], person[second]
    kinds = np.full(first.size, PairKind.UNRELATED, np.int8)
    kinds[one // 2 == other // 2] = PairKind.TWIN
    kinds[one == other] = PairKind.GENUINE
    effects = [
        rng.normal(size=size) for size in (2 * families, 2 * families, families, person.size, person.size)
    ]
    effects.append(rng.normal(size=(2 * families, 2 * families)))
    pairs = (kinds, one, other, first, second)
    labels = {"people": person, "families": person // 2}
    return [ListedPairs(scores(rng, effects, pairs), kinds, first, second, **labels) for _ in range(2)]


def scores(rng, effects, pairs):
    """One system's scores (P,), float32: each kind of pair is Gaussian with its own mean and the same spread."""
    own = [SHARED**0.5 * each + (1 - SHARED) ** 0.5 * rng.normal(size=each.shape) for each in effects]
    goat, lamb, twins, quality, likeness, both = own
    kinds, one, other, first, second = pairs
    made = np.empty(kinds.size)
    for kind, mean in MEANS.items():
        a, b, i, j = (rows[kinds == kind] for rows in (one, other, first, second))
        if kind == PairKind.GENUINE:
            known, rest = 0.4**0.5 * goat[a] + 0.15**0.5 * (quality[i] + quality[j]), 0.3
        elif kind == PairKind.TWIN:
            known, rest = 0.3**0.5 * twins[a // 2] + 0.2**0.5 * (likeness[i] + likeness[j]), 0.3
        else:
            known = 0.15**0.5 * (lamb[a] + lamb[b] + likeness[i] + likeness[j]) + 0.2**0.5 * both[a, b]
            rest = 0.2
        made[kinds == kind] = mean + SPREAD * (known + rest**0.5 * rng.normal(size=known.size))
    return made.astype(np.float32)


def truth():
    """True value of every figure; every kind of pair has a Gaussian score of the same spread."""
    normal = NormalDist()

    def accepted(kind, threshold):
        return 1 - normal.cdf((threshold - MEANS[kind]) / SPREAD)

    true = {
        "FNMR at the threshold": 1 - accepted(PairKind.GENUINE, THRESHOLD),
        "twin FMR at the threshold": accepted(PairKind.TWIN, THRESHOLD),
        "unrelated FMR at the threshold": accepted(PairKind.UNRELATED, THRESHOLD),
    }
    for name, kind, levels in (
        ("twin", PairKind.TWIN, (0.1, 0.01)),
        ("unrelated", PairKind.UNRELATED, (0.01, 0.001)),
    ):
        apart = (MEANS[PairKind.GENUINE] - MEANS[kind]) / SPREAD
        true |= {f"{name} EER": normal.cdf(-apart / 2), f"{name} AUC": normal.cdf(apart / math.sqrt(2))}
        for level in levels:
            at = MEANS[kind] + SPREAD * normal.inv_cdf(1 - level)
            true[f"{name} FNMR at FMR {level:g}"] = 1 - accepted(PairKind.GENUINE, at)
    at = MEANS[PairKind.UNRELATED] + SPREAD * normal.inv_cdf(1 - HEADLINE)
    true |= {
        "headline twin FMR": accepted(PairKind.TWIN, at),
        "headline FNMR": 1 - accepted(PairKind.GENUINE, at),
    }
    return true


def one_repetition(design, seed):
    """figure → (low, high) of the first system, and section and figure → p-value of the difference."""
    ours, theirs = sources(design, seed)
    made = intervals.family_intervals(ours, threshold=THRESHOLD, headline_fmr=HEADLINE)
    found = {
        "FNMR at the threshold": made.figures["twin"]["fnmr"],
        "twin FMR at the threshold": made.figures["twin"]["fmr"],
        "unrelated FMR at the threshold": made.figures["unrelated"]["fmr"],
        "headline twin FMR": made.headline["twin_fmr"],
        "headline FNMR": made.headline["fnmr"],
    }
    for name, levels in (("twin", (0.1, 0.01)), ("unrelated", (0.01, 0.001))):
        of = made.figures[name]
        found |= {f"{name} EER": of["eer"], f"{name} AUC": of["roc_auc"]}
        found |= {f"{name} FNMR at FMR {level:g}": of[f"fnmr_at_fmr_{level:g}"] for level in levels}
    differences = paired_intervals(ours, theirs).differences
    p_values = {
        f"difference of {section} {label}": differences[section][name].p_value
        for section in ("twin", "unrelated")
        for name, label in (("eer", "EER"), ("roc_auc", "AUC"))
    }
    return {name: (interval.low, interval.high) for name, interval in found.items()}, p_values


def one_carried(design, seed):
    """figure → (low, high), with the error of a threshold that was chosen on other families and without it."""
    chosen_on, tested_on = (sources(design, each)[0] for each in (10**6 + seed, seed))
    found = {}
    for label, metric in CARRIED.items():
        validation, test = count_pairs(chosen_on), count_pairs(tested_on)
        choice = choose_threshold(validation, metric)
        there = intervals.family_intervals(chosen_on, threshold=choice.threshold, counts=validation)
        here = intervals.family_intervals(tested_on, threshold=choice.threshold, counts=test)
        choice = intervals.over_families(choice, there)
        fixed, own = here.figures[choice.on]["fmr"], here.errors_of_choice[choice.on].get("far")
        nothing = (math.nan, math.nan)
        found[f"{label}, threshold as given"] = (fixed.low, fixed.high)
        found[label] = nothing
        if choice.error_of_choice is not None and own is not None:
            whole = achieved_interval(fixed.estimate, own, choice.error_of_choice, 0.95)
            found[label] = (whole.low, whole.high)
    return found


def carried(options) -> int:
    """Print the table of thresholds that are carried to other families."""
    expected = {label: 0.01 if "0.01" in label else truth()["twin EER"] for label in CARRIED}
    tables = {}
    with get_context("spawn").Pool(options.processes) as pool:
        for design in options.designs:
            runs = pool.map(partial(one_carried, design), range(options.repetitions), chunksize=5)
            tables[design] = {
                name: covered(
                    [run[name] for run in runs], expected[name.removesuffix(", threshold as given")]
                )
                for name in runs[0]
            }
    print("| FMR achieved by a threshold | to be covered |" + "".join(f" {design} |" for design in tables))
    print("|---|---|" + "---|" * len(tables))
    for name in next(iter(tables.values())):
        value = expected[name.removesuffix(", threshold as given")]
        cells = ("{:.1f} ({:.1f}, {:.1f})".format(*table[name]) for table in tables.values())
        print(f"| {name} | {value:.4g} | " + " | ".join(cells) + " |")
    low = min(table[label][0] for table in tables.values() for label in CARRIED)
    print(
        f"{options.repetitions} repetitions each; lowest coverage with the error of the choice: {low:.1f} %"
    )
    return 0 if low >= LOW else 1


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--carried", action="store_true", help="thresholds carried to other families")
    options = parser.parse_args()
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"  # of the processes to come
    if options.carried:
        return carried(options)
    true, tables, rejected = truth(), {}, {}
    with get_context("spawn").Pool(options.processes) as pool:
        for design in options.designs:
            runs = pool.map(partial(one_repetition, design), range(options.repetitions), chunksize=5)
            tables[design] = {name: covered([run[0][name] for run in runs], true[name]) for name in true}
            p_values = [run[1] for run in runs]
            rejected[design] = {
                name: 100 * np.mean([p[name] < 0.05 for p in p_values]) for name in p_values[0]
            }
    print_tables(tables, rejected, true)
    error = 100 * math.sqrt(0.95 * 0.05 / options.repetitions)
    print(f"{options.repetitions} repetitions each; one standard error is {error:.1f} points")
    return verdict(tables, error)


def covered(ends, value):
    """Coverage, and how often the interval lay above and below, in %, of the intervals that there are."""
    low, high = (each[~np.isnan(each)] for each in np.array(ends).T)
    above, below = 100 * np.mean(low > value), 100 * np.mean(high < value)
    return 100 - above - below, above, below


def print_tables(tables, rejected, true):
    print("| figure | truth |" + "".join(f" {design} |" for design in tables))
    print("|---|---|" + "---|" * len(tables))
    for name, value in true.items():
        cells = ("{:.1f} ({:.1f}, {:.1f})".format(*table[name]) for table in tables.values())
        print(f"| {name} | {value:.4g} | " + " | ".join(cells) + " |")
    print("\n| rejected at 5 % |" + "".join(f" {design} |" for design in rejected))
    print("|---|" + "---|" * len(rejected))
    for name in next(iter(rejected.values())):
        print(f"| {name} | " + " | ".join(f"{shares[name]:.1f}" for shares in rejected.values()) + " |")


def verdict(tables, error) -> int:
    astray = [
        f"{name}, {design}: {table[name][0]:.1f} %"
        for design, table in tables.items()
        for name in REQUIRED
        if not LOW - 2 * error <= table[name][0] <= HIGH + 2 * error
    ]
    print("FAIL: " + "; ".join(astray) if astray else f"PASS: coverage {LOW:g} to {HIGH:g} %")
    return 1 if astray else 0


if __name__ == "__main__":
    sys.exit(main())
