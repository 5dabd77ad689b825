"""Several systems as one, set on validation pairs of other families."""

import json

import numpy as np
import pytest
from made_faces import all_listed, faces

from twin_dcal.cli.evaluate import main
from twin_dcal.errors import ConfigError, ManifestError, MetricError
from twin_dcal.evaluation.compare import Run, compare
from twin_dcal.evaluation.embedding_files import write_embeddings
from twin_dcal.evaluation.evaluate import EvaluationOptions
from twin_dcal.evaluation.fuse import fused
from twin_dcal.evaluation.protocol import keep_people, pair_source
from twin_dcal.evaluation.score_files import write_scores
from twin_dcal.evaluation.systems import Scored


def two_systems(seed):
    """Two views of the same faces, each with noise of its own; families of another seed have other names."""
    comparisons, vectors = faces(8, images_each=3, seed=seed)
    rename = lambda labels: np.char.add(f"s{seed}", labels)  # noqa: E731
    names = [name.replace("/data/root", f"/data/root{seed}") for name in comparisons.names]
    comparisons = type(comparisons)(
        f"set {seed}", names, rename(comparisons.people), rename(comparisons.families), None, {}
    )
    rng = np.random.default_rng(seed)
    return comparisons, [vectors + 0.7 * rng.normal(size=vectors.shape).astype(np.float32) for _ in range(2)]


def runs_of(comparisons, views):
    return [
        Run(name, Scored(comparisons, pair_source(comparisons, view), view))
        for name, view in zip("ab", views, strict=True)
    ]


def test_fused_scores_are_the_weighted_sum():
    (comparisons, views), (other, other_views) = two_systems(1), two_systems(2)
    run, fusion = fused(runs_of(comparisons, views), runs_of(other, other_views))
    assert run.name == "fusion of a, b"
    by_pair = [{tuple(sorted(pair[:2])): pair[2] for pair in all_listed(comparisons, view)} for view in views]
    (block,) = run.scored.source.blocks()
    for first, second, score in zip(
        block.first.tolist(), block.second.tolist(), block.score.tolist(), strict=True
    ):
        key = tuple(sorted((first, second)))
        expected = sum(w * scores[key] for w, scores in zip(fusion.weights, by_pair, strict=True))
        assert score == pytest.approx(expected + fusion.intercept)
    told = compare([*runs_of(comparisons, views), run], EvaluationOptions(num_replicates=100))
    eer = {each["name"]: each["sections"]["all"]["eer"] for each in told["runs"]}
    assert eer["fusion of a, b"] < min(eer["a"], eer["b"])


def test_what_cannot_be_fused_is_one_line():
    (comparisons, views), (other, other_views) = two_systems(1), two_systems(2)
    runs = runs_of(comparisons, views)
    with pytest.raises(ManifestError, match="share people"):
        fused(runs, runs)
    with pytest.raises(ConfigError, match="--fuse has 1 and --compare 2 runs"):
        fused(runs, runs_of(other, other_views)[:1])
    fewer = keep_people(other, sorted(other.known_people())[:-1])
    with pytest.raises(MetricError, match="3 of 48 images of a missing"):
        fused(runs, [runs_of(other, other_views)[0], runs_of(fewer, [view[:-3] for view in other_views])[1]])


def test_the_command_adds_the_fusion(tmp_path, capsys):
    for part, seed in (("test", 1), ("val", 2)):
        comparisons, (one, two) = two_systems(seed)
        write_scores(tmp_path / f"a_{part}.csv", pair_source(comparisons, one), comparisons)
        write_embeddings(tmp_path / f"b_{part}.npz", comparisons, two, {})
    given = [str(tmp_path / name) for name in ("a_test.csv", "b_test.npz", "a_val.csv", "b_val.npz")]
    out = tmp_path / "out"
    assert main(["--compare", *given[:2], "--fuse", *given[2:], "--output_dir", str(out)]) == 0
    told = json.loads((out / "comparison.json").read_text())
    assert [run["name"] for run in told["runs"]] == [*given[:2], f"fusion of {given[0]}, {given[1]}"]
    assert len(told["fusion"]["weights"]) == 2
    assert "fusion of" in capsys.readouterr().out
    assert main(["--embeddings", given[1], "--fuse", given[3], "--output_dir", str(out)]) == 2
    assert "--fuse needs --compare" in capsys.readouterr().err
