"""Embeddings on a plane: who is drawn, where, and the same from run to run."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import synthetic_evaluations as synthetic
from sklearn.decomposition import PCA

from twin_dcal.report import projection
from twin_dcal.report.projection import choose, principal_components, project


def people_of(num_families, images_each, seed=0):
    people = [
        f"{family}{letter}" for family in range(num_families) for letter in "ab" for _ in range(images_each)
    ]
    order = np.random.default_rng(seed).permutation(len(people))
    people = [people[index] for index in order]
    return people, [person[:-1] for person in people]


@pytest.mark.parametrize(
    ("num_families", "images_each", "most"), [(5, 4, 100), (5, 4, 25), (40, 3, 30), (3, 9, 7)]
)
def test_whole_families_with_images_shared_out_evenly(num_families, images_each, most):
    people, families = people_of(num_families, images_each)
    rows = choose(people, families, most, np.random.default_rng(0))
    assert rows.size == min(most, len(people)) or rows.size >= most - 1
    assert np.array_equal(rows, np.unique(rows))
    drawn = [people[row] for row in rows]
    counts = [drawn.count(person) for person in set(drawn)]
    assert max(counts) - min(counts) <= 1
    whole = {families[row] for row in rows}
    assert {person for person, family in zip(people, families, strict=True) if family in whole} == set(drawn)


def test_the_choice_is_of_the_seed():
    people, families = people_of(200, 2)
    one, again, other = (choose(people, families, 60, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_principal_components_are_those_of_scikit_learn():
    vectors = np.random.default_rng(3).normal(size=(40, 9)) * np.linspace(3, 1, 9)
    ours, theirs = principal_components(vectors), PCA(2, svd_solver="full").fit_transform(vectors)
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=1e-9)
    assert np.allclose(principal_components(vectors[:, ::-1].copy())[:, 0].std(), ours[:, 0].std())


def test_signs_do_not_depend_on_the_order_of_images():
    vectors = np.random.default_rng(3).normal(size=(30, 5))
    order = np.random.default_rng(4).permutation(30)
    assert np.allclose(principal_components(vectors[order]), principal_components(vectors)[order], atol=1e-9)


def test_flat_and_few_embeddings_have_places():
    assert np.array_equal(principal_components(np.ones((5, 3))), np.zeros((5, 2)))
    assert principal_components(np.arange(4.0)[:, None]).shape == (4, 2)


def test_tsne_groups_people_and_is_the_same_twice(realistic):
    once, twice = project(realistic.points, 0), project(realistic.points, 0)
    assert once.method == "t-SNE"
    assert np.array_equal(once.plane, twice.plane)
    people = np.array(once.people)
    middles = np.stack([once.plane[people == person].mean(axis=0) for person in sorted(set(people))])
    names = sorted(set(people))
    nearest = [names[int(np.argmin(np.hypot(*(middles - place).T)))][:-1] for place in once.plane]
    assert np.mean([family == person[:-1] for family, person in zip(nearest, people, strict=True)]) > 0.9


def test_without_scikit_learn_principal_components_take_its_place(realistic, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    made = project(realistic.points, 0)
    assert made.method == "PCA"
    assert np.array_equal(made.plane, principal_components(realistic.points.embeddings.astype(np.float64)))


def test_few_images_are_not_worth_tsne_and_two_no_plot(small):
    points = small.points
    few = replace(
        points, embeddings=points.embeddings[:8], people=points.people[:8], families=points.families[:8],
        paths=points.paths[:8],
    )  # fmt: skip
    assert project(few, 0).method == "PCA"
    two = replace(
        few,
        embeddings=few.embeddings[:2],
        people=few.people[:2],
        families=few.families[:2],
        paths=few.paths[:2],
    )
    assert project(two, 0) is None
    broken = replace(few, embeddings=np.full_like(few.embeddings, np.nan))
    assert project(broken, 0) is None


def test_no_more_images_than_the_limit(monkeypatch):
    monkeypatch.setattr(projection, "MAX_IMAGES", 50)
    made = project(synthetic.evaluation(10, 5).points, 0)
    assert len(made.people) == 50
    assert made.num_images == 100
