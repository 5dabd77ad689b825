"""What holds for every epoch of family batches, whatever people and families there are."""

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_dcal.data.samplers import (
    FamilyBatchSampler,
    SampleKey,
    _first_fit,
    _Unit,
    family_batches,
    split_batch,
)
from twin_dcal.errors import ManifestError


@st.composite
def label_sets(draw):
    """(person_of, family_of, num_people, images_per_person), images in any order."""
    counts = draw(st.lists(st.integers(1, 14), min_size=2, max_size=14))
    family_of = draw(st.lists(st.integers(0, 6), min_size=len(counts), max_size=len(counts)))
    person_of = draw(st.permutations([p for p, count in enumerate(counts) for _ in range(count)]))
    return np.array(person_of), np.array(family_of), draw(st.integers(2, 6)), draw(st.integers(1, 5))


def batches_of(labels, seed=0, epoch=0):
    person_of, family_of, num_people, images_per_person = labels
    return family_batches(
        person_of,
        family_of,
        num_people=num_people,
        images_per_person=images_per_person,
        seed=seed,
        epoch=epoch,
    )


def people_in(batch, person_of, images_per_person):
    """The people of a batch in order, after checking that each has its images side by side."""
    people = [int(person_of[key.index]) for key in batch]
    rows = [people[at : at + images_per_person] for at in range(0, len(people), images_per_person)]
    assert all(len(set(row)) == 1 and len(row) == images_per_person for row in rows)
    return [row[0] for row in rows]


@settings(max_examples=150, deadline=None)
@given(label_sets(), st.integers(0, 3))
def test_invariants_of_every_batch(labels, epoch):
    person_of, family_of, num_people, images_per_person = labels
    members = Counter(family_of.tolist())
    for number, batch in enumerate(batches_of(labels, epoch=epoch)):
        people = people_in(batch, person_of, images_per_person)
        assert 2 <= len(people) <= num_people
        assert len(set(people)) == len(people), "nobody is twice in a batch, so no family is"
        families = Counter(int(family_of[person]) for person in people)
        parts = [family for family, count in families.items() if count < members[family]]
        # Only what is too large for a batch, or keeps a single person company, is not whole.
        assert all(members[family] > num_people or len(families) == 2 for family in parts)
        assert [(key.epoch, key.batch, key.slot) for key in batch] == [
            (epoch, number, slot) for slot in range(len(batch))
        ]


@settings(max_examples=150, deadline=None)
@given(label_sets())
def test_every_image_is_seen_and_images_repeat_only_where_they_must(labels):
    person_of, _, _, images_per_person = labels
    batches = batches_of(labels)
    assert {key.index for batch in batches for key in batch} == set(range(len(person_of)))
    counts = Counter(person_of.tolist())
    for batch in batches:
        for at in range(0, len(batch), images_per_person):
            images = [key.index for key in batch[at : at + images_per_person]]
            assert len(set(images)) == min(images_per_person, counts[int(person_of[images[0]])])


@settings(max_examples=100, deadline=None)
@given(label_sets(), st.integers(0, 2**32))
def test_batches_are_full_unless_no_family_fits(labels, seed):
    person_of, family_of, num_people, images_per_person = labels
    members = Counter(family_of.tolist())
    for batch in batches_of(labels, seed=seed):
        people = people_in(batch, person_of, images_per_person)
        absent = set(members) - {int(family_of[person]) for person in people}
        free = num_people - len(people)
        assert all(members[family] > free for family in absent)


@settings(max_examples=50, deadline=None)
@given(label_sets(), st.integers(0, 1000))
def test_the_same_arguments_give_the_same_batches(labels, seed):
    assert batches_of(labels, seed=seed, epoch=2) == batches_of(labels, seed=seed, epoch=2)


@pytest.fixture(scope="module")
def twins():
    """40 people in 20 pairs with 3 to 22 images."""
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 23, 40)
    return np.repeat(np.arange(40), counts), np.arange(40) // 2, 8, 4


def test_epochs_and_seeds_differ_from_the_start(twins):
    indices = {
        (seed, epoch): [key.index for batch in batches_of(twins, seed, epoch) for key in batch]
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert len({tuple(order) for order in indices.values()}) == 6


def test_both_twins_are_in_every_batch_with_either(twins):
    person_of, _, _, images_per_person = twins
    batches = batches_of(twins)
    for batch in batches:
        people = people_in(batch, person_of, images_per_person)
        assert {person ^ 1 for person in people} == set(people)
    assert all(len(batch) == 32 for batch in batches), "pairs fill batches of 8 people"


def test_an_epoch_is_hardly_longer_than_its_images(twins):
    person_of, _, _, images_per_person = twins
    counts = np.bincount(person_of)
    draws = -(-counts // images_per_person)
    needed = 2 * np.maximum(draws[::2], draws[1::2]).sum()
    drawn = sum(len(batch) for batch in batches_of(twins)) // images_per_person
    assert needed <= drawn <= 1.1 * needed


def test_draws_of_a_family_are_spread_over_the_epoch():
    person_of = np.repeat(np.arange(41), [20] + [4] * 40)
    for seed in range(20):
        batches = family_batches(
            person_of, np.arange(41), num_people=3, images_per_person=4, seed=seed, epoch=0
        )
        holding = [number for number, batch in enumerate(batches) if any(key.index < 20 for key in batch)]
        assert len(batches) == 15
        # One in each fifth of the epoch, so never more than two fifths apart.
        assert max(np.diff(holding)) <= 6


def test_a_draw_that_did_not_fit_is_the_first_of_the_next_batch():
    queue = deque(
        _Unit(family, tuple((family,) for _ in range(people))) for family, people in enumerate((2, 2, 1, 2))
    )
    batches = [[unit.family for unit in batch] for batch in _first_fit(queue, num_people=3)]
    assert batches == [[0, 2], [1], [3]]


def test_a_single_person_is_no_training_set():
    with pytest.raises(ManifestError, match="images of 2 or more people"):
        family_batches(np.zeros(5, int), np.zeros(1, int), num_people=2, images_per_person=2, seed=0, epoch=0)
    with pytest.raises(ValueError, match="2 or more people and 1 or more images of each, not 1 people"):
        family_batches(np.arange(3), np.arange(3), num_people=1, images_per_person=2, seed=0, epoch=0)


def test_many_people_do_not_take_long():
    person_of = np.repeat(np.arange(6000), 5)
    batches = family_batches(
        person_of, np.arange(6000) // 2, num_people=7, images_per_person=4, seed=0, epoch=0
    )
    assert len(batches) == 2000, "3000 pairs, two draws each, three pairs a batch"


def sampler(labels, **options):
    person_of, family_of, num_people, images_per_person = labels
    return FamilyBatchSampler(
        person_of, family_of, num_people=num_people, images_per_person=images_per_person, seed=7, **options
    )


def test_sampler_is_the_function_and_resumes_in_the_middle(twins):
    whole = sampler(twins)
    whole.set_epoch(3)
    assert list(whole) == batches_of(twins, seed=7, epoch=3)
    assert list(whole) == list(whole)
    resumed = sampler(twins)
    resumed.set_epoch(3, start_batch=5)
    assert list(resumed) == list(whole)[5:]
    assert len(resumed) == len(whole) - 5
    assert resumed.num_batches == len(whole)
    with pytest.raises(ValueError, match="start_batch 10000 is not in 0"):
        whole.set_epoch(0, start_batch=10_000)


@settings(max_examples=150, deadline=None)
@given(label_sets(), st.integers(1, 4))
def test_parts_are_the_batch_with_families_whole(labels, num_parts):
    person_of, family_of, _, images_per_person = labels
    for batch in batches_of(labels):
        people = people_in(batch, person_of, images_per_person)
        if len(people) < num_parts:
            with pytest.raises(ManifestError, match=rf"has {len(people)} people for {num_parts} processes"):
                split_batch(batch, person_of, family_of, num_parts)
            continue
        parts = split_batch(batch, person_of, family_of, num_parts)
        assert len(parts) == num_parts
        assert sorted((key for part in parts for key in part), key=lambda key: key.slot) == batch
        assert all(part == sorted(part, key=lambda key: key.slot) and part for part in parts)
        sets = [set(people_in(part, person_of, images_per_person)) for part in parts]
        assert sum(map(len, sets)) == len(people), "nobody is in two parts"
        sizes = Counter(int(family_of[person]) for person in people)
        room = -(-len(people) // num_parts)
        assert max(map(len, sets)) < 2 * room, "a family too large for an even part is cut"
        for family, size in sizes.items():
            homes = [part for part in sets if any(int(family_of[person]) == family for person in part)]
            assert len(homes) == 1 or size > room or len(sizes) < num_parts
        if not any(size > room for size in sizes.values()) and len(sizes) >= num_parts:
            loads = sorted(map(len, sets))
            assert loads[-1] - loads[0] <= max(sizes.values())


def test_a_family_too_large_for_an_even_part_is_cut():
    people = np.arange(6)
    batch = [SampleKey(index, 0, 0, index) for index in range(6)]
    parts = split_batch(batch, people, np.array([0, 0, 0, 0, 1, 2]), 3)
    assert sorted(len(part) for part in parts) == [2, 2, 2]
    assert [key.index for key in max(parts, key=lambda part: part[-1].index)] == [4, 5]


def test_processes_share_the_global_batches(twins):
    whole = list(sampler(twins))
    person_of, family_of, num_people, _ = twins
    for size in (2, 4):
        shares = [list(sampler(twins, rank=rank, world_size=size)) for rank in range(size)]
        assert {len(share) for share in shares} == {len(whole)}
        for number, batch in enumerate(whole):
            parts = [share[number] for share in shares]
            assert sorted((key for part in parts for key in part), key=lambda key: key.slot) == batch
            if len(batch) == num_people * 4:
                assert {len(part) for part in parts} == {len(batch) // size}, "pairs fill every part alike"
            for part in parts:
                people = {int(person_of[key.index]) for key in part}
                families = Counter(int(family_of[person]) for person in people)
                assert all(count == (family_of == family).sum() for family, count in families.items())
    with pytest.raises(ValueError, match="rank 3 is not in 0..2"):
        sampler(twins, rank=3, world_size=3)


def test_keys_are_values():
    assert SampleKey(1, 2, 3, 4) == SampleKey(index=1, epoch=2, batch=3, slot=4)
