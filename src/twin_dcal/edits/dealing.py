"""Which photographs of a person go to which edited person: at random, copies of one picture together. numpy only."""

from collections.abc import Sequence

import numpy as np

from .identity import key_of

_KEY = 15  # first entry of the keys of this module's generators

Hands = tuple[tuple[int, ...], ...]


def deal(
    count: int, copies: Sequence[Sequence[int]], selves: int, seed: int, person: str, *more: int
) -> Hands:
    """Photographs 0 to count - 1 dealt to edited selves, as evenly as copies that stay together allow.

    Args: copies: groups of photographs of one picture; more: anything else that the deal shall depend on.
    Returns: for each self its photographs, sorted; nobody's is empty if there are as many pictures as selves.
    """
    grouped = {number for group in copies for number in group}
    units = [list(group) for group in copies] + [[number] for number in range(count) if number not in grouped]
    rng = np.random.default_rng((_KEY, seed, key_of(person), *more))
    shuffled = [units[number] for number in rng.permutation(len(units)).tolist()]
    hands: list[list[int]] = [[] for _ in range(selves)]
    first = rng.permutation(selves).tolist()  # who gets the odd one
    # Large groups first, so that single ones can even out; the order among equals is the random one.
    for unit in sorted(shuffled, key=len, reverse=True):
        fewest = min(first, key=lambda self_: len(hands[self_]))
        hands[fewest] += unit
    return tuple(tuple(sorted(hand)) for hand in hands)
