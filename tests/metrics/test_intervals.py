"""Intervals against loops over the pairs that are left, scipy's distributions, and what must not matter."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import verification_oracle as oracle
from scipy import stats

from twin_dcal.errors import MetricError
from twin_dcal.metrics import confidence, error_rates, family_jackknife, intervals, pair_stream, replicates
from twin_dcal.metrics.intervals import family_intervals
from twin_dcal.metrics.pair_stream import AllPairs, ListedPairs, count_pairs
from twin_dcal.metrics.paired import paired_intervals
from twin_dcal.metrics.pairs import PairKind

NAMES = {PairKind.GENUINE: "genuine", PairKind.TWIN: "twin", PairKind.UNRELATED: "unrelated"}


def faces(seed, families, people=2, images=3, noise=0.6, width=6):
    """Embeddings with errors that come in families, person and family labels, in mixed order."""
    rng = np.random.default_rng(seed)
    shape = (families, people, images, width)
    parts = rng.normal(size=(families, 1, 1, width)) + 0.6 * rng.normal(size=(families, people, 1, width))
    rows = (parts + noise * rng.normal(size=shape)).reshape(-1, width).astype(np.float32)
    person = np.repeat(np.arange(families * people), images)
    order = rng.permutation(len(rows))
    return rows[order], person[order], (person // people)[order]


def as_list(source, change=lambda score: score, order=None, dtype=np.float64, **labels):
    """The pairs of a source as a list, its scores changed and its order too."""
    blocks = list(source.blocks())
    first, second, score, kind = (
        np.concatenate([getattr(block, key) for block in blocks])
        for key in ("first", "second", "score", "kind")
    )
    order = np.arange(score.size) if order is None else order(score.size)
    return ListedPairs(
        change(score.astype(dtype))[order], kind[order], first[order], second[order],
        **{"people": source.people, "families": source.families} | labels,
    )  # fmt: skip


def tied(seed, families):
    """A small list with many ties: scores are rounded to tenths."""
    return as_list(AllPairs(*faces(seed, families)), change=lambda score: np.round(score, 1))


def pairs_of(source):
    """What the oracle takes."""
    return [
        (int(source.families[i]), int(source.families[j]), NAMES[PairKind(kind)], float(score))
        for block in source.blocks()
        for i, j, score, kind in zip(block.first, block.second, block.score, block.kind, strict=True)
    ]


def pairs_left(source, family):
    """Scores of each kind of pair that no face of a family is in; all of them for None."""
    left = {name: [] for name in NAMES.values()}
    for one, other, kind, score in pairs_of(source):
        if family not in (one, other):
            left[kind].append(score)
    return left


def left_out_of(source, threshold=None, families=None):
    families = family_jackknife.families_of(source) if families is None else families
    return family_jackknife.leave_out_each(source, count_pairs(source), families, threshold, 0)


def section_of(counts, section):
    impostor = {
        "twin": counts[PairKind.TWIN],
        "unrelated": counts[PairKind.UNRELATED],
        "all": counts[PairKind.TWIN] + counts[PairKind.UNRELATED],
    }[section]
    return replicates.replicates(counts[PairKind.GENUINE], impostor)


@pytest.mark.parametrize("seed", range(6))
def test_figures_without_a_family_equal_loops_over_the_pairs_that_are_left(seed):
    families, threshold = 4, 0.5
    source = tied(seed, families)
    left_out = left_out_of(source, threshold)
    for row in range(families):
        left = pairs_left(source, row)
        for section in ("twin", "unrelated", "all"):
            these = section_of(left_out.counts, section)
            genuine = left["genuine"]
            impostor = left["twin"] + left["unrelated"] if section == "all" else left[section]
            got = {name: of(these)[row] for name, (_, of) in intervals.FIGURES.items()}
            assert got["eer"] == pytest.approx(oracle.eer(genuine, impostor)[0])
            assert got["roc_auc"] == pytest.approx(oracle.auc(genuine, impostor))
            assert got["best_accuracy"] == pytest.approx(oracle.best_accuracy(genuine, impostor)[0])
            assert got["best_f1"] == pytest.approx(oracle.best_f1(genuine, impostor)[0])
            assert got["d_prime"] == pytest.approx(oracle.d_prime(genuine, impostor))
            assert got["average_precision"] == pytest.approx(oracle.average_precision(genuine, impostor))
            assert got["pr_auc"] == pytest.approx(oracle.pr_auc(genuine, impostor))
            fmr, fnmr = oracle.rates(genuine, impostor, threshold)
            at = {
                name: values[row]
                for name, values in replicates.at_column(these, left_out.column(threshold)).items()
            }
            assert (at["fmr"], at["fnmr"], at["tar"]) == pytest.approx((fmr, fnmr, 1 - fnmr))
            right = len(genuine) * (1 - fnmr) + len(impostor) * (1 - fmr)
            assert at["accuracy"] == pytest.approx(right / (len(genuine) + len(impostor)))
            matches, wrong = len(genuine) * (1 - fnmr), len(impostor) * fmr
            assert at["f1"] == pytest.approx(2 * matches / (matches + wrong + len(genuine)))
            for asked in (0.5, 0.2, 0.05):
                want = oracle.operating_point(genuine, impostor, asked)
                column = replicates.column_at_fmr(these.fmr, asked)[row]
                assert these.fmr[row, column] == pytest.approx(want[1])
                assert these.fnmr[row, column] == pytest.approx(want[2])


def test_what_is_left_by_hand():
    # families 0 and 1 of two people; the unrelated pair is of both, so it is gone without either
    source = ListedPairs(
        [3.0, 2, 2, 1],
        [0, 1, 2, 0],
        [0, 0, 0, 3],
        [1, 2, 3, 4],
        people=[0, 0, 1, 2, 2],
        families=[0, 0, 0, 1, 1],
    )
    left_out = left_out_of(source)
    assert left_out.edges.tolist() == [1, 2, 3]
    assert left_out.counts[PairKind.GENUINE].bins.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert left_out.counts[PairKind.TWIN].bins.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]
    assert left_out.counts[PairKind.UNRELATED].bins.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]
    assert (left_out.having[PairKind.UNRELATED], left_out.num_unit_pairs) == (2, 1)
    assert np.isnan(replicates.roc_auc(section_of(left_out.counts, "unrelated"))).all()


def test_units_are_families_or_groups_of_nearly_equal_size():
    few = family_jackknife.make_units(np.array([5, 2, 9, 2]), np.random.default_rng(0))
    assert few.of_family[[2, 5, 9]].tolist() == [0, 1, 2]
    assert (few.of_family == -1).sum() == 7
    assert (few.num_families, few.num_units) == (3, 3)
    many = family_jackknife.make_units(np.arange(1750), np.random.default_rng(0))
    sizes = Counter(many.of_family.tolist())
    assert (many.num_families, many.num_units, len(sizes)) == (1750, 256, 256)
    assert set(sizes.values()) == {6, 7}
    other = family_jackknife.make_units(np.arange(1750), np.random.default_rng(1))
    assert (many.of_family != other.of_family).any()


def test_groups_of_families_give_the_intervals_of_families(monkeypatch):
    source = AllPairs(*faces(3, 120, images=2))
    whole = family_intervals(source, threshold=0.6)
    monkeypatch.setattr(family_jackknife, "MAX_UNITS", 100)
    monkeypatch.setattr(family_jackknife, "NUM_GROUPS", 40)
    grouped = family_intervals(source, threshold=0.6)
    assert (grouped.num_families, grouped.num_units, whole.num_units) == (120, 40, 120)
    left_out = left_out_of(source)
    assert left_out.num_unit_pairs == 40 * 39 / 2  # not those of a group with itself
    for section, figures in whole.figures.items():
        for name, interval in figures.items():
            other = grouped.figures[section][name]
            assert other.estimate == interval.estimate
            if not width(interval):  # the best accuracy rejects every pair, with and without any family
                continue
            assert 0.6 < width(other) / width(interval) < 1.7, (section, name)


@pytest.mark.parametrize("threshold", [None, 0.4321, -2.0, 3.0, math.inf])
def test_edges_are_dense_where_rates_are_small(monkeypatch, threshold):
    counts = count_pairs(AllPairs(*faces(1, 40)))
    exact = family_jackknife.choose_edges(counts, threshold)
    assert 500 < exact.size < 1000 < sum(counts.of(kind).size for kind in NAMES)
    for kind in ("twin", "unrelated"):
        kind_counts = getattr(counts, kind)
        assert set(kind_counts.at_ranks(kind_counts.size - 1 - np.arange(10)).tolist()) <= set(exact.tolist())
        assert kind_counts.lowest in exact
    assert set(counts.genuine.at_ranks(np.arange(10)).tolist()) <= set(exact.tolist())
    assert (np.diff(exact) > 0).all()
    if threshold is not None and math.isfinite(threshold):
        assert np.isin(exact, np.float32(threshold)).sum() == 1 or threshold == 0.4321
        assert ((exact >= threshold) & (exact < threshold + 1e-6)).any()
    monkeypatch.setattr(family_jackknife, "MAX_EDGES", 10**6)
    every = family_jackknife.choose_edges(counts, None)
    assert set(every.tolist()) == {v for kind in NAMES for v in counts.of(kind).values.tolist()}


def test_bins_cost_next_to_nothing(monkeypatch):
    """A set with far more scores than bins: bounds against those of a bootstrap with a bin for every score."""
    source, threshold = AllPairs(*faces(5, 20)), 0.55
    binned = family_intervals(source, threshold=threshold)
    monkeypatch.setattr(family_jackknife, "MAX_EDGES", 10**6)
    exact = family_intervals(source, threshold=threshold)
    for section, figures in exact.figures.items():
        for name, interval in figures.items():
            other = binned.figures[section][name]
            slack = 0.02 * (interval.high - interval.low)
            if name in (*intervals.AT_THRESHOLD, "d_prime"):
                slack = 1e-9
            assert other.low == pytest.approx(interval.low, abs=slack), (section, name)
            assert other.high == pytest.approx(interval.high, abs=slack), (section, name)
    for name in ("twin_fmr", "fnmr"):
        ours, theirs = binned.headline[name], exact.headline[name]
        assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.02)


@pytest.mark.parametrize("threshold", [None, 0.43215, -0.20000001])
def test_the_table_of_bins_equals_the_search(monkeypatch, threshold):
    source = AllPairs(*faces(2, 9))
    searched = family_intervals(source, threshold=threshold)
    monkeypatch.setattr(family_jackknife, "TABLE_FROM", 1)
    assert family_intervals(source, threshold=threshold).to_dict() == searched.to_dict()


def test_thresholds_outside_the_grid_have_their_bins():
    edges = np.float32([-1.5, -1, 0.1, 1, 1.5])
    table = family_jackknife._bin_table(edges)
    below = math.floor(0.1 * 2**24)
    grid = np.float32([-1, -0.5, below / 2**24, (below + 1) / 2**24, 1])  # 0.1 lies between the middle ones
    assert grid[2] < edges[2] < grid[3]
    assert table[pair_stream.grid_index(grid)].tolist() == np.searchsorted(edges, grid, side="right").tolist()


def test_estimates_are_those_of_metrics():
    source, threshold = AllPairs(*faces(6, 30)), 0.5
    found, counts = family_intervals(source, threshold=threshold), count_pairs(source)
    for section in ("twin", "unrelated", "all"):
        scores, figures = counts.section(section), found.figures[section]
        assert figures["eer"].estimate == error_rates.eer(scores).eer
        assert figures["roc_auc"].estimate == error_rates.auc(scores)
        assert figures["d_prime"].estimate == error_rates.d_prime(scores)
        assert figures["fmr"].estimate == error_rates.error_rates_at(scores, threshold).fmr
        assert figures["fnmr_at_fmr_0.01"].estimate == error_rates.operating_point(scores, 0.01).fnmr
        assert figures["tar_at_far_0.01"].estimate == error_rates.operating_point(scores, 0.01).tar
        for interval in figures.values():
            assert interval.low <= interval.estimate <= interval.high
        band = found.bands[section]
        assert (np.diff(band.fmr) > 0).all()
        assert (band.fnmr_low[-1], band.fnmr_high[-1]) == (0, 0)  # at FMR 1 every pair is accepted
        assert (band.fmr[0], band.fmr[-1]) == (pytest.approx(min(10 / scores.num_impostors, 1)), 1)
        for fmr, low, high in zip(band.fmr, band.fnmr_low, band.fnmr_high, strict=True):
            assert low <= error_rates.operating_point(scores, fmr).fnmr <= high
        at = int(np.argmin(np.abs(band.fmr - 0.1)))
        point = error_rates.operating_point(scores, float(band.fmr[at]))
        assert 0.5 < (band.fnmr_high[at] - band.fnmr_low[at]) / width(figures["fnmr_at_fmr_0.1"]) < 2
        assert point.fmr_achieved <= band.fmr[at]
    used = max(1e-4, 1 / counts.unrelated.size)
    at = error_rates.error_rates_at(
        counts.section("twin"), error_rates.operating_point(counts.section("unrelated"), used).threshold
    )
    assert found.headline_fmr == used
    assert (found.headline["twin_fmr"].estimate, found.headline["fnmr"].estimate) == (at.fmr, at.fnmr)


def width(interval):
    return interval.high - interval.low


def test_supported_levels_and_thresholds_only():
    found = family_intervals(tied(0, 6))  # 54 twin, 540 unrelated pairs
    assert not found.refusals
    assert "fnmr_at_fmr_0.1" in found.figures["twin"]
    assert "fnmr_at_fmr_0.01" not in found.figures["twin"]
    assert "tar_at_far_0.01" in found.figures["unrelated"]
    assert "tar_at_far_0.001" not in found.figures["unrelated"]
    assert not {"accuracy", "fmr", "fnmr", "tar", "f1"} & found.figures["all"].keys()
    assert found.headline_fmr == 1 / 540
    loose = family_intervals(tied(0, 6), headline_fmr=0.1)
    assert loose.headline_fmr == 0.1
    assert loose.headline["twin_fmr"].estimate > found.headline["twin_fmr"].estimate


@pytest.mark.parametrize(
    ("threshold", "fmr", "fnmr"), [(-math.inf, 1, 0), (math.inf, 0, 1), (-9.0, 1, 0), (9.0, 0, 1)]
)
def test_thresholds_beyond_all_scores(threshold, fmr, fnmr):
    figures = family_intervals(tied(1, 8), threshold=threshold).figures["twin"]
    assert (figures["fmr"].estimate, figures["fnmr"].estimate) == (fmr, fnmr)
    zero, one = (figures["fnmr"], figures["fmr"]) if fnmr == 0 else (figures["fmr"], figures["fnmr"])
    assert (zero.low, zero.high) == (0, pytest.approx(stats.beta.ppf(0.975, 1, 8)))
    assert (one.low, one.high) == (pytest.approx(stats.beta.ppf(0.025, 8, 1)), 1)


def test_no_false_match_of_unrelated_pairs_has_pairs_of_families_as_trials():
    figures = family_intervals(tied(1, 8), threshold=9.0).figures
    assert figures["unrelated"]["fmr"].high == pytest.approx(stats.beta.ppf(0.975, 1, 8 * 7 / 2))
    assert figures["all"]["fmr"].high == figures["unrelated"]["fmr"].high
    assert figures["unrelated"]["fnmr"].low == pytest.approx(stats.beta.ppf(0.025, 8, 1))


def test_seed_order_and_blocks():
    source = AllPairs(*faces(4, 12))
    one = family_intervals(source, threshold=0.5).to_dict()
    assert family_intervals(source, threshold=0.5, counts=count_pairs(source)).to_dict() == one
    other = family_intervals(source, threshold=0.5, seed=4).to_dict()
    assert other["figures"] == one["figures"]  # a seed is for groups of very many families
    listed, rng = as_list(source, dtype=np.float32), np.random.default_rng(0)
    shuffled = as_list(source, dtype=np.float32, order=rng.permutation)
    for again in (listed, shuffled):
        same = family_intervals(again, threshold=0.5).to_dict()
        for section in one["figures"]:
            for name, interval in one["figures"][section].items():
                assert same["figures"][section][name] == pytest.approx(interval)
        assert same["bands"] == one["bands"]


def test_chunks_do_not_matter(monkeypatch):
    source = as_list(AllPairs(*faces(4, 12)))
    whole = family_intervals(source, threshold=0.5).to_dict()
    monkeypatch.setattr(pair_stream, "LISTED_AT_ONCE", 97)
    parts = family_intervals(source, threshold=0.5).to_dict()
    for section in whole["figures"]:
        for name, interval in whole["figures"][section].items():
            assert parts["figures"][section][name] == pytest.approx(interval)


def test_monotone_rescaling_of_list_scores_moves_only_d_prime():
    source = AllPairs(*faces(7, 10))

    def stretch(score):  # leaves [0, 1], not linear, keeps order
        return 40 * score**3 + 3 * score - 100

    plain = family_intervals(as_list(source), threshold=0.5)
    stretched = family_intervals(as_list(source, change=stretch), threshold=float(stretch(np.float64(0.5))))
    for section, figures in plain.figures.items():
        for name, interval in figures.items():
            if name != "d_prime":
                assert vars(stretched.figures[section][name]) == pytest.approx(vars(interval))
    assert stretched.headline == plain.headline
    shifted = family_intervals(as_list(source, change=lambda score: 3 * score + 1e3), threshold=3 * 0.5 + 1e3)
    for section, figures in plain.figures.items():
        got, want = shifted.figures[section]["d_prime"], figures["d_prime"]
        assert vars(got) == pytest.approx(vars(want), rel=1e-5)


def test_more_families_give_narrower_intervals():
    few, many = (family_intervals(AllPairs(*faces(9, count)), threshold=0.6) for count in (10, 90))
    for name in ("eer", "roc_auc", "fmr", "fnmr", "d_prime"):
        assert width(many.figures["twin"][name]) < 0.6 * width(few.figures["twin"][name])
    wide = family_intervals(AllPairs(*faces(9, 10)), threshold=0.6, level=0.99)
    assert width(wide.figures["twin"]["eer"]) > 1.2 * width(few.figures["twin"]["eer"])


def test_intervals_become_plain_json():
    found = family_intervals(tied(2, 7), threshold=0.5, seed=5, level=0.9)
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (again["level"], again["seed"]) == (0.9, 5)
    assert (again["num_families"], again["num_units"]) == (7, 7)
    assert again["figures"]["twin"]["eer"] == vars(found.figures["twin"]["eer"])
    assert again["bands"]["all"]["fnmr_low"] == found.bands["all"].fnmr_low.tolist()
    assert again["headline"]["fnmr"] == vars(found.headline["fnmr"])


# Refusals


def test_few_families_are_refused_with_the_reason():
    found = family_intervals(AllPairs(*faces(0, 4)), threshold=0.5)
    assert found.refusals == {"": "only 4 families; an interval needs 5 or more."}
    assert (found.figures, found.headline, found.bands, found.headline_fmr) == ({}, {}, {}, None)
    json.dumps(found.to_dict(), allow_nan=False)
    assert not family_intervals(AllPairs(*faces(0, 5)), threshold=0.5).refusals


def test_unknown_families_are_refused_with_the_reason():
    reason = {"": "the families of the pairs are not known; intervals leave out families."}
    assert family_intervals(ListedPairs([0.9, 0.4, 0.3], [0, 1, 2])).refusals == reason
    other = ListedPairs([0.9, 0.4], [0, 3], [0, 0], [1, 2], people=[0, 0, 1])
    assert family_intervals(other).refusals == reason


class Untold(ListedPairs):
    """A source that knows families but not of which kind its impostors are."""

    def blocks(self):
        for block in super().blocks():
            kind = np.where(block.kind == PairKind.UNRELATED, PairKind.OTHER, block.kind).astype(np.int8)
            yield pair_stream.PairBlock(block.first, block.second, block.score, kind)


def test_pairs_of_unknown_kind_are_refused_with_the_reason():
    known = tied(0, 6)
    source = Untold(known._score, known._kind, *known._rows, people=known.people, families=known.families)
    assert family_intervals(source).refusals.keys() == {""}
    assert family_intervals(known).refusals == {}


def few_twins(num_twin_families, families=12):
    """Families of two for a few, of one person for the rest."""
    embeddings, person, family = faces(2, families)
    keep = (person % 2 == 0) | (family < num_twin_families)
    return AllPairs(embeddings[keep], person[keep], family[keep])


def test_few_families_of_twins_cost_the_twin_section_alone():
    found = family_intervals(few_twins(4), threshold=0.5)
    reason = "only 4 families have such pairs; an interval needs 5 or more."
    assert found.refusals == {"twin": reason, "headline": reason}
    assert found.headline == {}
    assert found.figures["twin"].keys() == {"fnmr", "tar"}  # of genuine pairs, which all families have
    assert {"eer", "fmr"} <= found.figures["unrelated"].keys() & found.figures["all"].keys()
    assert found.bands.keys() == {"unrelated", "all"}
    assert family_intervals(few_twins(5), threshold=0.5).refusals == {}
    assert family_intervals(few_twins(0), threshold=0.5).figures.keys() == {"unrelated", "all"}


def test_families_without_a_pair_are_not_left_out():
    """Labels may tell of more images than the list compares; a family may come second only, or not at all."""
    source = AllPairs(*faces(1, 9))
    whole = as_list(source)
    people, families = np.append(source.people, [90, 91]), np.append(source.families, [-1, 40])
    more = as_list(source, people=people, families=families)
    ours, theirs = family_intervals(whole, threshold=0.5), family_intervals(more, threshold=0.5)
    assert theirs.num_families == theirs.num_units == 9
    assert theirs.figures == ours.figures
    second = ListedPairs(
        np.linspace(0, 1, 6), np.full(6, PairKind.UNRELATED), np.zeros(6, int), np.arange(1, 7),
        people=np.arange(7), families=np.arange(7),
    )  # fmt: skip
    assert family_jackknife.families_of(second).tolist() == list(range(7))


def test_intervals_at_the_threshold_are_those_of_its_replicates():
    source = tied(3, 9)
    found = family_intervals(source, threshold=0.5)
    left_out = left_out_of(source, 0.5)
    for section, figures in found.figures.items():
        again = replicates.at_column(section_of(left_out.counts, section), left_out.column(0.5))
        for name in intervals.AT_THRESHOLD:
            estimate = figures[name].estimate
            assert figures[name] == confidence.rate_interval(
                estimate, again[name], num_units=9, num_trials=9, level=0.95
            )


@pytest.mark.parametrize("asked", [0.05, 0.2, 0.7])
def test_rates_at_an_fmr_move_along_the_curve_of_all_pairs(asked):
    """By loops: the threshold of all pairs, corrected by the slope of their curve between half and twice the odds."""
    source = tied(3, 9)
    left_out = left_out_of(source)
    whole = pairs_left(source, None)
    for section in ("twin", "unrelated"):
        genuine, impostor = whole["genuine"], whole[section]
        odds = asked / (1 - asked)
        at, stricter, looser = (
            oracle.operating_point(genuine, impostor, each / (1 + each))
            for each in (odds, odds / 2, 2 * odds)
        )
        stricter, looser = (each if 0 < each[2] < 1 else at for each in (stricter, looser))
        threshold = at[0]
        run = logit(looser[1], len(impostor)) - logit(stricter[1], len(impostor))
        rise = logit(looser[2], len(genuine)) - logit(stricter[2], len(genuine))
        slope = rise / run if run else 0
        got = replicates.fnmr_at_fmr(
            section_of(left_out.counts, section), section_of(left_out.whole, section), asked
        )
        for family in range(9):
            left = pairs_left(source, family)
            fmr, fnmr = oracle.rates(left["genuine"], left[section], threshold)
            want = fnmr
            if 0 < fnmr < 1:
                moved = logit(fmr, len(left[section])) - logit(at[1], len(impostor))
                shifted = logit(fnmr, len(left["genuine"])) - slope * moved
                want = 1 / (1 + math.exp(-shifted))
            assert got[family] == pytest.approx(want), (section, family)


def test_the_headline_moves_with_the_threshold_of_unrelated_pairs():
    source = tied(3, 9)
    found = family_intervals(source, headline_fmr=0.05)
    left_out = left_out_of(source)
    twin, unrelated = (section_of(left_out.counts, name) for name in ("twin", "unrelated"))
    whole_twin, whole_unrelated = (section_of(left_out.whole, name) for name in ("twin", "unrelated"))
    again = {
        "twin_fmr": replicates.twin_fmr_at_fmr(twin, whole_twin, unrelated, whole_unrelated, 0.05),
        "fnmr": replicates.fnmr_at_fmr(unrelated, whole_unrelated, 0.05),
    }
    at_the_same_threshold = replicates.at_column(
        twin, int(replicates.column_at_fmr(whole_unrelated.fmr, 0.05)[0])
    )
    assert not np.allclose(again["twin_fmr"], at_the_same_threshold["fmr"])
    for name, without in again.items():
        assert found.headline[name] == confidence.rate_interval(
            found.headline[name].estimate, without, num_units=9, num_trials=9, level=0.95
        )


def logit(rate, total):
    inside = min(max(rate, 0.5 / total), 1 - 0.5 / total)
    return math.log(inside / (1 - inside))


def test_degrees_of_freedom_are_those_of_families_with_such_pairs():
    """The same spread, a wider interval where fewer families stand behind it."""
    found = family_intervals(few_twins(6, families=60), threshold=0.5)
    left_out = left_out_of(few_twins(6, families=60), 0.5)
    assert left_out.having == {PairKind.GENUINE: 60, PairKind.TWIN: 6, PairKind.UNRELATED: 60}
    assert left_out.num_unit_pairs == 60 * 59 / 2
    again = replicates.at_column(section_of(left_out.counts, "twin"), left_out.column(0.5))["fmr"]
    got = found.figures["twin"]["fmr"]
    assert got == confidence.rate_interval(got.estimate, again, num_units=6, num_trials=6, level=0.95)


def test_unrelated_pairs_of_two_families_alone_are_refused():
    _, person, family = faces(2, 6)
    first, second = np.triu_indices(len(person), 1)
    within = (family[first] == family[second]) | (family[first] + family[second] == 1)
    first, second = first[within], second[within]
    kinds = np.where(family[first] != family[second], PairKind.UNRELATED, PairKind.TWIN)
    kinds[person[first] == person[second]] = PairKind.GENUINE
    scores = np.random.default_rng(0).normal(size=first.size)
    found = family_intervals(
        ListedPairs(scores, kinds, first, second, people=person, families=family), threshold=0.5
    )
    reason = "only 2 families have such pairs; an interval needs 5 or more."
    assert found.refusals == {"unrelated": reason, "headline": reason}
    assert found.figures["unrelated"].keys() == {"fnmr", "tar"}


def test_infinite_d_prime_is_refused():
    source = as_list(AllPairs(*faces(0, 6)), change=lambda score: np.zeros_like(score))
    kinds = np.concatenate([block.kind for block in source.blocks()])
    flat = ListedPairs(
        (kinds == 0).astype(float), kinds, *(source._rows), people=source.people, families=source.families
    )
    found = family_intervals(flat)
    assert found.refusals["twin.d_prime"] == "the figure is infinite: no class has any spread."
    assert (found.figures["twin"]["eer"].low, found.figures["twin"]["roc_auc"].high) == (0, 1)
    assert found.figures["twin"]["roc_auc"].low == pytest.approx(1 - stats.beta.ppf(0.975, 1, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95}, "confidence level 95 is not between 0 and 1"),
        ({"level": 0.0}, "confidence level"),
        ({"threshold": math.nan}, "threshold is NaN"),
        ({"headline_fmr": 0.0}, "false match rate lies in"),
        ({"headline_fmr": 1.5}, "false match rate lies in"),
    ],
)
def test_impossible_arguments_are_errors(options, message):
    with pytest.raises(MetricError, match=message):
        family_intervals(tied(0, 6), **options)


def test_scores_without_a_figure_are_errors():
    with pytest.raises(MetricError, match="are the same"):
        family_intervals(as_list(AllPairs(*faces(0, 6)), change=np.zeros_like))
    with pytest.raises(MetricError, match="genuine scores: there are none"):
        family_intervals(AllPairs(*faces(0, 6, images=1)))
    with pytest.raises(MetricError, match="impostor scores: there are none"):
        family_intervals(AllPairs(*faces(0, 1, people=1)))


# The interval itself


@pytest.mark.parametrize("df", [1, 1.3, 2, 2.5, 4, 19, 33.3, 255, 999])
@pytest.mark.parametrize("t", [0.0, 0.3, -1.0, 2.1, 9.0, 60.0])
def test_students_t_equals_scipys(df, t):
    assert confidence.two_sided_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), abs=1e-11)


@pytest.mark.parametrize("df", [1, 1.7, 4, 19.4, 999])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_quantiles_of_students_t_equal_scipys(df, level):
    assert confidence.t_quantile(level, df) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-8)


def means_without_each(values):
    return (values.sum() - values) / (values.size - 1)


def test_the_spread_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=4000)
    of = confidence.spread(means_without_each(values), values.size)
    assert of.error == pytest.approx(values.std(ddof=1) / math.sqrt(values.size))
    assert of.freedom == pytest.approx(4000, rel=0.1)  # all pull alike
    assert of.skewness == pytest.approx(stats.skew(values) / math.sqrt(values.size), rel=1e-3)


def test_one_unit_that_decides_leaves_one_degree_of_freedom():
    values = np.zeros(30)
    values[0], values[1:] = 100, np.random.default_rng(0).normal(size=29)
    of = confidence.spread(means_without_each(values), 30)
    assert 1 <= of.freedom < 1.5
    assert 0.9 < of.skewness < 1


def test_halls_correction_is_the_inverse_of_his_cubic_within_a_factor():
    for skewness in (-0.2, -0.1, 0.0, 0.05, 0.25):
        for wanted in (-2.5, -1.96, 1.5, 2.2):
            t = confidence._unskewed(wanted, skewness)
            cubic = t + skewness / 3 * t**2 + skewness**2 / 27 * t**3 + skewness / 6
            assert cubic == pytest.approx(wanted), (skewness, wanted)
    assert confidence._unskewed(2.0, -1.2) == 3.0
    assert confidence._unskewed(2.0, 1.5) == pytest.approx(4 / 3)
    assert confidence._unskewed(-2.0, 1.5) == -3.0


def test_rate_interval_is_on_the_logit_scale():
    logits = np.array([-1.5, -1.3, -1.6, -1.4, -1.2])
    values = np.append(1 / (1 + np.exp(-logits)), np.nan)
    got = confidence.rate_interval(0.2, values, num_units=5, num_trials=5, level=0.9)
    of = confidence.spread(logits, 5)
    quantile = stats.t.ppf(0.95, of.freedom)
    reach = [of.error * confidence._unskewed(end, of.skewness) for end in (quantile, -quantile)]
    low, high = (1 / (1 + np.exp(-(np.log(0.2 / 0.8) - part))) for part in reach)
    assert (got.low, got.high) == pytest.approx((low, high))
    assert (got.estimate, got.num_undefined) == (0.2, 1)
    mirrored = confidence.rate_interval(0.8, 1 - values, num_units=5, num_trials=5, level=0.9)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - high, 1 - low))


def test_errors_of_one_family_alone_have_the_bound_of_one_error():
    values = np.array([0.0, *[0.011] * 19])  # without the first family there is no error
    got = confidence.rate_interval(0.01, values, num_units=20, num_trials=20, level=0.95)
    assert (got.low, got.high) == (0, pytest.approx(stats.beta.ppf(0.975, 2, 19)))
    mirrored = confidence.rate_interval(0.99, 1 - values, num_units=20, num_trials=20, level=0.95)
    assert (mirrored.low, mirrored.high) == (pytest.approx(1 - got.high), 1)
    heavy = confidence.rate_interval(0.6, values, num_units=20, num_trials=20, level=0.95)
    assert (heavy.low, heavy.high) == (0, 1)  # a family too large to count as one of twenty


def test_plain_interval_and_p_value_agree():
    left_out = np.random.default_rng(0).normal(0, 0.1, 12)
    of = confidence.spread(left_out, 12)
    for estimate in (0.05, 0.7, 0.75, 0.8, 2.3, -3.0):
        around = confidence.plain_interval(estimate, left_out, num_units=12, level=0.95)
        p = confidence.p_value_of_zero(estimate, left_out, num_units=12)
        assert around.high - estimate == pytest.approx(stats.t.ppf(0.975, of.freedom) * of.error)
        assert (p < 0.05) == (not around.low <= 0 <= around.high)
        assert p == pytest.approx(2 * stats.t.sf(abs(estimate) / of.error, of.freedom))
    assert confidence.p_value_of_zero(0.0, left_out * 0, num_units=12) == 1
    assert confidence.p_value_of_zero(0.1, left_out * 0, num_units=12) == 0


# Two systems


def two_systems(seed=0, families=30, worse=0.6):
    embeddings, person, family = faces(seed, families)
    spoilt = embeddings + worse * np.random.default_rng(seed).normal(size=embeddings.shape)
    return AllPairs(embeddings, person, family), AllPairs(spoilt, person, family)


def test_a_clear_difference_is_found_and_mirrors():
    ours, theirs = two_systems()
    there, back = paired_intervals(ours, theirs), paired_intervals(theirs, ours)
    assert there.differences.keys() == {"twin", "unrelated", "all"}
    for section, figures in there.differences.items():
        for name, difference in figures.items():
            a, b = (
                FIGURE(count_pairs(s).section(section)) for s in (ours, theirs) for FIGURE in [exact(name)]
            )
            assert (difference.a, difference.b, difference.difference) == (a, b, a - b)
            other = back.differences[section][name]
            assert (other.low, other.high) == pytest.approx((-difference.high, -difference.low))
            assert other.p_value == pytest.approx(difference.p_value)
    eer, auc = there.differences["unrelated"]["eer"], there.differences["unrelated"]["roc_auc"]
    assert eer.high < 0 < auc.low
    assert eer.p_value < 0.05
    assert 0 < auc.p_value < 0.05
    json.dumps(there.to_dict(), allow_nan=False)
    assert there.to_dict()["differences"]["twin"]["eer"] == vars(there.differences["twin"]["eer"])


def exact(name):
    return intervals.FIGURES[name][0]


def test_a_system_does_not_differ_from_itself():
    ours, _ = two_systems()
    for figures in paired_intervals(ours, ours).differences.values():
        for difference in figures.values():
            assert (difference.low, difference.difference, difference.high, difference.p_value) == (
                0,
                0,
                0,
                1,
            )


def test_pairing_narrows_the_difference():
    """The same families are left out for both, so what they share cancels."""
    ours, theirs = two_systems(worse=0.2)
    difference = paired_intervals(ours, theirs).differences["twin"]["roc_auc"]
    alone = [family_intervals(source).figures["twin"]["roc_auc"] for source in (ours, theirs)]
    assert width(difference) < 0.7 * math.hypot(*map(width, alone))


def test_systems_with_scores_of_any_range_are_compared():
    ours, theirs = two_systems(families=12)
    plain = paired_intervals(ours, theirs)
    listed = paired_intervals(as_list(ours), as_list(theirs, change=lambda score: 100 * score - 7))
    assert listed.differences == plain.differences


def test_other_pairs_are_refused():
    ours, theirs = two_systems(families=6)
    lists = as_list(ours), as_list(theirs, order=lambda count: np.arange(count)[::-1])
    with pytest.raises(MetricError, match="not score the same pairs in the same order .630 and 630 pairs"):
        paired_intervals(*lists)
    with pytest.raises(MetricError, match=r"630 and 600 pairs"):
        paired_intervals(as_list(ours), as_list(theirs, order=lambda count: np.arange(600)))
    with pytest.raises(MetricError, match="have other people"):
        paired_intervals(ours, AllPairs(*faces(0, 7)))
    with pytest.raises(MetricError, match="not score the same pairs"):
        paired_intervals(ListedPairs([0.9, 0.4], [0, 1]), ListedPairs([0.9, 0.4], [0, 2]))
    embeddings, person, _ = faces(0, 6)
    with pytest.raises(MetricError, match="have other families"):
        paired_intervals(ours, AllPairs(embeddings, person, person))
    with pytest.raises(MetricError, match="have other families"):
        paired_intervals(as_list(ours), as_list(theirs, families=None))


def test_few_families_are_not_compared():
    ours, theirs = two_systems(families=4)
    compared = paired_intervals(ours, theirs)
    assert compared.refusals == {"": "only 4 families; an interval needs 5 or more."}
    assert compared.differences == {}
    found = paired_intervals(few_twins(4), few_twins(4))
    assert found.refusals == {"twin": "only 4 families have such pairs; an interval needs 5 or more."}
    assert found.differences.keys() == {"unrelated", "all"}
