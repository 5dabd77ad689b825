"""Evaluations of generated embeddings, made by the package itself; no claim about any model."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.evaluation.result import FamilyErrors, Histograms, PersonErrors
from twin_dcal.metrics.calibration import fit_platt

ABOUT = {
    "model": {"path": "runs/example/best_model.pth", "sha256": "3f" * 32, "branches": ["sa", "glca"]},
    "feature_type": "combined",
    "test_data": "data/dataset_infor.json",
}
ORIGIN = "eer on the twin impostors of data/val"


def evaluation(
    num_families=28, images_each=12, *, seed=0, root=Path("data"), dim=24, person=1.0, noise=0.62, threshold=0.62,
    num_replicates=100, singles=0, num_folds=0,
):  # fmt: skip
    """`num_families` twin pairs and `singles` people without a twin; images are `root`/person/number.png."""
    names, vectors = _embeddings(num_families, singles, images_each, dim, person, noise, seed)
    people = [name.split("/")[0] for name in names]
    comparisons = Comparisons(
        ABOUT["test_data"], [str(root / name) for name in names], np.array(people),
        np.array([person[:-1] for person in people]), None, {"name": "all pairs"},
    )  # fmt: skip
    effort = EvaluationOptions(num_replicates=num_replicates, num_folds=num_folds)
    return evaluate(
        pair_source(comparisons, vectors), comparisons, _decision(threshold), effort, vectors, ABOUT
    )


def _decision(threshold):
    rng = np.random.default_rng(1)
    calibration = fit_platt(rng.normal(threshold + 0.12, 0.1, 400), rng.normal(threshold - 0.12, 0.1, 400))
    return Decision(threshold, ORIGIN, calibration)


def _embeddings(num_families, singles, images_each, dim, person, noise, seed):
    rng = np.random.default_rng(seed)
    names, rows = [], []
    for number in range(num_families + singles):
        centre, spread = rng.normal(size=dim), rng.uniform(0.5, 1.4)
        for letter in "ab" if number < num_families else "a":
            own = centre + person * spread * rng.normal(size=dim)
            for image in range(images_each):
                names.append(f"F{number:03d}{letter}/{image:02d}.png")
                rows.append(own + noise * rng.uniform(0.7, 1.5) * rng.normal(size=dim))
    return names, np.array(rows, np.float32)


def without_families():
    """As of a list of pairs whose people nobody knows: only "all", no intervals, no tables, no embeddings."""
    made = evaluation(3, 4)
    figures = {**made.figures, "twin": None, "unrelated": None, "headline": None, "intervals": None}
    figures["all"] = {**figures["all"], "intervals": {}}
    nothing = np.zeros(0)
    counts = made.histograms.counts
    return replace(
        made,
        figures=figures,
        curves={"all": replace(made.curves["all"], band_fmr=nothing, fnmr_low=nothing, fnmr_high=nothing)},
        histograms=Histograms(
            made.histograms.edges,
            {"genuine": counts["genuine"], "other": counts["twin"] + counts["unrelated"]},
        ),
        reliability=None,
        families=[],
        people=[],
        points=None,
    )


def many_families(num_families, prefix=""):
    """(families, people) of a large set: error tables alone."""
    rng = np.random.default_rng(1)
    families, people = [], []
    for number in range(num_families):
        twin, missed = (int(rng.binomial(132, rng.beta(0.4, 6))) for _ in range(2))
        family, names = f"{prefix}{number:06d}", [f"{number:06d}a", f"{number:06d}b"]
        families.append(FamilyErrors(family, names, 24, 132 + 40 * (number % 7), twin, 132, missed, 0.95))
        people += [
            PersonErrors(name, family, 12, 66, missed // 3, 144, twin, 9000, 3, 0.7, 0.1, "")
            for name in names
        ]
    return families, people
