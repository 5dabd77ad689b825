"""folds.py: held-out figures are those of a loop, thresholds never see the fold they judge."""

import numpy as np
import people_oracle as oracle
import pytest
from made_faces import all_listed, faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.folds import PairsWithin, cross_validate
from twin_dcal.evaluation.protocol import family_folds, keep_people, pair_source
from twin_dcal.metrics.pair_stream import ListedPairs, count_pairs
from twin_dcal.metrics.thresholds import choose_on

IMPOSTORS = {"twin": ("twin",), "unrelated": ("unrelated",), "all": ("twin", "unrelated")}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", ["eer", "accuracy", "far=0.1"])
def test_figures_are_those_of_a_loop(metric, ties):
    comparisons, vectors = faces(10, images_each=3)
    source = pair_source(comparisons, vectors)
    pairs = all_listed(comparisons, vectors)
    if ties:  # held-out scores that lie at the threshold
        pairs = [(one, other, round(score, 1), kind) for one, other, score, kind in pairs]
        first, second, scores, names = zip(*pairs, strict=True)
        kinds = [("genuine", "twin", "unrelated").index(name) for name in names]
        source = ListedPairs(
            scores, kinds, first, second, people=comparisons.people, families=comparisons.families
        )
    folds = cross_validate(source, 4, metric, seed=3)
    fold = family_folds(source.families, source.people, 4, 3)
    fold_of_family = dict(zip(comparisons.families.tolist(), fold.tolist(), strict=True))
    for name, kinds in IMPOSTORS.items():
        section = folds["sections"][name]
        rates = oracle.held_out_rates(
            pairs, fold_of_family, comparisons.families, section["threshold"]["folds"], kinds
        )
        for key, values in zip(("accuracy", "fmr", "fnmr"), zip(*rates, strict=True), strict=True):
            assert section[key]["folds"] == pytest.approx(values)
            assert section[key]["mean"] == pytest.approx(np.mean(values))
            assert section[key]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert (folds["num_folds"], folds["metric"], folds["seed"], folds["notes"]) == (4, metric, 3, [])


def test_a_threshold_is_chosen_without_the_fold_it_judges():
    comparisons, vectors = faces(10, images_each=3)
    source = pair_source(comparisons, vectors)
    fold = family_folds(source.families, source.people, 5, 0)
    told = cross_validate(source, 5, "eer", 0)["sections"]["twin"]["threshold"]["folds"]
    for held_out in range(5):
        outside = np.flatnonzero(fold != held_out)
        kept = PairsWithin(source, fold != held_out)
        assert kept.num_pairs == outside.size * (outside.size - 1) // 2
        rows = {row for block in kept.blocks() for row in (*block.first.tolist(), *block.second.tolist())}
        assert rows == set(outside.tolist())
        assert told[held_out] == choose_on(count_pairs(kept).section("twin"), "eer", "twin").threshold
    assert len(set(told)) > 1


def test_what_cannot_be_folded_is_one_line():
    source = pair_source(*faces(5))
    with pytest.raises(MetricError, match=r"4 folds of 5 families: use 2 folds or more, and no more than 2"):
        cross_validate(source, 4, "eer", 0)
    with pytest.raises(MetricError, match=r"1 folds of 5 families"):
        cross_validate(source, 1, "eer", 0)
    unknown = ListedPairs([0.9, 0.1], [0, 3], [0, 0], [1, 2])
    with pytest.raises(MetricError, match=r"2 folds: families are not known\. Name the data set"):
        cross_validate(unknown, 2, "eer", 0)


def test_a_section_that_a_fold_lacks_is_null_with_the_reason():
    """Twins in two of eight families: of four folds, two have no twin pairs to judge."""
    comparisons, vectors = faces(8)
    single = np.char.endswith(comparisons.people, "b") & (comparisons.families > "F01")
    kept = keep_people(comparisons, np.unique(comparisons.people[~single]).tolist())
    source = pair_source(kept, vectors[~single])
    folds = cross_validate(source, 4, "eer", 0)
    assert folds["sections"]["twin"] is None
    assert folds["sections"]["unrelated"] is not None
    (note,) = folds["notes"]
    assert note.startswith("folds, twin: fold ")
    assert "use fewer folds" in note
