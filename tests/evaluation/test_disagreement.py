"""Pairs on which two systems disagree: by a loop over all of them."""

import csv
import io
import math

import numpy as np
import pytest
from made_faces import all_listed, faces

from twin_dcal.evaluation import disagreement as module
from twin_dcal.evaluation.compare import Run
from twin_dcal.evaluation.comparison_table import disagreement_lines
from twin_dcal.evaluation.disagreement import disagreement, disagreement_csv
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.systems import Scored


@pytest.fixture(scope="module")
def two():
    comparisons, vectors = faces(8, images_each=3)
    worse = vectors + 0.8 * np.random.default_rng(5).normal(size=vectors.shape).astype(np.float32)
    runs = [
        Run(name, Scored(comparisons, pair_source(comparisons, view), view))
        for name, view in (("a", vectors), ("b", worse))
    ]
    return comparisons, (vectors, worse), runs


def threshold_of(pairs):
    """The lowest observed score with one false match of a stranger at most."""
    strangers = [score for _, _, score, kind in pairs if kind == "unrelated"]
    allowed = max(1, math.floor(0.001 * len(strangers)))
    observed = sorted(score for _, _, score, kind in pairs if kind != "twin")
    return next(score for score in observed if sum(s >= score for s in strangers) <= allowed)


def test_counts_and_pairs_are_those_of_a_loop(two):
    comparisons, views, runs = two
    listed = [all_listed(comparisons, view) for view in views]
    at = [threshold_of(pairs) for pairs in listed]
    other = {tuple(sorted(pair[:2])): pair[2] for pair in listed[1]}
    counts, wrong_of_b = {}, {}
    for first, second, score, kind in listed[0]:
        theirs = other[tuple(sorted((first, second)))]
        mine_right, their_right = (
            (s >= t) == (kind == "genuine") for s, t in zip((score, theirs), at, strict=True)
        )
        row = counts.setdefault(kind, [0, 0, 0, 0, 0])
        row[0] += 1
        row[1 + (not mine_right) * 2 + (not their_right)] += 1
        if mine_right and not their_right:
            wrong_of_b.setdefault(kind, []).append(
                (abs(theirs - at[1]), {comparisons.names[first], comparisons.names[second]})
            )
    person = dict(zip(comparisons.names, comparisons.people.tolist(), strict=True))
    figures, pairs = disagreement(*runs)
    assert figures["thresholds"] == pytest.approx(at[::-1])
    keys = ("num_pairs", "both_right", "only_first_right", "only_other_right", "both_wrong")
    for kind, (total, both, first_only, other_only, neither) in counts.items():
        assert figures["kinds"][kind] == dict(
            zip(keys, (total, both, first_only, other_only, neither), strict=True)
        )
    assert sum(row[2] for row in counts.values()) > 0
    for kind, found in wrong_of_b.items():
        expected, shown = [], []
        for _, names in sorted(found, key=lambda each: -each[0]):
            people = {person[name] for name in names}
            if people not in shown and not any(names & old for old in expected):
                expected.append(names)
                shown.append(people)
        told = [each for each in pairs if each.right == "a" and each.pair.kind == kind]
        assert [{each.pair.first, each.pair.second} for each in told] == expected[: module.NUM_SHOWN]
    text = "\n".join(disagreement_lines([figures]))
    assert f"| genuine | b | {counts['genuine'][1]} | {counts['genuine'][2]} |" in text
    rows = list(csv.DictReader(io.StringIO(disagreement_csv(pairs))))
    assert len(rows) == len(pairs)
    assert {row["wrong"] for row in rows} <= {"a", "b"}


def test_too_many_pairs_are_not_held_in_memory(two, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 10)
    assert disagreement(*two[2]) == (None, [])
    assert disagreement_lines([]) == []
