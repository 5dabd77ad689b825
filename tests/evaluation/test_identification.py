"""Searches of a gallery: by loops over probes and people."""

import json
import math

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.evaluation import identification
from twin_dcal.evaluation.embedding_files import read_embeddings, write_embeddings
from twin_dcal.evaluation.evaluate import EvaluationOptions
from twin_dcal.evaluation.identification import identification_figures, search
from twin_dcal.evaluation.inputs import DataFiles
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.run import Outputs, run
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.evaluation.score_files import read_scores, write_scores
from twin_dcal.evaluation.systems import EmbeddingsSystem, ScoresSystem
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.report import protocols


@pytest.fixture(scope="module")
def made():
    """Six families of two, and one person without a twin who has one image."""
    comparisons, vectors = faces(6, images_each=3, noise=0.9)
    kept = [
        row
        for row in range(len(vectors))
        if comparisons.people[row] != "F05b" and (comparisons.people[row] != "F04a" or row % 3 == 0)
    ]
    return comparisons.people[kept], comparisons.families[kept], vectors[kept]


def unit(vector):
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    return [float(x) / length for x in vector]


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def searches(people, families, vectors, template):
    """[(own person, family, {person: score})] of every probe."""
    rows = range(len(people))
    images = {who: [row for row in rows if people[row] == who] for who in people}
    found = []
    for probe in rows:
        own = people[probe]
        if len(images[own]) < 2 or (template == "first" and probe == images[own][0]):
            continue
        scores = {}
        for who, theirs in images.items():
            used = theirs[:1] if template == "first" else [row for row in theirs if row != probe]
            total = [sum(values) for values in zip(*(unit(vectors[row]) for row in used), strict=True)]
            scores[who] = dot(unit(vectors[probe]), unit(total))
        found.append((own, families[probe], scores))
    return found


@pytest.mark.parametrize("template", ["first", "mean"])
@pytest.mark.parametrize("at_once", [20, 1 << 20])
def test_figures_are_those_of_a_loop(made, template, at_once, monkeypatch):
    monkeypatch.setattr(identification, "AT_ONCE", at_once)
    people, families, vectors = made
    family_of = dict(zip(people.tolist(), families.tolist(), strict=True))
    threshold = 0.6
    told = identification_figures(search(vectors, people, families, template), template, threshold)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    ranks, twin_first, twin_alone, fnir, fpir, no_family, with_twin, tops, mates = (
        [],
        [],
        [],
        [],
        [],
        [],
        [],
        [],
        [],
    )
    for own, family, scores in searches(people.tolist(), families.tolist(), vectors, template):
        others = {who: score for who, score in scores.items() if who != own}
        twins = [score for who, score in others.items() if family_of[who] == family]
        strangers = [score for who, score in others.items() if family_of[who] != family]
        ranks.append(1 + sum(score >= scores[own] for score in others.values()))
        mates.append(scores[own])
        tops.append(max(others.values()))
        fnir.append(scores[own] < threshold)
        fpir.append(tops[-1] >= threshold)
        no_family.append(max(strangers) >= threshold)
        if twins:
            twin_first.append(max(twins) >= max(scores[own], *strangers))
            twin_alone.append(max(twins) >= max(strangers))
            with_twin.append(fpir[-1])
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    assert told["num_probes"] == len(ranks)
    assert told["num_probes_with_twin"] == len(twin_first) < len(ranks)
    assert told["cmc"] == pytest.approx({str(k): mean([r <= k for r in ranks]) for k in (1, 2, 5, 10)})
    assert told["rank_1"] == told["cmc"]["1"]
    assert told["twin_at_rank_1"] == pytest.approx(mean(twin_first))
    assert told["twin_first_without_person"] == pytest.approx(mean(twin_alone))
    at = told["at_threshold"]
    assert at["fnir"] == pytest.approx(mean(fnir))
    assert at["fpir"] == pytest.approx(mean(fpir))
    assert at["fpir_twin_enrolled"] == pytest.approx(mean(with_twin))
    assert at["fpir_no_twin"] == pytest.approx(mean(no_family))
    assert 0 < mean(twin_first) < mean(twin_alone) <= 1
    assert 0 < at["fpir_no_twin"] < at["fpir"] < 1
    point = told["fnir_at_fpir"][0]
    best = min(t for t in [*tops, *mates] if mean([top >= t for top in tops]) <= 0.1)
    assert point["threshold"] == pytest.approx(best, abs=1e-6)
    assert point["fnir"] == pytest.approx(mean([mate < best - 1e-6 for mate in mates]))
    assert point["supported"]


def test_a_tie_counts_against_the_system():
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    told = identification_figures(search(vectors, list("ppqr"), list("ffgh")), "first", None)
    assert told["rank_1"] == 0.0
    assert told["cmc"]["2"] == 1.0
    assert told["twin_at_rank_1"] is None
    assert told["at_threshold"]["fnir"] == 1.0
    assert told["at_threshold"]["fpir"] == 0.0


def test_what_cannot_be_searched_is_one_line(made):
    people, families, vectors = made
    with pytest.raises(MetricError, match="two people or more, and one with two images"):
        search(vectors[[0, 3]], people[[0, 3]], families[[0, 3]])
    fusion = Fusion(4, 0.5, (1.0, 1.0, 0.0), None)
    with pytest.raises(MetricError, match="enrol the first image"):
        search(vectors, people, families, "mean", fusion)
    with pytest.raises(MetricError, match="template 'best' is unknown"):
        search(vectors, people, families, "best")


def test_an_evaluation_tells_it(tmp_path):
    comparisons, vectors = faces(6, images_each=3, noise=0.9)
    write_embeddings(tmp_path / "e.npz", comparisons, vectors, {})
    system = EmbeddingsSystem(read_embeddings(tmp_path / "e.npz"), DataFiles(), Sampling())
    effort = EvaluationOptions(num_replicates=0, identification="mean")
    outcome = run(system, None, effort, Outputs(str(tmp_path / "out")))
    told = json.loads((tmp_path / "out/evaluation_report.json").read_text())["identification"]
    assert told["template"] == "mean"
    text = (tmp_path / "out/evaluation_summary.txt").read_text().replace("\n", " ")
    assert "36 probes searched among 12 people enrolled with the mean of their images" in text
    assert f"the twin is at rank 1 for {told['twin_at_rank_1']:.2%}" in text
    rows = dict(protocols.groups(outcome.evaluation.figures))[
        "Searching a gallery of everybody (identification)"
    ]
    assert rows[1].name == "The twin is at rank 1"
    write_scores(tmp_path / "s.csv", pair_source(comparisons, vectors), comparisons)
    scores = ScoresSystem(read_scores(tmp_path / "s.csv"), DataFiles())
    with pytest.raises(ConfigError, match="--identification needs embeddings"):
        run(scores, None, effort, Outputs(str(tmp_path / "other")))
