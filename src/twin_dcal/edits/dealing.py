"""Which photographs of a person go to which edited person: at random, copies of one picture together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .identity import key_of

_KEY = 15  # first entry of the keys of this module's generators
MOST_BITS, COPY_FROM = 12, 0.97
"""What makes two photographs one picture, as `dcal-prepare` decides."""


def deal(
    count: int, copies: Sequence[Sequence[int]], selves: int, seed: int, person: str
) -> tuple[tuple[int, ...], ...]:
    """Photographs 0 to count - 1 dealt to edited selves, as evenly as copies that stay together allow.

    Args: copies: groups of photographs of one picture.
    Returns: for each self its photographs, sorted; nobody's is empty if there are as many pictures as selves.
    """
    grouped = {number for group in copies for number in group}
    units = [list(group) for group in copies] + [[number] for number in range(count) if number not in grouped]
    rng = np.random.default_rng((_KEY, seed, key_of(person)))
    shuffled = [units[number] for number in rng.permutation(len(units)).tolist()]
    # Large groups first, so that singles can even out; the order among equals is the random one.
    hands: list[list[int]] = [[] for _ in range(selves)]
    order = rng.permutation(selves).tolist()
    for unit in sorted(shuffled, key=len, reverse=True):
        fewest = min(order, key=lambda self_: len(hands[self_]))
        hands[fewest] += unit
    return tuple(tuple(sorted(hand)) for hand in hands)


def groups_of_copies(crops: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Groups of aligned crops that are one picture, by number."""
    from twin_dcal.prepare.duplicates import compared_pixels, find_copies, perceptual_hash

    hashes = [perceptual_hash(crop) for crop in crops]
    mirrored = [perceptual_hash(crop[:, ::-1]) for crop in crops]
    return find_copies(hashes, mirrored, lambda number: compared_pixels(crops[number]), MOST_BITS, COPY_FROM)
