"""behind.py: how many people and families stand behind pairs and errors, against loops over pairs."""

import people_oracle as oracle
import pytest
from made_faces import all_listed, faces, uneven

from twin_dcal.evaluation.behind import behind, doubts, effective_number, sentence
from twin_dcal.evaluation.error_analysis import analyze_errors
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.table import format_table
from twin_dcal.report.html import report_page


def by_loops(comparisons, vectors, threshold):
    """kind -> (pairs and errors of each person, pairs and errors of each family, number of pairs)."""
    people, families = comparisons.people.tolist(), comparisons.families.tolist()
    told = {kind: ({}, {}, []) for kind in ("genuine", "twin", "unrelated")}
    for one, other, score, kind in all_listed(comparisons, vectors):
        wrong = oracle.wrong(score, kind, threshold)
        for counts, labels in zip(told[kind], (people, families), strict=False):
            for label in {labels[one], labels[other]}:
                pairs, errors = counts.get(label, (0, 0))
                counts[label] = pairs + 1, errors + wrong
        told[kind][2].append(wrong)
    return told


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_numbers_are_those_of_loops(threshold):
    comparisons, vectors = uneven()
    found = behind(analyze_errors(pair_source(comparisons, vectors), comparisons, threshold, 0).people)
    assert list(found) == ["genuine", "twin", "unrelated"]
    for kind, (people, families, wrong) in by_loops(comparisons, vectors, threshold).items():
        told = found[kind]
        assert (told["num_pairs"], told["num_errors"]) == (len(wrong), sum(wrong))
        for name, counts in (("people", people), ("families", families)):
            total = sum(pairs for pairs, _ in counts.values())
            expected = 1 / sum((pairs / total) ** 2 for pairs, _ in counts.values())
            assert told[name]["effective"] == pytest.approx(expected)
            assert told[name]["num"] == len(counts)
            assert told[name]["with_errors"] == sum(errors > 0 for _, errors in counts.values())
            largest = max(sorted(counts), key=lambda label: counts[label][0])
            assert told[name]["largest"] == {
                "id": largest, "share": pytest.approx(counts[largest][0] / len(wrong))
            }  # fmt: skip


def test_equal_people_count_as_many_as_they_are():
    assert effective_number([7] * 30) == pytest.approx(30)
    assert effective_number([1000, 1]) == pytest.approx(1.002, abs=1e-3)
    assert effective_number([0, 0]) == 0


def test_nobody_known_is_nothing_told():
    assert behind([]) is None
    assert (doubts(None), sentence(None)) == ([], "")


@pytest.fixture(scope="module")
def half_of_one():
    """30 families; one person has more than half of the genuine pairs."""
    comparisons, vectors = uneven(30, large=26)
    found = evaluate(
        pair_source(comparisons, vectors), comparisons, Decision(0.5, "validation"), EvaluationOptions()
    )
    assert found.figures["behind"]["genuine"]["people"]["largest"]["share"] > 0.5
    return found


def test_the_first_screen_says_that_one_person_holds_half_of_the_genuine_pairs(half_of_one):
    told = half_of_one.figures["behind"]["genuine"]["people"]
    words = f"60 people (like {told['effective']:.1f} with equally many pairs)"
    share = f"F00a has {100 * told['largest']['share']:.0f} % of them"
    page = report_page(half_of_one)
    first_screen = page.partition("</header>")[0].replace("\u202f%", " %")
    table = " ".join(format_table(half_of_one.figures).split())
    for text in (first_screen, table):
        assert words in text
        assert share in text
    assert 'class="whose narrow"' in first_screen
    (warning,) = [line for line in half_of_one.figures["warnings"] if line.startswith("Genuine pairs:")]
    assert words in warning
    assert "as those of few people" in warning


def test_people_behind_errors_stand_beside_the_rule_of_30():
    comparisons, vectors = uneven(30)
    effort = EvaluationOptions(num_replicates=0)
    figures = evaluate(
        pair_source(comparisons, vectors), comparisons, Decision(0.7, "validation"), effort
    ).figures
    at, told = figures["unrelated"]["confusion"], figures["behind"]["unrelated"]
    assert 0 < at["num_false_matches"] < 30
    people = told["people"]["with_errors"]
    assert any(
        f"only {at['num_false_matches']} false matches (of {people} people)" in line
        for line in figures["warnings"]
    )


def test_even_sets_of_many_families_are_not_warned_of():
    comparisons, vectors = faces(24, images_each=3)
    found = evaluate(
        pair_source(comparisons, vectors),
        comparisons,
        Decision(0.5, "x"),
        EvaluationOptions(num_replicates=0),
    )
    assert doubts(found.figures["behind"]) == []
    assert found.figures["behind"]["twin"]["families"]["effective"] == pytest.approx(24)
    assert 'class="whose"' in report_page(found)
