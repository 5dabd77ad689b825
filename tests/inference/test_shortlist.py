"""Searches of large galleries: with FAISS they find what comparing with everybody finds, and report the same scores."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from templates_oracle import dot
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli import search
from twin_dcal.inference import people as people_module
from twin_dcal.inference import shortlist as shortlist_module
from twin_dcal.inference.aligning import FaceInfo
from twin_dcal.inference.gallery_file import Photograph, Stored
from twin_dcal.inference.people import People, most_alike
from twin_dcal.inference.templates import Side
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.templates import fused_features

NUM_PEOPLE = 1000
FUSION = Fusion(4, 0.3, (2.5, 4.0, -2.0), (14.0, 3.0, -7.0))


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def stored_of(features, names, twins=()):
    photographs = tuple(
        Photograph(person=name, path=None, sha256=f"{row:064x}") for row, name in enumerate(names)
    )
    return Stored(photographs, features, tuple(twins))


def crowd(width, seed=0):
    """1,000 people, of whom every tenth has a second photograph and every seventh a copy under the next name."""
    rng = np.random.default_rng(seed)
    features = unit(rng.normal(size=(NUM_PEOPLE, width)))
    features[1::7] = features[:-1:7]
    names = [f"p{number:04}" for number in range(NUM_PEOPLE)]
    again = np.arange(0, NUM_PEOPLE, 10)
    second = unit(features[again] + 0.3 * rng.normal(size=(again.size, width)) / np.sqrt(width))
    return np.concatenate([features, second]), names + [names[at] for at in again]


def side_of(features):
    return Side("query", [None] * len(features), features, [FaceInfo()] * len(features))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    torch.manual_seed(0)
    return TwinInferenceEngine(
        tiny_model(tmp_path_factory.mktemp("crowd"), threshold=Threshold(0.75, {})), "cpu", align="never"
    )


@pytest.fixture
def gallery(engine, tiny_faces):
    """A crowd, and four people who have photographs."""
    made = engine.enroll({f.name: sorted(f.glob("*.png"))[:3] for f in tiny_faces.glob("test/*")})
    features, names = crowd(made._stored.features.shape[1])
    others = stored_of(features, names)
    made._take(made._stored.with_photographs(others.photographs, others.features))
    return made


@pytest.fixture
def many(monkeypatch):
    """As if the crowd were 100,000 people. FAISS is needed."""
    pytest.importorskip("faiss", reason="needs faiss-cpu")
    monkeypatch.setattr(people_module, "MANY", 1)
    monkeypatch.setattr(shortlist_module, "_CANDIDATES", 200)


def same(gallery, query, **options):
    """The hits, after they were found with FAISS and by comparing with everybody, the same to the last digit."""
    found, expected = gallery.search(query, **options), gallery.search(query, exact=True, **options)
    assert (found.exact, expected.exact) == (options.get("fuse") in ("max", "scores"), True)
    assert found.hits == expected.hits
    assert found.warnings == expected.warnings
    return found.hits


@pytest.mark.parametrize("fuse", ["quality", "mean", "max", "scores"])
def test_with_faiss_hits_are_those_of_comparing_with_everybody(many, gallery, tiny_faces, fuse):
    photos = sorted(map(str, tiny_faces.glob("test/*/*.png")))
    for query in (photos[0], photos[4:6]):
        hits = same(gallery, query, fuse=fuse)
        order = [(-hit.similarity, hit.person) for hit in hits]
        assert order == sorted(order)
    assert same(gallery, photos[0], fuse=fuse, top=1)[0].person == "6a"


def test_the_command_says_that_a_shortlist_was_compared(many, gallery, tiny_faces):
    photo = next(tiny_faces.glob("test/*/*.png"))
    told = "a shortlist of 1,004 people was compared; --exact compares with everybody"
    assert told in search._table(gallery.search(photo)).splitlines()
    assert told not in search._table(gallery.search(photo, exact=True))


def test_an_index_follows_what_is_added_and_removed(many, gallery, tiny_faces):
    photos = sorted(map(str, tiny_faces.glob("test/*/*.png")))
    query = photos[5]
    assert "new" not in [hit.person for hit in same(gallery, query)]
    gallery.add("new", query)
    first = same(gallery, query)[0]
    assert (first.person, first.similarity) == ("new", pytest.approx(1, abs=1e-6))
    gallery.remove("new")
    hits = same(gallery, query)
    assert "new" not in [hit.person for hit in hits]
    gallery.remove(hits[0].person)
    assert [hit.person for hit in same(gallery, query, top=9)] == [hit.person for hit in hits[1:]]


def test_a_shortlist_is_brute_force_by_loops(many):
    features, names = crowd(24)
    people = People(stored_of(features, names), None)
    rows = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(features[row].tolist())
    found_ties = 0
    for at in range(0, 300, 7):
        query = unit(features[[at]] + 0.4 * features[[at + 3]])
        scores = {}
        for name, each in rows.items():
            mean = [sum(column) for column in zip(*each, strict=True)]
            scores[name] = dot(query[0].tolist(), mean) / dot(mean, mean) ** 0.5
        side = side_of(query)
        among = people.shortlist(side, "mean", 10)
        assert among.size == 200
        similarity = people.scores(side, "mean", among)
        assert (similarity > -np.inf).sum() == 200
        order = most_alike(similarity, 10)
        expected = sorted(scores, key=lambda name: (-round(scores[name], 5), name))[:10]
        assert [people.names[number] for number in order] == expected
        np.testing.assert_allclose(similarity[order], [scores[name] for name in expected], atol=2e-7)
        found_ties += bool((np.diff(similarity[order]) == 0).any())
    assert found_ties > 10, "of equal ones the first by name"


def test_twins_are_compared_also_where_the_shortlist_has_them_not(many, monkeypatch):
    monkeypatch.setattr(shortlist_module, "_CANDIDATES", 5)
    features, names = crowd(24)
    people = People(stored_of(features, names, [("p0003", "p0500"), ("p0500", "nobody")]), None)
    side = side_of(features[[3]])
    among = people.shortlist(side, "mean", 2)
    assert (3 in among, 500 in among, among.size) == (True, True, 6)
    assert people.scores(side, "mean", among)[500] == people.scores(side, "mean")[500]


def test_what_faiss_is_not_used_for(many, monkeypatch):
    features, names = crowd(8)
    people, side = People(stored_of(features, names), None), side_of(features[:1])
    assert people.shortlist(side, "mean", 100) is not None
    assert people.shortlist(side, "mean", 101) is None, "more hits than a shortlist is for"
    assert people.shortlist(side, "max", 10) is people.shortlist(side, "scores", 10) is None
    fused = People(stored_of(features, names), FUSION)
    assert fused.shortlist(side, "mean", 10) is None, "a score of two cosines is no product"
    monkeypatch.setattr(people_module, "MANY", NUM_PEOPLE + 1)
    assert people.shortlist(side, "mean", 10) is None
    monkeypatch.setattr(people_module, "MANY", NUM_PEOPLE)
    assert people.shortlist(side, "mean", 10) is not None


def test_without_faiss_everybody_is_compared(gallery, tiny_faces, monkeypatch):
    [photo, *_] = sorted(map(str, tiny_faces.glob("test/*/*.png")))
    expected = gallery.search(photo).hits
    monkeypatch.setattr(people_module, "MANY", 1)
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = gallery.search(photo)
    assert (found.exact, found.hits) == (True, expected)


def test_faiss_is_imported_for_large_galleries_only(gallery, tiny_faces, monkeypatch):
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    gallery.search(next(tiny_faces.glob("test/*/*.png")))
    assert "faiss" not in sys.modules
    code = "import sys, twin_dcal.inference.gallery, twin_dcal.lookalikes.suggest; assert 'faiss' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("width", [33, 64])
def test_a_shortlist_has_the_nearest(many, width):
    """Of people drawn in all directions alike, the hardest case there is."""
    rng = np.random.default_rng(1)
    features = unit(rng.normal(size=(5000, width)))
    people = People(stored_of(features, [f"{row:05}" for row in range(5000)]), None)
    found = 0
    for query in unit(0.6 * features[:50] + 0.8 * unit(rng.normal(size=(50, width)))):
        side = side_of(query[None])
        among = people.shortlist(side, "mean", 10)
        found += np.isin(most_alike(people.scores(side, "mean"), 10), among).sum()
    assert found / 500 >= 0.99


@given(st.integers(0, 2**32 - 1), st.integers(5, 70), st.integers(1, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_score_does_not_depend_on_who_else_is_compared(seed, width, count, two):
    rng = np.random.default_rng(seed)
    features, fusion = unit(rng.normal(size=(count, width))), FUSION if two else None
    people = People(stored_of(features, [f"{row:03}" for row in range(count)]), fusion)
    side = side_of(unit(rng.normal(size=(rng.integers(1, 4), width))))
    whole = people.scores(side, "mean")
    among = np.flatnonzero(rng.random(count) < 0.5)
    np.testing.assert_array_equal(people.scores(side, "mean", among)[among], whole[among])
    query = fused_features(side.features, None, fusion).tolist()
    if fusion is None:
        np.testing.assert_allclose(whole, [dot(query, row) for row in features.tolist()], atol=1e-6)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, -np.inf]), max_size=40), st.integers(1, 50))
def test_the_most_alike_are_those_of_sorting(scores, count):
    expected = sorted((-score, at) for at, score in enumerate(scores) if score > -np.inf)[:count]
    assert most_alike(np.array(scores, np.float32), count).tolist() == [at for _, at in expected]
