"""evaluation.py and its files: the same figures whichever step is entered, and everything that a report needs."""

import csv
import json

import numpy as np
import pytest
from made_faces import all_listed, faces
from PIL import Image

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.evaluation.embedding_files import read_embeddings, write_embeddings
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, _points, evaluate
from twin_dcal.evaluation.examples import save_examples
from twin_dcal.evaluation.inputs import DataFiles, join_scores
from twin_dcal.evaluation.protocol import Comparisons, listed_source, pair_source
from twin_dcal.evaluation.report_schema import write_figures
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.evaluation.score_files import read_scores, write_scores
from twin_dcal.evaluation.systems import EmbeddingsSystem, decision_from, decision_to
from twin_dcal.evaluation.tables import write_tables
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.pair_stream import ListedPairs
from twin_dcal.metrics.pairs import PairKind

FEW = EvaluationOptions(num_replicates=100, num_worst=3)
DECISION = Decision(0.55, "validation", Platt(9.0, -5.0, 0.5, 10, 10, "validation"))


def evaluated(comparisons, vectors, decision=DECISION, effort=FEW):
    return evaluate(
        pair_source(comparisons, vectors),
        comparisons,
        decision,
        effort,
        vectors,
        {"model": {"path": "m.pth"}},
    )


@pytest.fixture(scope="module")
def made():
    comparisons, vectors = faces(8, images_each=3)
    return (
        comparisons,
        vectors,
        evaluated(
            comparisons, vectors, effort=EvaluationOptions(num_replicates=100, num_worst=3, num_folds=3)
        ),
    )


def test_everything_a_report_needs_is_there(made):
    comparisons, _, found = made
    figures = found.figures
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert list(figures)[:3] == ["schema_version", "model", "protocol"]
    assert set(figures) == {
        *("schema_version", "model", "protocol", "threshold", "threshold_source", "twin", "unrelated", "all"),
        "achieved_fmr",
        *(
            "weights",
            "sentence",
            "behind",
            "headline",
            "intervals",
            "calibration",
            "folds",
            "animals",
            "warnings",
            "notes",
            "roc_auc",
            "eer",
        ),
        "failures",
        *(
            "eer_threshold",
            "tar_at_far_0.001",
            "tar_at_far_0.01",
            "tar_at_far_0.1",
            "pr_auc",
            "average_precision",
        ),
        *("best_f1", "twin_accuracy", "twin_f1", "regular_accuracy"),
    }  # beside what docs/metrics.md lists for single options
    assert figures["protocol"] == {"name": "all pairs", "num_images": 48, "num_people": 16, "num_families": 8}
    assert figures["intervals"]["num_replicates"] == 8
    assert figures["twin"]["intervals"].keys() <= figures["twin"].keys()
    low, high = figures["twin"]["intervals"]["eer"]
    assert low <= figures["twin"]["eer"] <= high
    assert figures["calibration"]["on"] == "twin"
    assert figures["calibration"]["ece"] == found.reliability.ece
    assert figures["folds"]["num_folds"] == 3
    assert set(figures["animals"]) == {"goats", "lambs", "wolves"}
    assert (len(found.people), len(found.families)) == (16, 8)
    assert len(found.false_non_matches) == min(3, figures["twin"]["confusion"]["num_false_non_matches"])
    np.testing.assert_allclose(np.linalg.norm(found.points.embeddings, axis=1), 1, atol=1e-6)
    assert [str(path) for path in found.points.paths] == comparisons.names
    assert list(found.points.people) == comparisons.people.tolist()
    assert list(found.points.families) == comparisons.families.tolist()


def test_histograms_and_curves_are_those_of_the_scores(made):
    comparisons, vectors, found = made
    pairs = all_listed(comparisons, vectors)
    for kind in ("genuine", "twin", "unrelated"):
        scores = np.array([score for *_, score, name in pairs if name == kind])
        expected, _ = np.histogram(scores, found.histograms.edges)
        assert np.array_equal(found.histograms.counts[kind], expected)
    assert found.histograms.counts["other"].sum() == 0
    assert found.histograms.edges[0] == min(score for *_, score, _ in pairs)
    assert found.histograms.edges[-1] == max(score for *_, score, _ in pairs)
    genuine, twin = ([score for *_, score, name in pairs if name == kind] for kind in ("genuine", "twin"))
    corners = error_rates.roc(error_rates.sort_scores(genuine, twin), corners_only=True)
    curve = found.curves["twin"]
    assert np.array_equal(curve.fmr, corners.fmr)
    assert np.array_equal(curve.fnmr, corners.fnmr)
    assert curve.band_fmr.size == curve.fnmr_low.size == curve.fnmr_high.size > 2
    assert (curve.fnmr_low <= curve.fnmr_high).all()


@pytest.mark.parametrize("length", [1e30, 1e-30])
def test_vectors_of_any_length_are_points_of_length_1(length):
    comparisons, vectors = faces(3)
    expected = _points(comparisons, vectors).embeddings
    found = _points(comparisons, vectors * np.float32(length)).embeddings
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_a_threshold_tables_go_by_the_eer_of_the_scores():
    comparisons, vectors = faces(6)
    found = evaluated(comparisons, vectors, Decision())
    threshold = found.figures["threshold"]
    assert threshold == found.figures["twin"]["eer_threshold"]
    assert "optimistic" in found.figures["warnings"][0]
    assert all(pair.score >= threshold for pair in found.false_matches)
    assert found.reliability is found.figures["calibration"] is None
    errors = sum(row.num_false_non_matches for row in found.people)
    assert errors == found.figures["all"]["confusion"]["num_false_non_matches"] > 0


def test_intervals_can_be_switched_off_and_few_families_say_why():
    comparisons, vectors = faces(4)
    off = evaluated(comparisons, vectors, effort=EvaluationOptions(num_replicates=0)).figures
    assert off["intervals"] is None
    assert "no intervals: switched off." in off["notes"]
    few = evaluated(comparisons, vectors).figures
    assert few["intervals"] is None
    assert any(note.startswith("no intervals: ") and "4 families" in note for note in few["notes"])
    assert few["twin"]["intervals"] == {}
    with pytest.raises(MetricError, match="threshold metric 'best' is unknown"):
        EvaluationOptions(fold_metric="best")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_images_embeddings_and_scores_give_one_report(made, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    comparisons, vectors, found = made
    write_embeddings(tmp_path / "e.npz", comparisons, vectors, {"decision": decision_to(DECISION)})
    system = EmbeddingsSystem(read_embeddings(tmp_path / "e.npz"), DataFiles(), Sampling())
    scored = system.scored(None, "test")
    assert system.stored() == DECISION
    effort = EvaluationOptions(num_replicates=100, num_worst=3, num_folds=3)
    again = evaluate(scored.source, scored.comparisons, system.stored(), effort, scored.vectors)
    write_scores(tmp_path / f"s.{suffix}", scored.source, scored.comparisons)
    table = read_scores(tmp_path / f"s.{suffix}")
    third_what = join_scores(table, None)
    third = evaluate(listed_source(third_what, table.scores), third_what, DECISION, effort)
    for other in (again, third):
        for key in set(found.figures) - {"model", "protocol"}:
            assert other.figures[key] == found.figures[key], key
        assert other.families == found.families
        assert [row.person for row in other.people] == [row.person for row in found.people]
        assert [row.animal for row in other.people] == [row.animal for row in found.people]
        assert other.false_matches == found.false_matches
    assert third.points is None


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((48, 4), np.float32), r"all scores are the same, those of .* genuine"),
        (np.full((48, 4), np.nan, np.float32), r"48 of 48 rows hold NaN"),
        (np.zeros((48, 4), np.float32), r"48 of 48 rows are all zero"),
    ],
)
def test_hostile_vectors_are_one_line(made, vectors, message):
    with pytest.raises(MetricError, match=message):
        evaluated(made[0], vectors)


def test_one_class_is_one_line():
    comparisons, vectors = faces(6, images_each=1)
    with pytest.raises(MetricError, match="genuine scores: there are none"):
        evaluated(comparisons, vectors)
    comparisons, vectors = faces(1, people_each=1)
    with pytest.raises(MetricError, match="impostor scores: there are none"):
        evaluated(comparisons, vectors)


def test_a_decision_survives_json_and_damage_is_named():
    values = json.loads(json.dumps(decision_to(DECISION)))
    assert decision_from(values, "e.npz") == DECISION
    assert decision_from(None, "e.npz") == Decision()
    assert decision_to(Decision()) is None
    assert decision_from({**values, "calibration": None}, "e.npz") == Decision(0.55, "validation")
    for damaged in ({**values, "threshold": "high"}, {"threshold": 1}, [1]):
        with pytest.raises(MetricError, match=r"^e\.npz: its threshold cannot be read"):
            decision_from(damaged, "e.npz")


def test_tables_are_written_and_old_ones_removed(made, tmp_path):
    _, _, found = made
    write_tables(found, tmp_path)
    with (tmp_path / "families.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["family"] for row in rows] == [row.family for row in found.families]
    assert rows[0]["people"] == "F00a F00b"
    with (tmp_path / "people.csv").open() as file:
        assert [int(row["num_twin"]) for row in csv.DictReader(file)] == [
            row.num_twin for row in found.people
        ]
    with (tmp_path / "worst_pairs.csv").open() as file:
        worst = list(csv.DictReader(file))
    assert len(worst) == len(found.false_matches) + len(found.false_non_matches)
    assert float(worst[0]["score"]) == found.false_matches[0].score
    unknown = Comparisons("x", [str(number) for number in range(11)], None, None, None, {})
    kinds = np.repeat([PairKind.GENUINE, PairKind.OTHER], 5)
    source = ListedPairs(np.linspace(0, 1, 10), kinds, np.arange(10), np.arange(1, 11))
    write_tables(evaluate(source, unknown, Decision(2.0), EvaluationOptions(num_replicates=0)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "worst_pairs.csv"
    ]  # nobody known; all rejected


def test_examples_show_the_worst_pairs(tmp_path):
    comparisons, vectors = faces(3, images_each=2)
    rng = np.random.default_rng(0)
    names = []
    for number, name in enumerate(comparisons.names):
        path = tmp_path / "faces" / name.removeprefix("/data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if number:  # the first file is missing
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
        names.append(str(path))
    comparisons = type(comparisons)("x", names, comparisons.people, comparisons.families, None, {})
    found = evaluate(
        pair_source(comparisons, vectors),
        comparisons,
        Decision(0.0),
        EvaluationOptions(num_replicates=0, num_worst=40),
    )
    home = tmp_path / "examples"
    readable = [pair for pair in found.false_matches if names[0] not in (pair.first, pair.second)]
    assert len(readable) >= 4 > sum(pair in readable for pair in found.false_matches[:4])
    assert save_examples(found, home, 4) == 4
    written = sorted(home.iterdir())
    assert len(written) == 4
    first = readable[0]
    assert (
        written[0].name
        == f"false_match_001_{first.kind}_{first.score:+.3f}_{first.first_person}_{first.second_person}.jpg"
    )
    with Image.open(written[0]) as sheet:
        assert sheet.size == (456, 224)
        clear = np.asarray(sheet, dtype=float)
    assert save_examples(found, home, 1, blur=True) == 1
    (only,) = home.iterdir()
    with Image.open(only) as sheet:
        blurred = np.asarray(sheet, dtype=float)
    assert (
        np.abs(np.diff(blurred[60:160, 60:160], axis=0)).mean()
        < np.abs(np.diff(clear[60:160, 60:160], axis=0)).mean() / 4
    )


def test_the_written_report_holds_what_was_told(made, tmp_path):
    _, _, found = made
    report, summary = write_figures(found.figures, tmp_path)
    assert json.loads(report.read_text("utf-8")) == found.figures
    text = summary.read_text("utf-8")
    assert "3 folds by family" in text
    assert "Calibration (platt, on twin impostors): ECE" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("value", [True, False, 1.0, "10", -1, None], ids=repr)
@pytest.mark.parametrize("name", ["num_replicates", "seed", "num_folds", "num_worst"])
def test_how_much_to_compute_is_told_in_whole_numbers(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} .*: give a whole number, 0 or more$"):
        EvaluationOptions(**{name: value})
    assert EvaluationOptions(**{name: 0})
