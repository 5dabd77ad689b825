"""Copies of one picture: first by a perceptual hash, then by pixels.

Both look at the inner face of aligned crops, so that a copy that was scaled, cropped, turned, mirrored or had its light
changed is still one. Two pictures of one sitting are not: hair, clothes and background are left out, and pixels are
compared after one crop was registered to the other, where what is left of a copy is noise (docs/prepare.md).
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

_HASH_SIDE, _HASH_KEPT = 32, 8
_HASHED = ((0.2, 0.92), (0.14, 0.86))  # rows and columns of the inner face, as shares of the side
_BITS = 64
_BLOCK = 1 << 22  # pairs whose hashes are compared at once
_SIDE = 96  # pixels of a side at which crops are compared
_INNER = (slice(24, 84), slice(19, 77))
_ROUGHLY = 0.7  # correlation before registering; below, crops are different
_FEW_STEPS, _NEARLY = 3, 0.93  # of registering, and the correlation that copies reach by then
_STEPS, _SETTLED = 30, 1e-5
_WORST = 2  # lower parts than this are not counted
_COARSE, _FINE = 6.0, 1.0  # standard deviations, in pixels, of what is too coarse and too fine to tell


def perceptual_hash(crop_SSC: Pixels) -> int:
    """64 bits: which of the lowest 8 x 8 cosine coefficients of the inner face exceed their median.

    At 32 x 32 grey pixels, as pHash (Zauner 2010), with the first coefficient left out of the median.
    """
    side = crop_SSC.shape[0]
    rows, columns = (slice(round(low * side), round(high * side)) for low, high in _HASHED)
    inner = Image.fromarray(np.ascontiguousarray(crop_SSC[rows, columns])).convert("L")
    grey = inner.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)
    cosine = _cosines()
    low = (cosine @ np.asarray(grey, np.float64) @ cosine.T).ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def compared_pixels(crop_SSC: Pixels) -> Pixels:
    """Grey, (96, 96)."""
    return np.asarray(Image.fromarray(crop_SSC).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX))


def likeness(one: Pixels, other: Pixels) -> float:
    """Correlation, at most 1, of two crops' inner faces where they differ most, as they are or one mirrored.

    Compared is what is neither light nor noise, after one crop was registered to the other by an affine map
    (Evangelidis and Psarakis, IEEE TPAMI 30, 2008), in 4 x 4 parts: a smile changes few of them. The third lowest
    counts, as a copy may have lost one or two; -1 for crops that are not even roughly alike.
    Args: as `compared_pixels` gives them; their order does not matter.
    """
    views = other, np.ascontiguousarray(other[:, ::-1])
    near = (view for view in views if _correlation(one[_INNER], view[_INNER]) >= _ROUGHLY)
    return max((min(_registered(one, view), _registered(view, one)) for view in near), default=-1.0)


def _registered(one: Pixels, other: Pixels) -> float:
    """Likeness of the crops as they are, with `other` registered to `one`: after a few steps to see whether it pays."""
    cv2 = import_module("cv2")
    target = np.ascontiguousarray(one[_INNER])
    matrix = np.array([[1, 0, _INNER[1].start], [0, 1, _INNER[0].start]], np.float32)
    for steps, least in ((_FEW_STEPS, _NEARLY), (_STEPS, -1.0)):
        until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, _SETTLED)
        try:
            reached, matrix = cv2.findTransformECC(target, other, matrix, cv2.MOTION_AFFINE, until, None, 3)
        except cv2.error:  # it found no way
            return -1.0
        if reached < least:
            return -1.0
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(other, matrix, target.shape[::-1], flags=flags)
    parts = zip(_parts(_detail(target)), _parts(_detail(moved)), strict=True)
    return sorted(_correlation(here, there) for here, there in parts)[_WORST]


def _parts(detail: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [part for rows in np.array_split(detail, 4) for part in np.array_split(rows, 4, axis=1)]


def _detail(pixels: Pixels) -> NDArray[np.float32]:
    cv2 = import_module("cv2")
    fine, coarse = (cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), width) for width in (_FINE, _COARSE))
    return np.asarray(fine - coarse, np.float32)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """0 if one of the two is flat."""
    first, second = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / lengths if lengths > 0 else 0.0


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
    hashes: Sequence[int], mirrored: Sequence[int], pixels_of: Callable[[int], Pixels], max_bits: int,
    min_correlation: float,
) -> list[list[int]]:  # fmt: skip
    """Groups of crops that are one picture.

    Args: pixels_of: `compared_pixels` of a crop by its number; asked only for candidates.
    """
    same = [
        (one, other) for one, other in near_pairs(hashes, mirrored, max_bits)
        if likeness(pixels_of(one), pixels_of(other)) >= min_correlation
    ]  # fmt: skip
    return groups_of(same)


def _cosines() -> NDArray[np.float64]:
    """(8, 32): the first rows of the discrete cosine transform."""
    row, column = np.arange(_HASH_KEPT)[:, None], np.arange(_HASH_SIDE)
    return np.asarray(np.cos(np.pi * row * (2 * column + 1) / (2 * _HASH_SIDE)))
