"""Clusters: average linkage against loops, and what is told of each group."""

import numpy as np
import pytest
import torch
from clusters_oracle import groups
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.inference.clusters import linked
from twin_dcal.metrics.error_curve import Threshold


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [-0.2, 0.2, 0.5, 0.9])
def test_groups_are_those_of_loops(seed, threshold):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(5, 6))[rng.integers(0, 5, 24)] + 0.5 * rng.normal(size=(24, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = rows @ rows.T
    labels = linked(scores, threshold)
    assert {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())} == groups(
        scores.tolist(), threshold
    )
    sizes = np.bincount(labels).tolist()
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_those_of_another_implementation_where_nothing_is_tied(seed):
    sklearn = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(12, 8))[rng.integers(0, 12, 70)] + 0.3 * rng.normal(size=(70, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for threshold in (0, 0.5, 0.8, 0.95):
        labels = linked(rows @ rows.T, threshold)
        theirs = sklearn.AgglomerativeClustering(
            n_clusters=None, distance_threshold=1 - threshold, metric="cosine", linkage="average"
        ).fit_predict(rows)
        pairs = set(zip(labels.tolist(), theirs.tolist(), strict=True))
        assert len(pairs) == len(set(labels.tolist())) == len(set(theirs.tolist()))
        sizes = np.bincount(labels)
        firsts = [int(np.flatnonzero(labels == number)[0]) for number in range(len(sizes))]
        order = [(-int(size), first) for size, first in zip(sizes, firsts, strict=True)]
        assert order == sorted(order)


def test_a_single_threshold_joins_all_or_none():
    scores = np.full((5, 5), 0.5)
    assert linked(scores, 0.5).tolist() == [0] * 5
    assert linked(scores, 0.6).tolist() == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    torch.manual_seed(0)
    path = tiny_model(tmp_path_factory.mktemp("clusters"), threshold=Threshold(0.99, {}))
    return TwinInferenceEngine(path, "cpu", align="never")


def test_what_is_told_of_each_group(engine, tiny_faces, tmp_path):
    photos = sorted(map(str, tiny_faces.glob("test/*/[0-2].png")))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    found = engine.cluster([*photos[:4], bad, *photos[4:]])
    assert (found.paths, len(found.left_out)) == (tuple(photos), 1)
    features = engine.extract_features(photos)
    scores = features @ features.T
    assert {frozenset(rows) for rows in found.groups} == groups(scores.tolist(), 0.99)
    assert len(found.groups) > 1, "the threshold divides them, so that there is something to see"
    for number, rows in enumerate(found.groups):
        pairs = [scores[a, b] for a in rows for b in rows if a != b]
        expected = pytest.approx(float(np.mean(pairs)), abs=1e-5) if pairs else None
        assert found.similarity[number] == expected
        others = [scores[np.ix_(rows, other)].mean() for at, other in enumerate(found.groups) if at != number]
        assert found.nearest[number] == pytest.approx(float(max(others)), abs=1e-5)
        of_nearest = found.groups[found.nearest_group[number]]
        assert scores[np.ix_(rows, of_nearest)].mean() == pytest.approx(float(max(others)), abs=1e-5)
    assert [record["image"] for record in found.records()] == [
        photos[row] for rows in found.groups for row in rows
    ]
    assert len(engine.cluster(tiny_faces / "test", threshold=-1).groups) == 1


def test_what_cannot_be_grouped(engine, tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        engine.cluster(tmp_path / "gone")
    with pytest.raises(ConfigError, match="0 pictures to group"):
        engine.cluster(tmp_path)
    with pytest.raises(ConfigError, match="threshold 2"):
        engine.cluster([b"a", b"b"], threshold=2)
    with pytest.raises(ManifestError, match="none of 2 pictures can be used"):
        engine.cluster([b"a", b"b"])
