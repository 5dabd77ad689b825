"""people.py and zoo.py: tables by loops, worst pairs whatever the blocks, animals only where it is no accident."""

import numpy as np
import people_oracle as oracle
import pytest
from made_faces import Split, all_listed, faces
from scipy import stats

from twin_dcal.evaluation import error_analysis as module
from twin_dcal.evaluation.error_analysis import analyze_errors
from twin_dcal.evaluation.protocol import Comparisons, pair_source, sample_unrelated
from twin_dcal.metrics.pair_stream import ListedPairs
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.metrics.zoo import Individual, Means, animals, image_jackknife, normal_deviate


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_tables_are_those_of_a_loop(threshold, sampled):
    comparisons, vectors = faces(5, images_each=3, seed=2)
    if sampled:
        comparisons = sample_unrelated(comparisons, 60, 0)
    found = analyze_errors(pair_source(comparisons, vectors), comparisons, threshold, 5)
    pairs = all_listed(comparisons, vectors)
    people, families = (
        oracle.person_table(pairs, comparisons.people.tolist(), threshold),
        oracle.family_table(pairs, comparisons.families.tolist(), threshold),
    )
    assert [row.person for row in found.people] == sorted(people)
    for row in found.people:
        told = people[row.person]
        assert [row.num_genuine, row.num_false_non_matches] == told["genuine"]
        assert [row.num_twin, row.num_twin_false_matches] == told["twin"]
        assert [row.num_unrelated, row.num_unrelated_false_matches] == told["unrelated"]
        assert row.mean_genuine == pytest.approx(told["genuine_sum"] / told["genuine"][0])
        impostors = told["twin"][0] + told["unrelated"][0]
        assert row.mean_impostor == pytest.approx(told["impostor_sum"] / impostors)
        assert (row.num_images, row.family) == (3, row.person[:3])
    assert [row.family for row in found.families] == sorted(families)
    for row in found.families:
        told = families[row.family]
        assert [row.num_genuine, row.num_false_non_matches] == told["genuine"]
        assert [row.num_twin, row.num_twin_false_matches] == told["twin"]
        assert row.twin_auc == pytest.approx(told["auc"])
        assert (list(row.people), row.num_images) == ([f"{row.family}a", f"{row.family}b"], 6)


def test_a_family_of_one_has_no_twin_figures():
    comparisons, vectors = faces(4, people_each=1)
    found = analyze_errors(pair_source(comparisons, vectors), comparisons, 0.5, 0)
    assert all((row.num_twin, row.twin_auc) == (0, None) for row in found.families)
    assert found.false_matches == found.false_non_matches == []


def expected_worst(pairs, kind, threshold, size):
    sign = 1 if kind == "genuine" else -1
    wrong = [pair for pair in pairs if pair[3] == kind and oracle.wrong(pair[2], kind, threshold)]
    wrong.sort(key=lambda pair: (sign * pair[2], min(pair[:2]), max(pair[:2])))
    return [(min(pair[:2]), max(pair[:2]), pair[2]) for pair in wrong[: 10 * size]]


def first_of_their_kind(worst, people, size):
    """Those of (row, row, score) of which no earlier one that is told has the same people or one of the pictures."""
    told = []
    for pair in worst:
        same_people = [{people[row] for row in pair[:2]} == {people[row] for row in old[:2]} for old in told]
        same_pictures = [set(pair[:2]) & set(old[:2]) for old in told]
        if not any(same_people) and not any(same_pictures):
            told.append(pair)
    return told[:size]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("block", [3, 50, 10_000])
def test_worst_pairs_do_not_depend_on_blocks(block, size):
    comparisons, vectors = faces(5, images_each=3)
    source = pair_source(comparisons, np.round(vectors, 0) + 0.1)  # ties
    found = analyze_errors(Split(source, block), comparisons, 0.5, size)
    pairs = all_listed(comparisons, np.round(vectors, 0) + 0.1)
    number = {name: row for row, name in enumerate(comparisons.names)}
    got = {"genuine": found.false_non_matches, "twin": [], "unrelated": []}
    for pair in found.false_matches:
        got[pair.kind].append(pair)
    for kind, worst in got.items():
        expected = first_of_their_kind(expected_worst(pairs, kind, 0.5, size), comparisons.people, size)
        assert [(number[p.first], number[p.second], p.score) for p in worst] == expected
        for pair in worst:
            assert (pair.first_person, pair.second_person) == tuple(
                comparisons.people[number[name]] for name in (pair.first, pair.second)
            )
    scores = [pair.score for pair in found.false_matches]
    assert scores == sorted(scores, reverse=True)


def test_of_equal_scores_the_first_images_are_kept_in_any_order():
    comparisons = Comparisons("x", list("abcdefgh"), None, None, None, {})
    first, second = np.triu_indices(8, 1)
    for order in (slice(None), slice(None, None, -1)):
        source = ListedPairs(np.full(28, 0.5), np.full(28, 3), first[order], second[order])
        kept = analyze_errors(Split(source, 5), comparisons, 0.1, 3).false_matches
        assert [pair.first + pair.second for pair in kept] == ["ab", "cd", "ef"]


def test_a_score_at_the_threshold_is_a_match_in_any_precision():
    """0.1 is above float32's 0.1 rounded down: a float32 score of that value is below the threshold."""
    comparisons = Comparisons(
        "x", ["a", "b", "c"], np.array(["p", "p", "q"]), np.array(["p", "p", "q"]), None, {}
    )
    low = np.nextafter(np.float32(0.1), np.float32(0))
    for scores, threshold, missed in (
        (np.float32([0.1, 0.1, 0.1]), float(np.float32(0.1)), 0),
        (np.float32([low, 0.1, 0.1]), 0.1, 1),
        (np.float32([0.3, 0.3, 0.3]), np.nextafter(float(np.float32(0.3)), 1), 1),
        (np.float64([0.1, 0.1, 0.1]), 0.1, 0),
    ):
        source = ListedPairs(
            scores, [0, 2, 2], [0, 0, 1], [1, 2, 2], people=comparisons.people, families=comparisons.families
        )
        assert len(analyze_errors(source, comparisons, threshold, 5).false_non_matches) == missed
        exact = [float(score) >= threshold for score in scores]
        matches = analyze_errors(source, comparisons, threshold, 5).false_matches
        assert len(matches) == any(exact[1:])  # both are of the same two people


def test_unknown_people_leave_names_only():
    comparisons = Comparisons("x", ["a", "b", "c"], None, None, None, {})
    found = analyze_errors(ListedPairs([0.9, 0.8], [0, 3], [0, 0], [1, 2]), comparisons, 0.5, 5)
    assert found.people == found.families == []
    (pair,) = found.false_matches
    assert (pair.first, pair.second, pair.first_person, pair.kind) == ("a", "c", "", "other")
    known = Comparisons("x", comparisons.names, np.array(["p", "p", "q"]), None, None, {})
    found = analyze_errors(ListedPairs([0.9, 0.8], [0, 3], [0, 0], [1, 2]), known, 0.5, 5)
    assert [(row.person, row.family, row.num_unrelated) for row in found.people] == [
        ("p", "", 1),
        ("q", "", 1),
    ]
    assert found.people[1].mean_genuine is None
    assert found.families == []


def test_too_many_scores_leave_out_the_auc_of_families(monkeypatch):
    monkeypatch.setattr(module, "MAX_COLLECTED", 20)
    comparisons, vectors = faces(4)
    assert {
        row.twin_auc
        for row in analyze_errors(pair_source(comparisons, vectors), comparisons, 0.5, 1).families
    } == {None}


@pytest.mark.parametrize("shared", [True, False])
def test_the_jackknife_is_that_of_a_loop(shared):
    """shared: all pairs among 6 images of one person; else all pairs of 5 images with 3 of another."""
    rng = np.random.default_rng(0)
    if shared:
        pairs = {(i, j): rng.normal() for i in range(6) for j in range(i)}
        images, person = range(6), np.zeros(6, int)
    else:
        pairs = {(i, j): rng.normal() for i in range(5) for j in range(5, 8)}
        images, person = range(5), np.array([0] * 5 + [1] * 3)
    sums, counts = np.zeros(len(person)), np.zeros(len(person), int)
    for (one, other), score in pairs.items():
        for row in (one, other):
            sums[row] += score
            counts[row] += 1
    found = image_jackknife(sums, counts, person, shared=shared)
    mean, error = oracle.jackknife(pairs, images)
    assert found.mean[0] == pytest.approx(mean)
    assert found.error[0] == pytest.approx(error)
    assert found.num_images[0] == len(images)


def test_people_without_pairs_have_no_mean():
    found = image_jackknife(np.array([1.0, 1.0, 0.0]), np.array([1, 1, 0]), np.array([0, 0, 1]), shared=True)
    assert found.mean[0] == 1.0
    assert np.isnan(found.mean[1])
    assert found.num_images.tolist() == [2, 0]


@pytest.mark.parametrize("freedom", [4, 9, 30])
def test_the_normal_deviate_has_the_tail_of_students_t(freedom):
    t = np.linspace(-12, 12, 49)
    exact = stats.norm.isf(stats.t.sf(t, freedom))
    np.testing.assert_allclose(normal_deviate(t, np.full(49, freedom)), exact, rtol=0.02, atol=1e-12)
    assert normal_deviate(np.array([np.inf]), np.array([4]))[0] == np.inf


def population(rng, num_people=60, num_images=12, planted=None, shift=0.0):
    """Scores of images are the mean of image qualities: pairs that share images are correlated."""
    quality = rng.normal(0.6, 0.1, (num_people, num_images))
    if planted is not None:
        quality[planted] += shift
    sums = np.zeros(num_people * num_images)
    counts = np.full(num_people * num_images, num_images - 1)
    for person in range(num_people):
        mine = quality[person]
        total = (mine[:, None] + mine[None, :]) / 2
        sums[person * num_images : (person + 1) * num_images] = total.sum(1) - np.diag(total)
    return image_jackknife(sums, counts, np.repeat(np.arange(num_people), num_images), shared=True)


FLAT = Means(np.zeros(60), np.ones(60), np.full(60, 12))


def test_nobody_of_a_population_without_animals_is_one():
    """At most 5 % of such populations name anybody; 200 populations, so 10 expected at most."""
    rng = np.random.default_rng(0)
    named = sum(any(animals(Individual(population(rng), FLAT, FLAT))) for _ in range(200))
    assert named <= 20


def test_a_planted_goat_is_found_and_nobody_else():
    found = animals(Individual(population(np.random.default_rng(1), planted=7, shift=-0.5), FLAT, FLAT))
    assert [number for number, animal in enumerate(found) if animal] == [7]
    assert found[7] == "goat"


def test_wolves_go_by_decisions_and_lambs_by_scores():
    rng = np.random.default_rng(2)
    high, higher = (population(rng, planted=number, shift=0.5) for number in (3, 4))
    assert [animals(Individual(FLAT, high, higher))[number] for number in (3, 4)] == ["lamb", "wolf"]
    assert animals(Individual(FLAT, high, high))[3] == "wolf"
    goat = population(rng, planted=3, shift=-0.5)
    assert animals(Individual(goat, high, high))[3] == "goat"
    assert not any(animals(Individual(high, goat, goat)))  # the other ends are no animals


def test_too_few_images_are_not_enough():
    means = population(np.random.default_rng(1), planted=7, shift=-0.5)
    few = Means(means.mean, means.error, np.full(60, 4))
    assert not any(animals(Individual(few, few, few)))
    two = Means(means.mean[:2], means.error[:2], means.num_images[:2])
    assert animals(Individual(two, two, two)) == ["", ""]


def test_wolves_of_a_survey():
    """One person's images resemble everybody's: a wolf or lamb by name, and the table says so."""
    comparisons, vectors = faces(12, people_each=1, images_each=8, dim=32, family=1.0, person=0.0, noise=0.6)
    common = vectors.mean(0) / np.linalg.norm(vectors.mean(0))
    vectors += 2 * common
    vectors[:8] = 6 * common + 0.3 * np.random.default_rng(0).normal(size=(8, 32))
    found = analyze_errors(pair_source(comparisons, vectors), comparisons, 0.5, 3)
    assert found.people[0].animal in ("lamb", "wolf")
    assert {row.animal for row in found.people[1:]} <= {"", "goat"}


def test_kinds_of_the_walk_are_those_of_scores():
    assert [kind.name for kind in PairKind] == ["GENUINE", "TWIN", "UNRELATED", "OTHER"]
