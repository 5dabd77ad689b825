"""How much several photographs of each person gain: error rates by their number and by how they are taken together.

    python benchmarks/templates.py --model runs/untouched/best_model.pth --data_dir ../shared/data/lookalikes
    python benchmarks/templates.py --model runs/fine-tuned/best_model.pth --data_dir edited --images 11

Only people with at least 20 images (--images) take part, the same for every number; numbers that need more images are
left out. Two disjoint templates of each are drawn 20 times; each is compared with the other of the same person and with
those of everybody else. After ± is the standard error over families (jackknife): the same few people are drawn again.
"""

import argparse

import numpy as np

from twin_dcal import TwinInferenceEngine
from twin_dcal.evaluation.inputs import DataFiles, read_comparisons
from twin_dcal.inference.aligning import FaceInfo
from twin_dcal.inference.pictures import Picture
from twin_dcal.inference.templates import Side
from twin_dcal.metrics.error_rates import eer, error_rates_at
from twin_dcal.metrics.pairs import image_labels
from twin_dcal.metrics.templates import decision_for, drawn_people, drawn_scores
from twin_dcal.metrics.thresholds import counted

SIZES = ((1, 1), (1, 2), (1, 3), (1, 5), (1, 10), (2, 2), (3, 3), (5, 5), (10, 10))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=20, help="people with so many images take part")
    parser.add_argument("--align", default="auto", help="never: without qualities, and faster")
    options = parser.parse_args()
    engine = TwinInferenceEngine(options.model, "cpu", align=options.align)
    comparisons = read_comparisons(options.data_dir, DataFiles(), options.split)
    features, seen = engine.embedder([Picture(name) for name in comparisons.names], on_error="entry")
    counts = dict(zip(*np.unique(comparisons.people, return_counts=True), strict=True))
    kept = np.array([
        counts[person] >= options.images and isinstance(info, FaceInfo)
        for person, info in zip(comparisons.people, seen, strict=True)
    ])  # fmt: skip
    rows = np.flatnonzero(kept)
    weights = Side("all", comparisons.names, features[rows], [seen[row] for row in rows]).weights("quality")
    people, families = image_labels(comparisons.people[rows], comparisons.families[rows])
    print(f"{len(np.unique(people))} people, {len(rows)} images of {options.split}")
    print(
        "\n| photographs | genuine, twin | fuse | twin EER % | unrelated EER % | at the stored one: FMR, FNMR % |"
    )
    print("|---|---|---|---|---|---|")
    for sizes in SIZES:
        if sum(sizes) > options.images:
            continue
        drawn = list(drawn_people(people, families, sum(sizes), seed=1))
        for fuse in ("quality", "mean", "max", "scores"):
            if (fuse == "quality" and weights is None) or (sizes == (1, 1) and fuse != "mean"):
                continue
            rule = "mean" if fuse == "quality" else fuse
            given = sizes[0], rule, engine.source.fusion, weights if fuse == "quality" else None
            scores = counted(drawn_scores(features[rows], drawn, *given))
            twin, unrelated = _eers(scores)
            error = _standard_error(features[rows], drawn, given)
            print(f"| {sizes[0]} and {sizes[1]} | {scores.genuine.size}, {scores.twin.size} | {fuse} | "
                  f"{twin:.2f} ± {error:.2f} | {unrelated:.2f} | {_stored(engine, rule, sizes, scores)} |")  # fmt: skip


def _eers(scores):
    """Of twins and of strangers, in per cent."""
    return tuple(100 * eer(scores.section(kind)).eer for kind in ("twin", "unrelated"))


def _standard_error(features, drawn, given):
    """Of the twin EER in per cent, by leaving out one family after the other."""
    left = []
    for family in np.unique(np.concatenate([families for _, families in drawn])):
        without = [(rows[families != family], families[families != family]) for rows, families in drawn]
        left.append(_eers(counted(drawn_scores(features, without, *given)))[0])
    return np.sqrt((len(left) - 1) * np.var(left))


def _stored(engine, rule, sizes, scores):
    """Rates on twins at the threshold that the model has for so many."""
    found = decision_for(engine.source.templates, rule, sizes)
    threshold = engine.source.threshold if found is None else found.threshold
    at = error_rates_at(scores.section("twin"), threshold.value)
    return f"{100 * at.fmr:.2f}, {100 * at.fnmr:.2f}"


if __name__ == "__main__":
    main()
