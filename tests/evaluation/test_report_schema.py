"""figures.py: the figures are those of metrics.py, strict JSON, honest about what is missing, readable."""

import json
import math
import stat

import numpy as np
import pytest
import verification_oracle as oracle

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.report_schema import evaluation_figures, write_figures
from twin_dcal.evaluation.table import features_table, fold_lines, format_table, summary_line
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.error_rates import sort_scores
from twin_dcal.metrics.intervals import Interval, Intervals
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.thresholds import choose_threshold

FLAT_KEYS = (
    *("roc_auc", "eer", "eer_threshold", "tar_at_far_0.001", "tar_at_far_0.01", "tar_at_far_0.1", "pr_auc"),
    *("average_precision", "best_f1", "twin_accuracy", "twin_f1", "regular_accuracy"),
)


def pair_scores(twin=900, unrelated=30_000, other=0, genuine=600):
    rng = np.random.default_rng(8)
    sizes = {
        "genuine": (0.7, genuine),
        "twin": (0.5, twin),
        "unrelated": (0.1, unrelated),
        "other": (0.2, other),
    }
    return PairScores(**{k: rng.normal(m, 0.15, n).astype(np.float32) for k, (m, n) in sizes.items()})


def strict(figures):
    return json.loads(json.dumps(figures, allow_nan=False))


def test_figures_are_those_of_the_metrics():
    scores = pair_scores(other=500)
    figures = evaluation_figures(scores, 0.6, "validation")
    assert strict(figures) == figures  # plain types only
    everyone = np.concatenate([scores.twin, scores.unrelated, scores.other])
    for name, impostors in (("twin", scores.twin), ("unrelated", scores.unrelated), ("all", everyone)):
        section, ordered = figures[name], sort_scores(scores.genuine, impostors)
        assert (section["num_genuine"], section["num_impostors"]) == (600, impostors.size)
        assert section["roc_auc"] == error_rates.auc(ordered)
        assert section["eer"] == error_rates.eer(ordered).eer
        assert section["eer_threshold"] == error_rates.eer(ordered).threshold
        assert section["best_accuracy"] == error_rates.best_accuracy(ordered).value
        assert section["best_accuracy_threshold"] == error_rates.best_accuracy(ordered).threshold
        fmr, fnmr = oracle.rates(scores.genuine.astype(float), impostors.astype(float), 0.6)
        assert (section["confusion"]["fmr"], section["confusion"]["fnmr"]) == (fmr, fnmr)
        assert section["confusion"]["num_false_matches"] == round(fmr * impostors.size)
        right = (1 - fmr) * impostors.size + (1 - fnmr) * 600
        assert section["accuracy"] == pytest.approx(right / (600 + impostors.size))
        assert [point["fmr_requested"] for point in section["tar_at_far"]] == [0.1, 0.01, 0.001, 0.0001]
        for point in section["tar_at_far"]:
            assert point["tar"] == error_rates.operating_point(ordered, point["fmr_requested"]).tar
    assert (figures["threshold"], figures["threshold_source"]) == (0.6, "validation")
    assert "500 impostor pairs have no family information" in figures["notes"][0]


def test_flat_keys_of_earlier_versions():
    scores = pair_scores()
    figures = evaluation_figures(scores, 0.6, "validation")
    assert all(isinstance(figures[key], float) for key in FLAT_KEYS)
    for key in ("roc_auc", "eer", "eer_threshold"):
        assert figures[key] == figures["all"][key]
    assert figures["tar_at_far_0.01"] == figures["all"]["tar_at_far"][1]["tar"]
    assert figures["tar_at_far_0.001"] == figures["all"]["tar_at_far"][2]["tar"]
    twin = sort_scores(scores.genuine, scores.twin)
    assert figures["twin_accuracy"] == error_rates.accuracy_at(twin, 0.6)
    assert figures["twin_f1"] == error_rates.error_rates_at(twin, 0.6).f1
    assert figures["regular_accuracy"] == figures["unrelated"]["accuracy"]


def test_headline_is_the_twin_fmr_at_fmr_1e_4_on_unrelated_people():
    scores = pair_scores()
    figures = evaluation_figures(scores, 0.6)
    headline = figures["headline"]
    assert np.mean(scores.unrelated >= headline["threshold"]) == headline["fmr_achieved"] <= 1e-4
    assert np.mean(scores.twin >= headline["threshold"]) == headline["twin_fmr"]
    assert np.mean(scores.genuine < headline["threshold"]) == pytest.approx(headline["fnmr"])
    lower = np.sort(np.r_[scores.genuine, scores.unrelated])
    lower = lower[lower < np.float32(headline["threshold"])][-1]  # the next looser threshold asks too much
    assert np.mean(scores.unrelated >= lower) > 1e-4
    assert headline["fmr_used"] == headline["fmr_requested"] == 1e-4
    assert headline["num_unrelated"] == 30_000


def test_headline_with_few_unrelated_pairs_says_so():
    figures = evaluation_figures(pair_scores(unrelated=2000), 0.6)
    assert figures["headline"]["fmr_used"] == 1 / 2000
    told = figures["headline"]["sentence"]
    assert "0.05 % of unrelated pairs match (2,000 unrelated pairs are too few for 0.01 %)" in told
    assert figures["headline"]["fmr_achieved"] <= 1 / 2000
    assert any("2,000 unrelated pairs are too few for FMR 0.0001" in line for line in figures["warnings"])
    assert any(line.startswith("unrelated: 2,000 impostor pairs are too few") for line in figures["warnings"])


def test_headline_of_one_unrelated_pair_asks_for_nothing():
    figures = evaluation_figures(pair_scores(genuine=2, twin=1, unrelated=1), 0.6)
    assert "(1 unrelated pair is too few for 0.01 %)" in figures["headline"]["sentence"]
    assert any(line.startswith("headline: 1 unrelated pair is too few") for line in figures["warnings"])


def test_without_a_stored_threshold_the_twin_eer_stands_in_and_is_named():
    scores = pair_scores()
    figures = evaluation_figures(scores)
    assert figures["threshold"] == figures["twin"]["eer_threshold"]
    assert "EER on the twin impostors" in figures["threshold_source"]
    assert "optimistic" in figures["warnings"][0]
    assert not any("optimistic" in line for line in evaluation_figures(scores, 0.6, "x")["warnings"])


def test_missing_kinds_are_null_with_the_reason():
    figures = evaluation_figures(pair_scores(twin=0, unrelated=0, other=400))
    assert figures["twin"] is figures["unrelated"] is figures["headline"] is None
    assert figures["twin_accuracy"] is figures["regular_accuracy"] is figures["twin_f1"] is None
    assert figures["all"]["num_impostors"] == 400
    assert [note.split(":")[0] for note in figures["notes"][:3]] == ["twin", "unrelated", "headline"]
    assert "EER on all impostors of" in figures["threshold_source"]
    table = format_table(figures)
    assert "headline: it needs both" in table
    assert strict(figures) == figures


def test_thresholds_of_infinity_are_null():
    scores = PairScores(*(np.float32(part) for part in ([0.1, 0.2], [0.3, 0.9], [0.8, 0.8], [])))
    figures = evaluation_figures(scores, math.inf, "nobody")
    assert figures["threshold"] is None
    assert figures["all"]["best_accuracy_threshold"] is None
    assert figures["unrelated"]["tar_at_far"][3]["threshold"] is None
    assert strict(figures) == figures
    assert "no pair accepted" in format_table(figures)


@pytest.mark.parametrize("threshold", [None, 0.6])
def test_bad_scores_are_errors(threshold):
    with pytest.raises(MetricError, match="impostor scores: there are none"):
        evaluation_figures(pair_scores(twin=0, unrelated=0), threshold)
    with pytest.raises(MetricError, match="genuine scores: there are none"):
        evaluation_figures(pair_scores(genuine=0), threshold)
    flat = np.float32([0.5, 0.5])
    with pytest.raises(MetricError, match="are the same"):
        evaluation_figures(PairScores(flat, flat, flat, flat), threshold)
    with pytest.raises(MetricError, match="section 'unrelated'"):
        evaluation_figures(PairScores(flat, np.float32([0.1]), flat, flat), threshold)
    with pytest.raises(MetricError, match="NaN"):
        evaluation_figures(pair_scores(), math.nan)


def test_table_fits_the_terminal_and_dashes_what_is_unsupported():
    scores = pair_scores()
    table = format_table(
        evaluation_figures(scores, 0.6, "validation pairs of data/lookalikes, metric eer " * 3)
    )
    assert max(map(len, table.splitlines())) <= 100
    rows = {line.split()[0]: line.split() for line in table.splitlines()[1:4]}
    assert list(rows) == ["twin", "unrelated", "all"]
    rates = {line.split()[0]: line.split() for line in table.splitlines()[6:9]}
    assert rates["twin"][-1] == "-"  # 900 pairs cannot support 1e-4
    assert (
        rates["unrelated"][-1]
        == f"{100 * error_rates.operating_point(sort_scores(scores.genuine, scores.unrelated), 1e-4).tar:.1f}"
    )
    assert rows["all"][1] == "30,900"
    eer = 100 * error_rates.eer(sort_scores(scores.genuine, scores.twin)).eer
    assert rows["twin"][2] == f"{eer:.2f}"
    assert "At the decision threshold 0.6, " in table
    huge = json.loads(json.dumps(evaluation_figures(scores, 0.6)))
    for name in ("twin", "unrelated", "all"):
        huge[name]["num_impostors"] = 1_249_975_000
    assert max(map(len, format_table(huge).splitlines())) <= 100


def test_written_report_comes_back_whole_and_private(tmp_path):
    figures = evaluation_figures(pair_scores(), 0.6, "Prüfung")
    folder = tmp_path / "new" / "folder"
    report, summary = write_figures(figures, folder)
    assert (report.name, summary.name) == ("evaluation_report.json", "evaluation_summary.txt")

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(report.read_text("utf-8"), parse_constant=refuse) == figures
    assert summary.read_text("utf-8") == format_table(figures)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (report, summary)} == {0o600}
    assert sorted(folder.iterdir()) == [report, summary]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    figures = evaluation_figures(pair_scores(), 0.6)
    report, _ = write_figures(figures, tmp_path)
    before = report.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_figures({**figures, "eer": math.nan}, tmp_path)
    assert report.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("metric", ["eer", "accuracy", "f1"])
def test_threshold_is_chosen_on_twins(metric):
    scores = pair_scores()
    choice, twin = choose_threshold(scores, metric), sort_scores(scores.genuine, scores.twin)
    want = {"eer": error_rates.eer, "accuracy": error_rates.best_accuracy, "f1": error_rates.best_f1}[metric](
        twin
    ).threshold
    at = error_rates.error_rates_at(twin, want)
    assert (choice.threshold, choice.on, choice.metric) == (want, "twin", metric)
    assert (choice.fmr, choice.fnmr, choice.num_genuine, choice.num_impostors) == (at.fmr, at.fnmr, 600, 900)
    assert choose_threshold(pair_scores(twin=0), metric).on == "all"


def test_threshold_for_a_rate_is_chosen_on_unrelated_people():
    choice = choose_threshold(pair_scores(), "far=1e-3")
    assert (choice.on, choice.num_impostors) == ("unrelated", 30_000)
    assert 0.5e-3 < choice.fmr <= 1e-3
    assert choose_threshold(pair_scores(unrelated=0), "far=0.01").on == "all"
    few = choose_threshold(pair_scores(unrelated=100), "far=1e-3")
    assert "needs 1,000 impostor pairs or more, there are 100" in few.warning
    assert few.fmr == 0


@pytest.mark.parametrize("metric", ["auc", "far", "far=", "far=x", "tar=0.1", "EER"])
def test_unknown_threshold_metrics_are_errors(metric):
    with pytest.raises(MetricError, match=r"unknown. Use eer, accuracy, f1"):
        choose_threshold(pair_scores(), metric)


def test_no_usable_threshold_is_an_error():
    scores = PairScores(*(np.float32(part) for part in ([0.1, 0.2], [0.3, 0.9, 0.9], [0.8, 0.8], [])))
    for metric in ("accuracy", "far=0.1"):
        with pytest.raises(MetricError, match="only rejecting every pair"):
            choose_threshold(scores, metric)
    with pytest.raises(MetricError, match="false match rate"):
        choose_threshold(scores, "far=2")


SECTION_KEYS = {
    *(
        "num_genuine",
        "num_impostors",
        "eer",
        "eer_threshold",
        "roc_auc",
        "best_accuracy",
        "best_accuracy_threshold",
    ),
    *(
        "accuracy",
        "fmr",
        "fnmr",
        "eer_hull",
        "min_cllr",
        *("min_dcf_0.01", "min_dcf_0.001", "dcf_0.01", "dcf_0.001"),
        "tar",
        "f1",
        "best_f1",
        "best_f1_threshold",
        "d_prime",
        "pr_auc",
        "average_precision",
    ),
    *("confusion", "tar_at_far", "intervals"),
    *(
        f"{rate}_{level}"
        for rate in ("tar_at_far", "fnmr_at_fmr")
        for level in ("0.1", "0.01", "0.001", "0.0001")
    ),
}


def test_the_schema_is_the_one_that_the_docs_describe():
    """A change here is a change of the file's schema: raise SCHEMA_VERSION and edit docs/metrics.md."""
    figures = evaluation_figures(pair_scores(other=10), 0.6, "x")
    assert figures["schema_version"] == 2
    known = {
        "schema_version",
        "threshold",
        "threshold_source",
        "weights",
        "sentence",
        "behind",
        "twin",
        "unrelated",
        "all",
        "headline",
        "intervals",
        "warnings",
        "notes",
    }
    assert set(figures) == known | set(FLAT_KEYS)
    for name in ("twin", "unrelated", "all"):
        assert set(figures[name]) == SECTION_KEYS
    assert set(figures["twin"]["confusion"]) == {
        *(
            "num_true_matches",
            "num_false_matches",
            "num_true_non_matches",
            "num_false_non_matches",
            "fmr",
            "fnmr",
            "f1",
        ),
    }
    assert set(figures["twin"]["tar_at_far"][0]) == {
        *("fmr_requested", "fmr_achieved", "fnmr", "tar", "threshold", "num_impostors", "num_genuine"),
        *("num_false_matches", "num_false_non_matches", "supported", "warning"),
    }
    assert set(figures["headline"]) == {
        *(
            "fmr_requested",
            "fmr_used",
            "fmr_achieved",
            "threshold",
            "twin_fmr",
            "fnmr",
            "intervals",
            "num_unrelated",
        ),
        *(
            "num_twin",
            "num_genuine",
            "num_unrelated_false_matches",
            "num_twin_false_matches",
            "num_false_non_matches",
        ),
        *("sentence", "warnings"),
    }


def test_new_figures_are_those_of_the_metrics():
    scores = pair_scores()
    section, ordered = evaluation_figures(scores, 0.6)["twin"], sort_scores(scores.genuine, scores.twin)
    at = error_rates.error_rates_at(ordered, 0.6)
    assert (section["fmr"], section["fnmr"], section["tar"], section["f1"]) == (
        at.fmr,
        at.fnmr,
        at.tar,
        at.f1,
    )
    assert section["d_prime"] == pytest.approx(error_rates.d_prime(ordered))
    assert section["pr_auc"] == error_rates.pr_auc(ordered)
    assert section["average_precision"] == error_rates.average_precision(ordered)
    assert (section["best_f1"], section["best_f1_threshold"]) == (
        error_rates.best_f1(ordered).value,
        error_rates.best_f1(ordered).threshold,
    )
    for level in (0.1, 0.01, 0.001, 0.0001):
        point = error_rates.operating_point(ordered, level)
        assert section[f"tar_at_far_{level:g}"] == point.tar
        assert section[f"fnmr_at_fmr_{level:g}"] == point.fnmr == 1 - point.tar


def made_intervals(**changes):
    figures = {
        "twin": {
            "eer": Interval(0.2, 0.1, 0.3, 0),
            "roc_auc": Interval(0.87, 0.8, 0.93, 0),
            "d_prime": Interval(1.0, 0.5, math.inf, 0),
            "tar_at_far_0.1": Interval(0.5, 0.4, 0.6, 0),
        }
    }
    made = {
        "level": 0.95,
        "seed": 3,
        "num_families": 40,
        "num_units": 20,
        "figures": figures,
        "headline": {"twin_fmr": Interval(0.1, 0.05, 0.2, 0), "fnmr": Interval(0.3, 0.25, 0.4, 0)},
    }
    return Intervals(**{**made, **changes})


def test_intervals_stand_beside_their_figures():
    figures = evaluation_figures(pair_scores(), 0.6, "x", made_intervals())
    assert strict(figures) == figures
    assert figures["twin"]["intervals"] == {
        "eer": [0.1, 0.3],
        "roc_auc": [0.8, 0.93],
        "d_prime": [0.5, None],
        "tar_at_far_0.1": [0.4, 0.6],
    }
    assert figures["unrelated"]["intervals"] == {}
    assert figures["headline"]["intervals"] == {"twin_fmr": [0.05, 0.2], "fnmr": [0.25, 0.4]}
    assert "twin FMR is 14 % [5–20 %] and FNMR 34 % [25–40 %]" in figures["headline"]["sentence"]
    assert {
        key: figures["intervals"][key]
        for key in ("level", "num_families", "num_units", "num_replicates", "seed")
    } == {
        "level": 0.95,
        "num_families": 40,
        "num_units": 20,
        "num_replicates": 20,
        "seed": 3,
    }
    table = format_table(figures)
    assert "[10.00, 30.00]" in table
    assert "[0.8000, 0.9300]" in table
    assert "[40.0, 60.0]" in table
    assert "95% interval by leaving out each of 40 families." in table
    assert max(map(len, table.splitlines())) <= 100


def test_the_widest_table_fits():
    figures = json.loads(json.dumps(evaluation_figures(pair_scores(), 0.6, "x", made_intervals())))
    for name in ("twin", "unrelated", "all"):
        figures[name] |= {
            "num_impostors": 1_249_975_000,
            "eer": 1.0,
            "roc_auc": 1.0,
            "accuracy": 1.0,
            "best_accuracy": 1.0,
        }
        keys = ("eer", "roc_auc", *(f"tar_at_far_{level}" for level in ("0.1", "0.01", "0.001", "0.0001")))
        figures[name] |= dict.fromkeys(keys, 1.0) | {"intervals": {key: [1.0, 1.0] for key in keys}}
        for point in figures[name]["tar_at_far"]:
            point["supported"] = True
    assert max(map(len, format_table(figures).splitlines())) <= 100


def test_missing_intervals_come_with_the_reason():
    figures = evaluation_figures(
        pair_scores(), 0.6, "x", made_intervals(figures={}, headline={}, refusals={"": "families unknown"})
    )
    assert figures["intervals"] is None
    assert "no intervals: families unknown" in figures["notes"]
    partly = evaluation_figures(
        pair_scores(), 0.6, "x", made_intervals(refusals={"twin.f1": "why", "headline": "why"})
    )
    assert partly["intervals"] is not None
    assert "no interval for twin.f1, headline: why" in partly["notes"]


def test_the_report_begins_with_the_threshold_in_use():
    made = made_intervals()
    made.figures["twin"] |= {"fmr": Interval(0.25, 0.2, 0.3, 0), "fnmr": Interval(0.26, 0.2, 0.33, 0)}
    figures = evaluation_figures(pair_scores(), 0.6, "x", made)
    twin = figures["twin"]
    assert figures["sentence"].startswith(
        f"At the decision threshold 0.6, {100 * twin['fmr']:.0f} % [20–30 %] of twin pairs are accepted as one person "
        f"(twin FMR) and {100 * twin['fnmr']:.0f} % [20–33 %] of genuine pairs are rejected (FNMR)."
    )
    assert figures["sentence"].endswith(figures["headline"]["sentence"])
    assert len(figures["sentence"]) < 320


@pytest.mark.parametrize(
    ("threshold", "warned"),
    [(1.1, "low FMR is no success"), (0.3, "Most twin pairs are accepted"), (0.6, "")],
)
def test_a_rate_that_is_bad_is_no_success(threshold, warned):
    """At 1.1 nearly every genuine pair is rejected, and next to no twin pair is accepted."""
    figures = evaluation_figures(pair_scores(), threshold, "x")
    assert (figures["twin"]["fnmr"] > 0.99) == (threshold == 1.1)
    assert warned in figures["sentence"]
    assert ("Most" in figures["sentence"]) == bool(warned)


def test_without_twins_the_sentence_is_of_the_impostors_there_are():
    assert "of unrelated pairs are accepted" in evaluation_figures(pair_scores(twin=0), 0.6)["sentence"]
    only_other = evaluation_figures(pair_scores(twin=0, unrelated=0, other=50), math.inf)["sentence"]
    assert only_other.startswith("No threshold accepts a pair: 0 % of impostor pairs are accepted")


def test_the_rule_of_30_lists_only_counts_that_break_it():
    figures = evaluation_figures(pair_scores(genuine=6000), 0.6, "x")
    (line,) = [line for line in figures["warnings"] if line.startswith("headline: only")]
    told, headline = line.partition("only ")[2], figures["headline"]
    assert (
        headline["num_unrelated_false_matches"]
        < 30
        <= min(headline["num_twin_false_matches"], headline["num_false_non_matches"])
    )
    assert (
        told == f"{headline['num_unrelated_false_matches']} unrelated false matches behind it (rule of 30)."
    )


def test_few_errors_at_the_threshold_are_a_warning():
    figures = evaluation_figures(pair_scores(), 1.2, "x")
    assert "twin: only 0 false matches at the threshold (rule of 30)." in figures["warnings"]
    figures = evaluation_figures(pair_scores(), 0.6, "x")
    assert not any(
        "at the threshold (rule" in line and line.startswith("twin") for line in figures["warnings"]
    )


def test_distances_in_place_of_scores_are_pointed_out():
    scores = pair_scores()
    turned = PairScores(*(-getattr(scores, name) for name in ("genuine", "twin", "unrelated", "other")))
    assert any("sign is to be changed" in line for line in evaluation_figures(turned, 0.6)["warnings"])
    assert not any("sign is to be changed" in line for line in evaluation_figures(scores, 0.6)["warnings"])


def test_the_last_line_sums_up():
    figures = evaluation_figures(pair_scores(), 0.6, "x", made_intervals())
    figures["twin"]["roc_auc"], figures["unrelated"]["roc_auc"] = 0.87, 0.987
    assert (
        summary_line(figures, "r/report.html")
        == "twin AUC 0.87 [0.80, 0.93] · unrelated AUC 0.99 · report: r/report.html"
    )
    alone = evaluation_figures(pair_scores(twin=0, unrelated=0, other=50), 0.6)
    assert summary_line(alone, "r").startswith("all AUC ")


def test_features_and_folds_as_text():
    figures = evaluation_figures(pair_scores(), 0.6, "x", made_intervals())
    text = features_table(
        {
            "sa": {name: figures[name] for name in ("twin", "unrelated", "all")},
            "glca": figures | {"twin": None},
        }
    )
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [
        ["sa", "twin"],
        ["sa", "unrelated"],
        ["sa", "all"],
        ["glca", "unrelated"],
        ["glca", "all"],
    ]
    rate = {"mean": 0.123, "sd": 0.045, "se": 0.02}
    section = dict.fromkeys(("accuracy", "fmr", "fnmr", "threshold"), rate)
    folds = {
        "num_folds": 5,
        "by": "family",
        "metric": "eer",
        "sections": {"twin": None, "all": {**section, "num_impostors": [3, 4], "of_impostors": 70}},
    }
    lines = fold_lines(folds)
    assert "5 folds by family, threshold by eer" in lines[1]
    used = ["all", "7", "of", "70"]
    assert lines[3].split() == [*used, *(3 * ["12.30", "±", "4.50"]), "0.1230", "±", "0.0450"]
    assert len(lines) == 5
    lines = fold_lines(folds | {"by": "list"})
    assert lines[1] == "The list's own 5 folds, threshold by eer on the others (mean ± standard error):"
    assert lines[-1].split() == [*used, *(3 * ["12.30", "±", "2.00"]), "0.1230", "±", "0.0200"]
    assert fold_lines(None) == []
