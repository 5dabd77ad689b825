"""Failures to enrol and acquire: counted as a loop counts them, whichever step of an evaluation they come from."""

import json

import numpy as np
import pytest
from made_faces import all_listed, faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation import systems
from twin_dcal.evaluation.embedding_files import read_embeddings, write_embeddings
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.failures import failures_from, number_of_pairs
from twin_dcal.evaluation.inputs import DataFiles
from twin_dcal.evaluation.protocol import pair_source, sample_unrelated, without_images
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.evaluation.score_files import read_scores
from twin_dcal.evaluation.systems import EmbeddingsSystem, ScoresSystem
from twin_dcal.evaluation.table import format_table
from twin_dcal.report import protocols
from twin_dcal.report.wording import percent

THRESHOLD = 0.5
FAILED = (0, 1, 2, 13)  # all images of the first person, one of another


@pytest.fixture(scope="module")
def made():
    return faces(6, images_each=3)


def by_loop(comparisons, vectors, failed):
    """FTA, FTE and, by section, failed pairs, GFAR and GFRR."""
    rates = {}
    for name, kinds in {"twin": ("twin",), "unrelated": ("unrelated",), "all": ("twin", "unrelated")}.items():
        count = dict.fromkeys(
            ("genuine", "impostors", "false matches", "missed", "no genuine", "no impostors"), 0
        )
        for one, other, score, kind in all_listed(comparisons, vectors):
            is_genuine = kind == "genuine"
            if not is_genuine and kind not in kinds:
                continue
            count["genuine" if is_genuine else "impostors"] += 1
            if one in failed or other in failed:
                count["no genuine" if is_genuine else "no impostors"] += 1
                count["missed"] += is_genuine
            elif is_genuine:
                count["missed"] += score < THRESHOLD
            else:
                count["false matches"] += score >= THRESHOLD
        rates[name] = {
            "num_failed_genuine": count["no genuine"], "num_failed_impostors": count["no impostors"],
            "gfar": count["false matches"] / count["impostors"], "gfrr": count["missed"] / count["genuine"],
        }  # fmt: skip
    people = comparisons.people.tolist()
    gone = [p for p in set(people) if all(row in failed for row, who in enumerate(people) if who == p)]
    return len(failed) / len(people), len(gone) / len(set(people)), rates


def figures_of(scored):
    effort = EvaluationOptions(num_replicates=0)
    return evaluate(scored.source, scored.comparisons, Decision(THRESHOLD, "given"), effort, scored.vectors)


def check(figures, expected):
    fta, fte, rates = expected
    told = figures["failures"]
    assert (told["fta"], told["fte"]) == pytest.approx((fta, fte))
    for name, section in rates.items():
        assert told[name] == pytest.approx(section)
        assert section["gfrr"] > figures[name]["fnmr"]
        assert section["gfar"] < figures[name]["fmr"]
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("how", ["zero", "nan", "missing"])
def test_images_without_a_vector(made, tmp_path, monkeypatch, how):
    comparisons, vectors = made
    given = vectors.copy()
    given[list(FAILED)] = np.nan if how == "nan" else 0
    rows = [row for row in range(len(given)) if how != "missing" or row not in FAILED]
    np.savez(tmp_path / "e.npz", features=given[rows], ids=np.array(comparisons.names)[rows])
    embeddings = read_embeddings(tmp_path / "e.npz", keep_failed=True)
    monkeypatch.setattr(systems, "read_comparisons", lambda *_: comparisons)
    found = EmbeddingsSystem(embeddings, DataFiles(), Sampling()).scored("set", "test")
    with pytest.raises(MetricError, match=r"no vector for 4 images, first: /data/root/F00a/0.jpg \(strict\)"):
        EmbeddingsSystem(embeddings, DataFiles(strict=True), Sampling()).scored("set", "test")
    evaluation = figures_of(found)
    check(evaluation.figures, by_loop(comparisons, vectors, FAILED))
    text = format_table(evaluation.figures).replace("\n", " ")
    assert "Failures to acquire: 4 of 36 images (11.11%), to enrol" in text
    assert dict(protocols.failures(evaluation.figures))["Failures"] == (
        f"4 of 36 images not acquired (FTA {percent(4 / 36)}), 1 of 12 people not enrolled (FTE {percent(1 / 12)}), "
        "134 pairs without a score"
    )
    rows = dict(protocols.groups(evaluation.figures))[
        "At the decision threshold, failures counted as rejected"
    ]
    assert [row.name for row in rows] == ["GFAR", "GFRR"]


@pytest.mark.parametrize("cell", ["", "nan", "-inf"])
def test_pairs_without_a_score(made, tmp_path, cell):
    comparisons, vectors = made
    lines = ["img1,img2,score,person1,person2,family1,family2"]
    for one, other, score, _ in all_listed(comparisons, vectors):
        told = cell if one in FAILED or other in FAILED else repr(score)
        who = [
            comparisons.people[one],
            comparisons.people[other],
            comparisons.families[one],
            comparisons.families[other],
        ]
        lines.append(",".join([comparisons.names[one], comparisons.names[other], told, *who]))
    (tmp_path / "s.csv").write_text("\n".join(lines))
    scored = ScoresSystem(read_scores(tmp_path / "s.csv"), DataFiles()).scored(None, "test")
    assert len(scored.comparisons.names) == 32
    check(figures_of(scored).figures, by_loop(comparisons, vectors, FAILED))
    assert "134 pairs have no score and 4 images none in any pair" in scored.comparisons.warnings[-1]


def test_failures_go_with_the_embeddings(made, tmp_path):
    comparisons, vectors = made
    kept, rows = without_images(comparisons, dict.fromkeys(FAILED, "no face"))
    write_embeddings(tmp_path / "e.npz", kept, vectors[rows], {})
    system = EmbeddingsSystem(read_embeddings(tmp_path / "e.npz", keep_failed=True), DataFiles(), Sampling())
    check(figures_of(system.scored(None, "test")).figures, by_loop(comparisons, vectors, FAILED))
    again, _ = without_images(kept, {0: "damaged"})
    assert (again.failures.num_images, again.failures.num_failed_images) == (36, 5)
    assert again.failures.num_people == 12
    with pytest.raises(MetricError, match=r"e: its entry 'failures' is damaged"):
        failures_from({"num_images": 1, "num_failed_images": 2}, "e")


def test_a_sample_and_a_list_count_their_own_pairs(made):
    comparisons, _ = made
    sampled = sample_unrelated(comparisons, 50, 0)
    kept, _ = without_images(sampled, dict.fromkeys(FAILED, "no face"))
    assert sum(kept.failures.pairs) + len(kept.pairs.kinds) == len(sampled.pairs.kinds)
    assert number_of_pairs(comparisons.people, comparisons.families).tolist() == [36, 54, 540, 0]


def test_nothing_failed(made):
    comparisons, vectors = made
    found = evaluate(
        pair_source(comparisons, vectors),
        comparisons,
        Decision(THRESHOLD),
        EvaluationOptions(num_replicates=0),
    )
    told = found.figures["failures"]
    assert (told["fta"], told["fte"], told["num_failed_pairs"]) == (0, 0, 0)
    assert told["twin"]["gfar"] == found.figures["twin"]["fmr"]
    assert "Failures" not in format_table(found.figures)
