"""Batches built from families: the hardest impostor, the twin, is always in the batch.

Shapes: N images, P people; a batch holds up to `num_people` people with `images_per_person` = K images each.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural


@dataclass(frozen=True, slots=True)
class SampleKey:
    """One image of one batch; the last three key its augmentation, whatever worker or process reads it."""

    index: int
    epoch: int
    batch: int
    slot: int


class _Unit(NamedTuple):
    """Some people of one family (all of them if they fit in a batch) with K images each."""

    family: int
    images: tuple[tuple[int, ...], ...]


def family_batches(
    person_of: np.ndarray,
    family_of: np.ndarray,
    *,
    num_people: int,
    images_per_person: int,
    seed: int,
    epoch: int,
) -> list[list[SampleKey]]:
    """The global batches of one epoch, a pure function of its arguments (docs/training.md).

    A person's images are shuffled and cut into draws of K; the last draw wraps round to other images of the
    person, and a person with fewer than K images repeats them. A family is drawn as often as its member with
    most draws (the others start over). Its draws are spread over the epoch, one at a random place of each
    of as many equal parts, and batches take the first draws in that order that fit: no family twice in a
    batch. A family larger than `num_people` is cut, anew for each draw, into random groups that fill a batch
    each. Where the draws left over make a batch short, it is filled with more random draws of families it
    lacks (with a part of a family only where one person would be alone). So every image is seen at least
    once, nothing is dropped, and batches are full unless no family fits in the gap. The number of batches may
    differ between epochs.

    Args: person_of: int (N,) person of each image; family_of: int (P,) family of each person.
    Returns: batches of keys, the K images of a person side by side. ValueError for sizes that make no batch,
    ManifestError if fewer than 2 people have images.
    """
    if num_people < 2 or images_per_person < 1:
        given = f"{num_people} people x {images_per_person} images"
        raise ValueError(f"a batch needs 2 or more people and 1 or more images of each, not {given}")
    rng = np.random.default_rng((seed, epoch))
    draws = _draws_of_people(person_of, len(family_of), images_per_person, rng)
    if sum(bool(person_draws) for person_draws in draws) < 2:
        raise ManifestError("a training set needs images of 2 or more people. Add people or check the split.")
    families = _members(family_of, draws)
    queue = _shuffled_units(families, draws, num_people, rng)
    batches = [_fill(batch, families, draws, num_people, rng) for batch in _first_fit(queue, num_people)]
    return [
        [SampleKey(index, epoch, number, slot) for slot, index in enumerate(_indices(batch))]
        for number, batch in enumerate(batches)
    ]


def split_batch(
    batch: list[SampleKey], person_of: np.ndarray, family_of: np.ndarray, num_parts: int
) -> list[list[SampleKey]]:
    """A global batch in parts for as many processes, families whole.

    The largest family goes first, each to the part with the fewest people so far, so parts may differ by a family.
    Only a family of more people than an even part holds is cut, and families of batches with fewer families than
    parts. ManifestError for fewer people than parts.
    """
    families: dict[int, dict[int, list[SampleKey]]] = {}
    for key in batch:
        person = int(person_of[key.index])
        families.setdefault(int(family_of[person]), {}).setdefault(person, []).append(key)
    num_people = sum(len(people) for people in families.values())
    if num_people < num_parts:
        raise ManifestError(
            f"batch {batch[0].batch + 1} of epoch {batch[0].epoch + 1} has "
            f"{plural(num_people, 'person', 'people')} for {num_parts} "
            "processes. Use fewer processes, or more people."
        )
    room = -(-num_people // num_parts)
    pieces = [cut for people in families.values() for cut in _cut(list(people.values()), room)]
    while len(pieces) < num_parts:
        largest = max(range(len(pieces)), key=lambda number: len(pieces[number]))
        pieces[largest : largest + 1] = _cut(pieces[largest], -(-len(pieces[largest]) // 2))
    parts: list[list[list[SampleKey]]] = [[] for _ in range(num_parts)]
    for piece in sorted(pieces, key=len, reverse=True):
        min(parts, key=len).extend(piece)
    return [sorted((key for person in part for key in person), key=lambda key: key.slot) for part in parts]


def _cut(people: list[list[SampleKey]], room: int) -> list[list[list[SampleKey]]]:
    return [people[start : start + room] for start in range(0, len(people), room)]


class FamilyBatchSampler:
    """`family_batches` as a DataLoader's `batch_sampler`, without state beyond what `set_epoch` says.

    With several processes each takes its part of every global batch (`split_batch`): the batches, and the number of
    steps, do not depend on the number of processes.
    """

    def __init__(
        self,
        person_of: np.ndarray,
        family_of: np.ndarray,
        *,
        num_people: int,
        images_per_person: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        person_in: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        """Args: person_in: whose each image is in an epoch, where that changes; `person_of` then only counts."""
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in 0..{world_size - 1}")
        self._person_of, self._family_of, self._person_in = person_of, family_of, person_in
        self._num_people, self._images_per_person = num_people, images_per_person
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch and how many of its batches to skip (those done before a resume).

        ManifestError if a batch has fewer people than there are processes.
        """
        person_of = self._person_of if self._person_in is None else self._person_in(epoch)
        batches = family_batches(
            person_of,
            self._family_of,
            num_people=self._num_people,
            images_per_person=self._images_per_person,
            seed=self._seed,
            epoch=epoch,
        )
        if self._world_size > 1:
            batches = [
                split_batch(batch, person_of, self._family_of, self._world_size)[self._rank]
                for batch in batches
            ]
        self._batches = batches
        if not 0 <= start_batch <= len(self._batches):
            raise ValueError(f"start_batch {start_batch} is not in 0..{len(self._batches)} of epoch {epoch}")
        self.epoch, self.start_batch = epoch, start_batch

    @property
    def num_batches(self) -> int:
        """Batches of the whole epoch, also those skipped by `start_batch`."""
        return len(self._batches)

    def __len__(self) -> int:
        return len(self._batches) - self.start_batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self._batches[self.start_batch :])


def _draws_of_people(
    person_of: np.ndarray, num_people: int, images_per_person: int, rng: np.random.Generator
) -> list[list[tuple[int, ...]]]:
    order = np.argsort(person_of, kind="stable")
    cuts = np.cumsum(np.bincount(person_of, minlength=num_people))[:-1]
    draws = []
    for images in np.split(order, cuts):
        shuffled = rng.permutation(images)
        num_draws = -(-len(images) // images_per_person)
        # np.resize repeats from the start: the last draw wraps round, few images repeat.
        wrapped = np.resize(shuffled, num_draws * images_per_person).reshape(num_draws, images_per_person)
        draws.append([tuple(row) for row in wrapped.tolist()])
    return draws


def _members(family_of: np.ndarray, draws: list[list[tuple[int, ...]]]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for person, family in enumerate(family_of.tolist()):
        if draws[person]:
            members.setdefault(family, []).append(person)
    return members


def _shuffled_units(
    families: dict[int, list[int]],
    draws: list[list[tuple[int, ...]]],
    num_people: int,
    rng: np.random.Generator,
) -> deque[_Unit]:
    placed = []
    for family, members in families.items():
        num_draws = max(len(draws[person]) for person in members)
        for draw in range(num_draws):
            units = [_unit(family, people, draw, draws) for people in _groups(members, num_people, rng)]
            placed += [((draw + rng.random()) / num_draws, unit) for unit in units]
    placed.sort(key=lambda item: item[0])
    return deque(unit for _, unit in placed)


def _groups(members: list[int], num_people: int, rng: np.random.Generator) -> list[list[int]]:
    if len(members) <= num_people:
        return [members]
    shuffled = rng.permutation(members)
    num_groups = -(-len(members) // num_people)
    rows: list[list[int]] = np.resize(shuffled, (num_groups, num_people)).tolist()
    return rows


def _unit(family: int, people: list[int], draw: int, draws: list[list[tuple[int, ...]]]) -> _Unit:
    return _Unit(family, tuple(draws[person][draw % len(draws[person])] for person in people))


def _first_fit(queue: deque[_Unit], num_people: int) -> Iterator[list[_Unit]]:
    """Batches of the first units that fit, in order; empties `queue`, which is the caller's own."""
    waiting = Counter(len(unit.images) for unit in queue)
    while queue:
        batch, skipped, taken, free = list[_Unit](), list[_Unit](), set[int](), num_people
        smallest = min(size for size, count in waiting.items() if count)
        while queue and free >= smallest:
            unit = queue.popleft()
            size = len(unit.images)
            if size > free or unit.family in taken:
                skipped.append(unit)
            else:
                batch.append(unit)
                taken.add(unit.family)
                waiting[size] -= 1
                free -= size
        queue.extendleft(reversed(skipped))
        yield batch


def _fill(
    batch: list[_Unit],
    families: dict[int, list[int]],
    draws: list[list[tuple[int, ...]]],
    num_people: int,
    rng: np.random.Generator,
) -> list[_Unit]:
    free = num_people - sum(len(unit.images) for unit in batch)
    if not free:
        return batch
    filled, present = list(batch), {unit.family for unit in batch}
    absent = [family for family in rng.permutation(sorted(families)).tolist() if family not in present]

    def take(family: int, people: list[int]) -> int:
        draw = int(rng.integers(max(len(draws[person]) for person in people)))
        filled.append(_unit(family, people, draw, draws))
        return len(people)

    for family in absent:
        if len(families[family]) <= free:
            free -= take(family, families[family])
    if free == num_people - 1:  # one person alone has no impostor: part of a family is better than none
        take(absent[0], rng.permutation(families[absent[0]])[:free].tolist())
    return filled


def _indices(batch: list[_Unit]) -> Iterator[int]:
    return (index for unit in batch for images in unit.images for index in images)
