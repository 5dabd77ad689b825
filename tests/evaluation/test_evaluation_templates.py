"""Templates in place of images: who is in them, what is compared, and at which threshold."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_faces import all_listed, faces
from templates_oracle import dot, template_score
from tiny import tiny_model

from twin_dcal.cli import evaluate
from twin_dcal.errors import ConfigError, ManifestError, MetricError
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.systems import Scored
from twin_dcal.evaluation.templates import Templates, as_templates
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.metrics.templates import TemplateDecision, calibrate_templates


@pytest.fixture(scope="module")
def scored():
    comparisons, vectors = faces(4, images_each=5)
    return Scored(comparisons, pair_source(comparisons, vectors), vectors)


def test_a_listed_template_is_the_mean_of_its_images(scored, tmp_path):
    table = tmp_path / "templates.csv"
    table.write_text(
        "image,template,person\n"
        "F00a/0.jpg,t1,F00a\nF00a/3.jpg,t1,F00a\nF00b/1.jpg,t2,F00b\nF01a/0.jpg,t3,F01a\nF01a/1.jpg,t3,F01a\n"
        "F00a/1.jpg,t4,F00a\n"
    )
    found = as_templates(scored, Templates.of(str(table), 0))
    unit = (scored.vectors / np.linalg.norm(scored.vectors, axis=1, keepdims=True)).tolist()
    row = {name.removeprefix("/data/root/"): at for at, name in enumerate(scored.comparisons.names)}
    members = [["F00a/0.jpg", "F00a/3.jpg"], ["F00b/1.jpg"], ["F01a/0.jpg", "F01a/1.jpg"], ["F00a/1.jpg"]]
    rows = [[unit[row[name]] for name in group] for group in members]
    scores = {(one, two): score for one, two, score, _ in all_listed(found.comparisons, found.vectors)}
    kinds = {(one, two): kind for one, two, _, kind in all_listed(found.comparisons, found.vectors)}
    for (one, two), score in scores.items():
        weights = [1] * len(rows[one]), [1] * len(rows[two])
        expected = template_score(rows[one], rows[two], "mean", weights, [(0, 16, 1)], dot)
        assert score == pytest.approx(expected, abs=1e-5)
    assert {pair: kinds[pair] for pair in ((0, 3), (0, 1), (0, 2))} == {
        (0, 3): "genuine", (0, 1): "twin", (0, 2): "unrelated",
    }  # fmt: skip
    assert found.comparisons.names[0] == "/data/root/F00a/0.jpg", "called by one of its images"
    assert found.comparisons.protocol["images_per_template"] == [1, 2]
    assert any("5 people have too few images" in text for text in found.comparisons.warnings)


def test_dealt_templates_use_each_image_at_most_once(scored):
    found = as_templates(scored, Templates.of("2", 3))
    assert len(found.comparisons.names) == 8 * 2, "of five images two templates of two, one is left"
    assert len(set(found.comparisons.names)) == len(found.comparisons.names)
    again, other = (as_templates(scored, Templates.of("2", seed)) for seed in (3, 4))
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert not np.array_equal(other.vectors, found.vectors)
    sizes = as_templates(scored, Templates.of("1-3", 0)).comparisons.protocol["images_per_template"]
    assert sizes == [1, 3]
    single = as_templates(scored, Templates.of("1", 0))
    assert sorted(single.comparisons.names) == sorted(scored.comparisons.names), "one each: all images"
    assert sorted(score for *_, score, _ in all_listed(single.comparisons, single.vectors)) == pytest.approx(
        sorted(score for *_, score, _ in all_listed(scored.comparisons, scored.vectors)), abs=1e-6
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            "template,person,image\nt,F00a,F00a/0.jpg\nt,F00b,F00b/0.jpg\n",
            "line 3: template 't' is of 'F00a' and",
        ),
        ("template,person,image\nt,F00b,F00a/0.jpg\n", "template 't': F00a/0.jpg is not of 'F00b'"),
        (
            "template,person,image\nt,F00a,F00a/0.jpg\nu,F00a,F00a/1.jpg\nu,F00a,F00a/0.jpg\n",
            "templates 't' and 'u' share F00a/0.jpg",
        ),
        ("template,person\nt,F00b\n", "must name the columns template,person,image"),
        ("template,person,image\nt,F00b\n", "line 2: 2 columns, not 3"),
    ],
)
def test_a_table_that_contradicts_the_data_is_refused(scored, tmp_path, rows, told):
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(ManifestError, match=told):
        as_templates(scored, Templates.of(str(tmp_path / "t.csv"), 0))


def test_what_cannot_be_templates(scored, tmp_path):
    (tmp_path / "t.csv").write_text("template,person,image\nt,F00a,nobody.jpg\n")
    with pytest.raises(MetricError, match=r"nobody\.jpg"):
        as_templates(scored, Templates.of(str(tmp_path / "t.csv"), 0))
    with pytest.raises(MetricError, match="nobody has 6 images"):
        as_templates(scored, Templates.of("6", 0))
    with pytest.raises(ConfigError, match="needs embeddings"):
        as_templates(replace(scored, vectors=None), Templates.of("2", 0))
    for text in ("0", "3-2", "a.csv", "2-", "-2", "x-3", "9" * 5000, "2-" + "9" * 5000, "x" * 300):
        with pytest.raises(ConfigError, match="--templates"):
            Templates.of(text, 0)


def test_a_model_is_judged_at_its_threshold_for_so_many(tiny_faces, tmp_path, capsys):
    decision = TemplateDecision(
        "mean", (2, 2), Threshold(0.625, {"criterion": "eer"}), Platt(9.0, -6.0, 0.5, 10, 10, "x"),
        calibrate_templates(*_people(), "made", rules=["mean"], sizes=[1, 2])[0].error_curve,
    )  # fmt: skip
    model = tiny_model(tmp_path, threshold=Threshold(0.75, {"criterion": "eer"}), templates=[decision])
    thresholds = {}
    for wanted in ("2", "3"):
        folder = tmp_path / wanted
        given = [
            "--model",
            str(model),
            "--data_dir",
            str(tiny_faces),
            "--output_dir",
            str(folder),
            "--templates",
            wanted,
        ]
        assert evaluate.main([*given, "--num_workers", "0", "--num_replicates", "0"]) == 0
        figures = json.loads((folder / "evaluation_report.json").read_text())
        thresholds[wanted] = (
            figures["threshold"],
            any("single photographs" in text for text in figures["warnings"]),
        )
        assert figures["protocol"]["num_templates"] == 4 * (6 // int(wanted))
        assert figures["templates"] == {"fewest": int(wanted), "most": int(wanted), "seed": 0}
    assert thresholds == {"2": (0.625, False), "3": (0.75, True)}
    capsys.readouterr()
    assert evaluate.main([*given, "--save", "--optimize_threshold"]) == 2
    assert "--templates goes with none of --save" in capsys.readouterr().err


def _people():
    comparisons, vectors = faces(6, images_each=4)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), comparisons.people, comparisons.families
