"""Copies of one picture: first by a perceptual hash, then by pixels. numpy only.

Both look at aligned crops, so that a copy that was scaled, cropped or turned is still one. Mirror images are
copies, too.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

_HASH_SIDE, _HASH_KEPT = 32, 8
_COMPARED_SIDE = 64
_BITS = 64
_BLOCK = 1 << 22  # pairs whose hashes are compared at once


def perceptual_hash(crop_SSC: Pixels) -> int:
    """64 bits: which of the lowest 8 x 8 cosine coefficients of 32 x 32 grey pixels exceed their median (pHash, Zauner
    2010, with the first coefficient left out of the median)."""
    grey = Image.fromarray(crop_SSC).convert("L").resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)
    cosine = _cosines()
    low = (cosine @ np.asarray(grey, np.float64) @ cosine.T).ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def compared_pixels(crop_SSC: Pixels) -> NDArray[np.float32]:
    """64 x 64 grey values with mean 0 and length 1: the product of two is their correlation. All 0 for a flat crop."""
    image = Image.fromarray(crop_SSC).convert("L")
    grey = np.asarray(image.resize((_COMPARED_SIDE, _COMPARED_SIDE), Image.Resampling.BOX), np.float64)
    grey = grey - grey.mean()
    length = float(np.linalg.norm(grey))
    return np.asarray(grey / length if length > 0 else grey, np.float32)


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two crops as `compared_pixels` gives them, the better of as they are and mirrored."""
    return float(max((one * other).sum(), (one * other[:, ::-1]).sum()))


def near_pairs(hashes: Sequence[int], mirrored: Sequence[int], max_bits: int) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, in order, whose hashes differ in at most `max_bits` bits, as they are or one mirrored.

    Two hashes within d bits agree in one of any d + 1 parts (pigeonhole), so only those that share a part's value are
    compared. Args: mirrored: the hashes of the mirror images.
    """
    own = np.array(hashes, np.uint64)
    both = np.concatenate([own, np.array(mirrored, np.uint64)])
    found: set[tuple[int, int]] = set()
    edges = np.linspace(0, _BITS, max_bits + 2).round().astype(int)
    for low, high in pairwise(edges.tolist()):
        part = (both >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        for i, j in _within(own, both, part, max_bits):
            found.add((min(i, j), max(i, j)))
    yield from sorted(found)


def _within(own: Hashes, both: Hashes, part: Hashes, max_bits: int) -> Iterator[tuple[int, int]]:
    """Pairs among those whose part is the same; the second may be a mirror image."""
    order = np.argsort(part, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], part[order][1:] != part[order][:-1]]))
    for group in np.split(order, starts[1:]):
        rows = group[group < own.size]
        if not rows.size or group.size < 2:
            continue
        step = max(_BLOCK // group.size, 1)
        for at in range(0, rows.size, step):
            some = rows[at : at + step]
            close = np.bitwise_count(own[some, None] ^ both[None, group]) <= max_bits
            for i, j in np.argwhere(close):
                one, other = int(some[i]), int(group[j] % own.size)
                if one != other:
                    yield one, other


def groups_of(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Connected groups of two or more, sorted."""
    root: dict[int, int] = {}

    def find(item: int) -> int:
        while root.setdefault(item, item) != item:
            root[item] = root[root[item]]
            item = root[item]
        return item

    for one, other in pairs:
        first, second = sorted((find(one), find(other)))
        root[second] = first
    groups: dict[int, list[int]] = {}
    for item in sorted(root):
        groups.setdefault(find(item), []).append(item)
    return list(groups.values())


def find_copies(
    hashes: Sequence[int], mirrored: Sequence[int], pixels_of: Callable[[int], NDArray[np.float32]], max_bits: int,
    min_correlation: float,
) -> list[list[int]]:  # fmt: skip
    """Groups of crops that are one picture.

    Args: pixels_of: `compared_pixels` of a crop by its number; asked only for candidates.
    """
    same = [
        (one, other) for one, other in near_pairs(hashes, mirrored, max_bits)
        if correlation(pixels_of(one), pixels_of(other)) >= min_correlation
    ]  # fmt: skip
    return groups_of(same)


def _cosines() -> NDArray[np.float64]:
    """(8, 32): the first rows of the discrete cosine transform."""
    row, column = np.arange(_HASH_KEPT)[:, None], np.arange(_HASH_SIDE)
    return np.asarray(np.cos(np.pi * row * (2 * column + 1) / (2 * _HASH_SIDE)))
