"""comparing.py: systems on the same pairs, whatever their files are like; other pairs are refused in one line."""

import json

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.evaluation.compare import (
    Run,
    aligned,
    compare,
    find_run,
    open_stored,
    write_comparison,
)
from twin_dcal.evaluation.comparison_table import markdown
from twin_dcal.evaluation.embedding_files import write_embeddings
from twin_dcal.evaluation.evaluate import EvaluationOptions
from twin_dcal.evaluation.inputs import DataFiles
from twin_dcal.evaluation.protocol import (
    Comparisons,
    keep_people,
    listed_source,
    pair_source,
    sample_unrelated,
)
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.evaluation.score_files import write_scores
from twin_dcal.evaluation.systems import Scored
from twin_dcal.metrics import error_rates
from twin_dcal.metrics.pair_stream import count_pairs
from twin_dcal.metrics.paired import holm

EFFORT = EvaluationOptions(num_replicates=100)


def run_of(name, comparisons, vectors):
    return Run(name, Scored(comparisons, pair_source(comparisons, vectors), vectors))


def shuffled(comparisons, vectors, seed=0):
    order = np.random.default_rng(seed).permutation(len(comparisons.names))
    names = [comparisons.names[row].replace("/data/root", "/elsewhere") for row in order]
    return Comparisons("b", names, comparisons.people[order], comparisons.families[order], None, {}), vectors[
        order
    ]


@pytest.fixture
def two():
    comparisons, vectors = faces(8, images_each=3)
    worse = vectors + 0.8 * np.random.default_rng(5).normal(size=vectors.shape).astype(np.float32)
    return comparisons, vectors, worse


def test_rows_of_the_other_run_are_put_in_the_firsts_order(two):
    comparisons, vectors, worse = two
    one, other = aligned(run_of("a", comparisons, vectors), run_of("b", *shuffled(comparisons, worse)))
    direct = list(pair_source(comparisons, worse).blocks())
    for block, wanted, first in zip(other.blocks(), direct, one.blocks(), strict=True):
        assert np.array_equal(block.first, wanted.first)
        assert np.array_equal(block.second, first.second)
        np.testing.assert_allclose(block.score, wanted.score, atol=1e-6)


@pytest.mark.parametrize("order", [False, True])
def test_lists_and_all_pairs_meet(two, order, tmp_path):
    """One run has embeddings, the other a scores file of the same pairs in another order."""
    comparisons, vectors, worse = two
    other_what, other_vectors = shuffled(comparisons, worse)
    write_scores(tmp_path / "s.csv", pair_source(other_what, other_vectors), other_what)
    lines = (tmp_path / "s.csv").read_text().splitlines()
    (tmp_path / "s.csv").write_text("\n".join([lines[0], *sorted(lines[1:], reverse=True)]))
    files = Run("scores", open_stored(tmp_path / "s.csv", DataFiles(), Sampling()).scored(None, "test"))
    runs = [run_of("a", comparisons, vectors), files]
    one, two_ = aligned(*(runs[::-1] if order else runs))
    counts = [count_pairs(source) for source in (one, two_)][:: -1 if order else 1]
    for found, expected in zip(counts, (vectors, worse), strict=True):
        direct = count_pairs(pair_source(comparisons, expected))
        for name in ("twin", "unrelated"):
            assert error_rates.auc(found.section(name)) == pytest.approx(
                error_rates.auc(direct.section(name)), abs=1e-4
            )


def test_a_listed_protocol_is_compared_on_its_own_pairs(two):
    comparisons, vectors, worse = two
    sampled = sample_unrelated(comparisons, 60, 0)
    one, other = aligned(run_of("a", sampled, vectors), run_of("b", sampled, worse))
    assert count_pairs(one).unrelated.size == count_pairs(other).unrelated.size == 60
    different = sample_unrelated(comparisons, 60, 1)
    with pytest.raises(
        MetricError, match=r"a and b do not hold the same pairs \(180 and 180\)\. Evaluate both"
    ):
        aligned(run_of("a", sampled, vectors), run_of("b", different, worse))
    with pytest.raises(MetricError, match=r"do not hold the same pairs \(180 and 1,128\)"):
        aligned(run_of("a", sampled, vectors), run_of("b", comparisons, worse))


def test_other_images_people_or_kinds_are_refused(two):
    comparisons, vectors, worse = two
    fewer = keep_people(comparisons, sorted(comparisons.known_people())[:-1])
    with pytest.raises(MetricError, match=r"b: 3 of 48 images of a missing, first: /data/root/F07b/0\.jpg"):
        aligned(run_of("a", comparisons, vectors), run_of("b", fewer, worse[:-3]))
    with pytest.raises(MetricError, match=r"a and b: 45 and 48 images"):
        aligned(run_of("a", fewer, vectors[:-3]), run_of("b", comparisons, worse))
    people = comparisons.people.copy()
    people[0], people[3] = people[3], people[0]
    swapped = Comparisons("b", comparisons.names, people, comparisons.families, None, {})
    with pytest.raises(MetricError, match="a and b disagree on the people of the images"):
        aligned(run_of("a", comparisons, vectors), run_of("b", swapped, worse))
    renamed = Comparisons(
        "b",
        comparisons.names,
        np.char.add(comparisons.people, "x"),
        np.char.add("y", comparisons.families),
        None,
        {},
    )
    aligned(run_of("a", comparisons, vectors), run_of("b", renamed, worse))  # the same people by other names
    pairs = sample_unrelated(comparisons, 60, 0)
    bare = Comparisons("b", comparisons.names, None, None, pairs.pairs, {})
    turned = Comparisons(
        "b",
        comparisons.names,
        None,
        None,
        type(pairs.pairs)(pairs.pairs.first, pairs.pairs.second, np.roll(pairs.pairs.kinds, 1)),
        {},
    )
    scores = np.linspace(0, 1, 180)
    with pytest.raises(MetricError, match="a and b disagree on which pairs are genuine, twin or unrelated"):
        aligned(
            Run("a", Scored(bare, listed_source(bare, scores), None)),
            Run("b", Scored(turned, listed_source(turned, scores), None)),
        )


def test_the_table_tells_who_is_better_by_how_much(two, tmp_path):
    comparisons, vectors, worse = two
    runs = [
        run_of("good", comparisons, vectors),
        run_of("noisy", comparisons, worse),
        run_of("same", comparisons, vectors),
    ]
    told = compare(runs, EFFORT)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    eer = {run["name"]: run["sections"]["twin"]["eer"] for run in told["runs"]}
    by_name = {each["run"]: each["sections"]["twin"] for each in told["differences"]}
    assert by_name["noisy"]["eer"]["difference"] == pytest.approx(eer["noisy"] - eer["good"])
    assert eer["noisy"] > eer["good"]
    assert (
        by_name["noisy"]["eer"]["low"]
        < by_name["noisy"]["eer"]["difference"]
        < by_name["noisy"]["eer"]["high"]
    )
    assert by_name["noisy"]["roc_auc"]["difference"] < 0
    nothing = {"difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0, "p_value_holm": 1.0}
    assert by_name["same"]["eer"] == nothing
    path = write_comparison(told, tmp_path)
    text = path.read_text("utf-8")
    assert text == markdown(told)
    rows = [line for line in text.partition("\n\n")[0].splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 3 * 3
    assert {line.count("|") for line in rows} == {9}
    assert "| twin | same |" in text
    assert "+0.00 [+0.00, +0.00] | 1.000" in text
    assert "jackknife over 8 families" in text
    curve = json.loads((tmp_path / "comparison.json").read_text())["runs"][0]["sections"]["twin"]["curve"]
    corners = error_rates.roc(count_pairs(runs[0].scored.source).section("twin"), corners_only=True)
    exact = set(zip(corners.fmr.tolist(), corners.fnmr.tolist(), strict=True))
    assert set(zip(curve["fmr"], curve["fnmr"], strict=True)) <= exact
    assert (curve["fmr"][0], curve["fnmr"][0]) == (0.0, 1.0)
    assert (curve["fmr"][-1], curve["fnmr"][-1]) == (1.0, 0.0)


def test_where_a_runs_scores_are_found(tmp_path):
    comparisons, vectors = faces(2)
    run = tmp_path / "run"
    (run / "evaluation").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"--compare \S*run: neither a file nor a folder with embeddings\.npz"
    ):
        find_run(str(run))
    (run / "best_model.pth").write_bytes(b"")
    assert find_run(str(run)).name == "best_model.pth"
    scores = tmp_path / "vendor.csv"
    scores.write_text("")
    (run / "evaluation_report.json").write_text(json.dumps({"scores": {"path": str(scores)}}))
    assert find_run(str(run)) == scores
    write_embeddings(run / "evaluation" / "embeddings.npz", comparisons, vectors, {})
    assert find_run(str(run)) == run / "evaluation" / "embeddings.npz"
    write_embeddings(run / "embeddings.npz", comparisons, vectors, {})
    assert find_run(str(run)) == run / "embeddings.npz"
    assert find_run(str(scores)) == scores


def test_without_replicates_there_are_differences_alone(two):
    comparisons, vectors, worse = two
    runs = [run_of("a", comparisons, vectors), run_of("b", comparisons, worse)]
    found = compare(runs, EvaluationOptions(num_replicates=0))
    one, other = (run["sections"]["twin"] for run in found["runs"])
    (difference,) = found["differences"]
    assert difference["sections"]["twin"]["eer"] == {"difference": other["eer"] - one["eer"]}
    text = markdown(found)
    assert f"{100 * (other['eer'] - one['eer']):+.2f} |" in text
    assert "without intervals" in text


def test_several_systems_are_corrected_for_being_several(two):
    comparisons, vectors, worse = two
    runs = [
        run_of("a", comparisons, vectors),
        run_of("b", comparisons, worse),
        run_of("c", comparisons, worse[::-1].copy()),
    ]
    told = compare(runs, EFFORT)
    for section, figures in told["differences"][0]["sections"].items():
        for name in figures:
            plain = [each["sections"][section][name]["p_value"] for each in told["differences"]]
            corrected = [each["sections"][section][name]["p_value_holm"] for each in told["differences"]]
            assert corrected == holm(plain)
    text = markdown(told)
    assert "corrected for 2 comparisons of a figure (Holm)" in text
    alone = compare(runs[:2], EFFORT)
    each = alone["differences"][0]["sections"]["twin"]["eer"]
    assert each["p_value"] == each["p_value_holm"]
    assert "Holm" not in markdown(alone)


def test_rates_and_the_headline_are_compared(two):
    comparisons, vectors, worse = two
    for effort in (EFFORT, EvaluationOptions(num_replicates=0)):
        told = compare([run_of("a", comparisons, vectors), run_of("b", comparisons, worse)], effort)
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        sections = told["differences"][0]["sections"]
        for name, figures in told["runs"][1]["headline"].items():
            difference = figures - told["runs"][0]["headline"][name]
            assert sections["headline"][name]["difference"] == pytest.approx(difference)
        one, other = (run["sections"]["unrelated"]["fnmr_at_fmr_0.01"] for run in told["runs"])
        assert sections["unrelated"]["fnmr_at_fmr_0.01"]["difference"] == pytest.approx(other - one)
        text = markdown(told)
        assert f"| unrelated: FNMR where FMR is at most 0.01 | b | {100 * other:.2f}" in text
        assert (
            f"| headline: twin FMR | a | {100 * told['runs'][0]['headline']['twin_fmr']:.2f} |  |  |" in text
        )


@pytest.mark.parametrize(
    "content", ["{", "", "[]", "null", "5", b"\xff", "[" * 100_000, '{"scores":"x"}', '{"scores":{"path":5}}',
                '{"scores":{"path":"' + "x" * 300 + '"}}'],
    ids=lambda content: str(content[:20]),
)  # fmt: skip
def test_a_damaged_report_is_one_line(tmp_path, content):
    report = tmp_path / "evaluation_report.json"
    report.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as told:
        find_run(str(tmp_path))
    assert "\n" not in str(told.value)
