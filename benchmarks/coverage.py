"""Do nominal 95 % intervals cover the truth? A simulation with 20, 50 and 100 families of two people, 4 images each.

Embeddings are sums of a family, a person and an image part; how far twins lie apart and how noisy a person's images
are vary at random, so errors come in families. The truth is that of 100,000 simulated families. Each repetition draws
new families, and asks `intervals.bootstrap` (1,000 replicates) and `intervals.paired_bootstrap` (two systems that are
equally good, so the true difference is 0). The table shows how often the interval covered, and in brackets how often it
lay above and below the truth, in %. With --methods it compares other intervals of the same replicates instead.

Exit 0 for PASS (EER, and FNMR and twin FMR with 10 errors or more expected behind them: 90 to 97 %, give or take two
standard errors of the simulation), 1 for FAIL.
Run: python benchmarks/coverage.py [--repetitions 500] [--families 20 50 100] [--replicates 1000] [--processes 2]
    [--population 100000] [--methods]
"""

import argparse
import math
import os
import sys
import time
from functools import partial
from multiprocessing import get_context
from statistics import NormalDist

import numpy as np

from twin_dcal.metrics import confidence, error_rates, family_bootstrap, intervals, pair_stream, replicates
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.score_counts import ScoreCounts, count_scores

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PEOPLE, IMAGES, LATENT = 2, 4, 24
PER_FAMILY = PEOPLE * IMAGES
THRESHOLDS = (0.45, 0.7)
HEADLINES = (1e-3, 1e-4)
POPULATION, AT_ONCE, PARTNERS = 100_000, 5_000, 25
REQUIRED = ("twin EER", "unrelated EER", "FNMR", "twin FMR")
LOW, HIGH = 90.0, 97.0


def simulated(rng, families):
    """Unit rows of two systems, (2, families, 8, LATENT): the same faces, each system with noise of its own."""
    apart = 0.55 * np.exp(rng.normal(0, 0.45, (families, 1, 1, 1)))
    noise = 0.5 * np.exp(rng.normal(0, 0.3, (families, PEOPLE, 1, 1)))
    faces = rng.normal(size=(families, 1, 1, LATENT)) + apart * rng.normal(size=(families, PEOPLE, 1, LATENT))
    faces = faces + noise * rng.normal(size=(families, PEOPLE, IMAGES, LATENT))
    rows = faces + 0.35 * rng.normal(size=(2, *faces.shape))
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.reshape(2, families, PER_FAMILY, LATENT).astype(np.float32)


def population(families, seed):
    """Genuine, twin and unrelated scores of very many families, of the first system."""
    rng = np.random.default_rng((seed, 1))
    first, second = np.triu_indices(PER_FAMILY, 1)
    genuine = first // IMAGES == second // IMAGES
    parts = {kind: [] for kind in ("genuine", "twin", "unrelated")}
    at_once = min(families, AT_ONCE)
    for _ in range(families // at_once):
        rows = simulated(rng, at_once)[0]
        within = np.einsum("fid,fjd->fij", rows, rows)[:, first, second]
        parts["genuine"].append(within[:, genuine].ravel())
        parts["twin"].append(within[:, ~genuine].ravel())
        for shift in range(1, PARTNERS + 1):
            parts["unrelated"].append(np.einsum("fid,fjd->fij", rows, np.roll(rows, shift, axis=0)).ravel())
    return {kind: ScoreCounts(np.sort(np.concatenate(scores))) for kind, scores in parts.items()}


def truth(families, seed):
    """True value of every figure of the tables, from so many families."""
    tallies = population(families, seed)
    twin, unrelated = (count_scores(tallies["genuine"], [tallies[kind]]) for kind in ("twin", "unrelated"))
    true = {"twin EER": error_rates.eer(twin).eer, "unrelated EER": error_rates.eer(unrelated).eer}
    true |= {"twin AUC": error_rates.auc(twin), "unrelated AUC": error_rates.auc(unrelated)}
    true |= {
        "twin d'": error_rates.d_prime(twin),
        "twin best accuracy": error_rates.best_accuracy(twin).value,
    }
    for threshold in THRESHOLDS:
        at = error_rates.error_rates_at(twin, threshold)
        true |= {f"FNMR at {threshold}": at.fnmr, f"twin FMR at {threshold}": at.fmr}
        true[f"unrelated FMR at {threshold}"] = error_rates.error_rates_at(unrelated, threshold).fmr
    for fmr in HEADLINES:
        at = error_rates.error_rates_at(twin, error_rates.operating_point(unrelated, fmr).threshold)
        true |= {f"headline {fmr:g} twin FMR": at.fmr, f"headline {fmr:g} FNMR": at.fnmr}
    true["twin TAR at FMR 0.1"] = error_rates.operating_point(twin, 0.1).tar
    true["twin TAR at FMR 0.01"] = error_rates.operating_point(twin, 0.01).tar
    return true | {
        f"difference {section} {name}": 0.0 for section in ("twin", "unrelated") for name in ("EER", "AUC")
    }


def sources(families, seed):
    """Both systems on one new draw of families."""
    rows = simulated(np.random.default_rng((seed, 2, families)), families)
    family = np.repeat(np.arange(families), PER_FAMILY)
    person = np.repeat(np.arange(families * PEOPLE), IMAGES)
    return [pair_stream.AllPairs(each.reshape(-1, LATENT), person, family) for each in rows]


def one_repetition(families, num_replicates, seed):
    """figure -> (low, high) on one draw."""
    ours, theirs = sources(families, seed)
    counts = pair_stream.count_pairs(ours)
    found = {}
    for threshold, fmr in zip(THRESHOLDS, HEADLINES, strict=True):
        made = intervals.bootstrap(
            ours,
            threshold=threshold,
            counts=counts,
            headline_fmr=fmr,
            num_replicates=num_replicates,
            seed=seed,
        )
        twin, unrelated = made.figures["twin"], made.figures["unrelated"]
        found |= {f"FNMR at {threshold}": twin["fnmr"], f"twin FMR at {threshold}": twin["fmr"]}
        found[f"unrelated FMR at {threshold}"] = unrelated["fmr"]
        found[f"headline {fmr:g} twin FMR"] = made.headline["twin_fmr"]
        found[f"headline {fmr:g} FNMR"] = made.headline["fnmr"]
    found |= {"twin EER": twin["eer"], "unrelated EER": unrelated["eer"], "twin d'": twin["d_prime"]}
    found |= {"twin AUC": twin["roc_auc"], "unrelated AUC": unrelated["roc_auc"]}
    found["twin best accuracy"] = twin["best_accuracy"]
    found |= {f"twin TAR at FMR {fmr:g}": twin[f"tar_at_far_{fmr:g}"] for fmr in (0.1, 0.01)}
    compared = intervals.paired_bootstrap(ours, theirs, num_replicates=num_replicates, seed=seed).differences
    for section in ("twin", "unrelated"):
        found[f"difference {section} EER"] = compared[section]["eer"]
        found[f"difference {section} AUC"] = compared[section]["roc_auc"]
    return {figure: (interval.low, interval.high) for figure, interval in found.items()}


def one_of_each_method(families, num_replicates, seed):
    """(figure, method) -> (low, high): other intervals of the same replicates, beside the one in use."""
    ours = sources(families, seed)[0]
    counts = pair_stream.count_pairs(ours)
    units = family_bootstrap.make_units(np.arange(families), np.random.default_rng(0))
    edges = np.unique(
        np.append(family_bootstrap.choose_edges(counts, THRESHOLDS[0]), np.float32(THRESHOLDS[1]))
    )
    binned = family_bootstrap.bin_pairs(ours, counts, edges, units)
    drawn = family_bootstrap.multiplicities(families, num_replicates, np.random.default_rng((seed, 3)))
    rows = np.vstack([np.ones(families), 1 - np.eye(families), drawn])  # all; each family left out; drawn
    weighted = family_bootstrap.weigh(binned, rows)
    both = {
        kind: replicates.replicates(weighted[PairKind.GENUINE], weighted[kind])
        for kind in (PairKind.TWIN, PairKind.UNRELATED)
    }
    twin, unrelated = both[PairKind.TWIN], both[PairKind.UNRELATED]
    values = {"twin EER": replicates.eer(twin), "unrelated EER": replicates.eer(unrelated)}
    for threshold in THRESHOLDS:
        at = replicates.at_column(twin, int(ScoreCounts(edges).num_at_or_above(threshold)))
        values |= {f"FNMR at {threshold}": at["fnmr"], f"twin FMR at {threshold}": at["fmr"]}
    columns = replicates.column_at_fmr(unrelated.fmr, HEADLINES[0])
    values[f"headline {HEADLINES[0]:g} twin FMR"] = replicates.pick(twin.fmr, columns)
    values[f"headline {HEADLINES[0]:g} FNMR"] = replicates.pick(twin.fnmr, columns)
    found = {}
    for figure, each in values.items():
        every = every_method(float(each[0]), each[1 : families + 1], each[families + 1 :])
        found |= {(figure, method): bound for method, bound in every.items()}
    return found


def every_method(estimate, left_out, again, level=0.95):
    """Percentile, basic, BCa (Efron & Tibshirani 1993, 14.3) with its jackknife, plain ± t, and the one in use."""
    normal, tail = NormalDist(), (1 - level) / 2
    low, high = np.quantile(again, [tail, 1 - tail])
    below = (np.sum(again < estimate) + np.sum(again == estimate) / 2) / again.size
    bias = normal.inv_cdf(min(max(below, 0.5 / again.size), 1 - 0.5 / again.size))
    pull = left_out.mean() - left_out
    lean = float(np.sum(pull**3) / max(6 * np.sum(pull**2) ** 1.5, 1e-300))
    ends = [bias + normal.inv_cdf(end) for end in (tail, 1 - tail)]
    shares = [normal.cdf(bias + end / (1 - lean * end)) for end in ends]
    num_units = left_out.size
    plain = confidence.plain_interval(estimate, again, num_units=num_units, level=level)
    ours = confidence.rate_interval(estimate, again, num_units=num_units, num_trials=num_units, level=level)
    return {
        "percentile": (low, high),
        "basic": (2 * estimate - high, 2 * estimate - low),
        "BCa": tuple(np.quantile(again, shares)),
        "± t": (plain.low, plain.high),
        "in use": (ours.low, ours.high),
    }


def tally_up(runs, true):
    """figure -> (coverage, above, below, mean width): shares in % of the runs."""
    table = {}
    for figure in runs[0]:
        low, high = np.array([run[figure] for run in runs]).T
        value = true[figure[0] if isinstance(figure, tuple) else figure]
        above, below = 100 * np.mean(low > value), 100 * np.mean(high < value)
        table[figure] = (100 - above - below, above, below, float(np.mean(high - low)))
    return table


def enough_errors(figure, value, families):
    """Whether ten errors or more, and ten right decisions, are expected behind a rate; an EER always counts."""
    if "EER" in figure:
        return True
    per_family = PEOPLE * math.comb(IMAGES, 2) if "FNMR" in figure else IMAGES**2
    return min(value, 1 - value) * per_family * families >= 10


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--families", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--population", type=int, default=POPULATION)
    parser.add_argument("--methods", action="store_true")
    options = parser.parse_args()
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"  # of the processes to come
    started = time.perf_counter()
    true = truth(options.population, 0)
    job, tables = (one_of_each_method if options.methods else one_repetition), {}
    with get_context("spawn").Pool(options.processes) as pool:
        for families in options.families:
            work = partial(job, families, options.replicates)
            runs = pool.map(work, range(options.repetitions), chunksize=5)
            tables[families] = tally_up(runs, true)
    print_table(tables, true)
    print(f"{options.repetitions} repetitions each, {(time.perf_counter() - started) / 60:.0f} min")
    return 0 if options.methods else verdict(tables, true, options.repetitions)


def print_table(tables, true):
    print("| figure | truth |" + "".join(f" {families} families |" for families in tables))
    print("|---|---|" + "---|" * len(tables))
    for figure in next(iter(tables.values())):
        name = f"{figure[0]}, {figure[1]}" if isinstance(figure, tuple) else figure
        value = true[figure[0] if isinstance(figure, tuple) else figure]
        cells = (f"{c:.1f} ({a:.1f}, {b:.1f})" for c, a, b, _ in (table[figure] for table in tables.values()))
        print(f"| {name} | {value:.4g} | " + " | ".join(cells) + " |")


def verdict(tables, true, repetitions) -> int:
    astray = []
    for families, table in tables.items():
        for figure, (coverage, *_) in table.items():
            asked = figure.startswith(REQUIRED) and enough_errors(figure, true[figure], families)
            slack = 200 * math.sqrt(0.95 * 0.05 / repetitions)
            if asked and not LOW - slack <= coverage <= HIGH + slack:
                astray.append(f"{figure} with {families} families: {coverage:.1f} %")
    print(f"{'FAIL: ' + '; '.join(astray) if astray else f'PASS: coverage {LOW:g} to {HIGH:g} %'}")
    return 1 if astray else 0


if __name__ == "__main__":
    sys.exit(main())
