"""Copies of one picture: the hash against a loop, the search against all pairs."""

import math

import numpy as np
import pytest
from drawn_scenes import drawn_face
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from twin_dcal.data.decode import decode_pixels
from twin_dcal.prepare.align import align_face
from twin_dcal.prepare.duplicates import (
    compared_pixels,
    find_copies,
    groups_of,
    likeness,
    near_pairs,
    perceptual_hash,
)


def loop_hash(crop):
    side = crop.shape[0]
    inner = Image.fromarray(
        crop[round(0.2 * side) : round(0.92 * side), round(0.14 * side) : round(0.86 * side)]
    )
    grey = np.asarray(inner.convert("L").resize((32, 32), Image.Resampling.BOX), float)
    values = []
    for u in range(8):
        for v in range(8):
            total = 0.0
            for y in range(32):
                for x in range(32):
                    total += (
                        grey[y, x]
                        * math.cos(math.pi * u * (2 * y + 1) / 64)
                        * math.cos(math.pi * v * (2 * x + 1) / 64)
                    )
            values.append(total)
    middle = sorted(values[1:])[31]
    return int("".join("1" if value > middle else "0" for value in values), 2)


MIRROR = 0x5A5A_F00F_1234_8EDC  # in this test a mirror image flips these bits


def bits(one, other):
    return (one ^ other).bit_count()


def test_the_hash_is_that_of_a_loop():
    face, _ = drawn_face(0, 0, 64)
    assert perceptual_hash(face) == loop_hash(face)


def test_likeness():
    one, other = (compared_pixels(drawn_face(family, 0, 96)[0]) for family in (0, 1))
    assert likeness(one, one) > 0.99
    assert likeness(one, np.ascontiguousarray(one[:, ::-1])) > 0.99
    assert likeness(one, other) == likeness(other, one) < 0.9
    assert likeness(one, np.full((96, 96), 7, np.uint8)) == -1
    brighter = np.clip(one.astype(float) * 0.6 + 60, 0, 255).astype(np.uint8)
    assert likeness(one, brighter) > 0.98


@pytest.mark.parametrize("moved", [
    {"angle": 4, "scale": 1.0, "shift": (0, 0)}, {"angle": -2, "scale": 0.94, "shift": (2.5, -1.5)},
])  # fmt: skip
def test_a_copy_that_was_aligned_otherwise_is_still_one(moved):
    face = Image.fromarray(drawn_face(3, 1, 288)[0])
    turn, scale = np.radians(moved["angle"]), moved["scale"]
    cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
    middle = 144
    x, y = (middle - cosine * middle - sine * middle, middle + sine * middle - cosine * middle)
    matrix = (cosine, sine, x + moved["shift"][0], -sine, cosine, y + moved["shift"][1])
    again = face.transform((288, 288), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    pixels = [compared_pixels(np.asarray(image)) for image in (face, again)]
    inner = [image[24:84, 19:77].astype(float).ravel() for image in pixels]
    assert np.corrcoef(*inner)[0, 1] < 0.98
    assert likeness(*pixels) > 0.98


def test_neutral_and_smiling_of_one_sitting_are_two_pictures(detector, shared_photos):
    """The same person, light, clothes and background: only the face has moved."""
    found = []
    for folder in sorted({path.parent for path in shared_photos if "studio" in path.parts}):
        crops = [
            align_face(decode_pixels(path.read_bytes(), path), 224, detector).crop
            for path in sorted(folder.glob("*.jpg"))
        ]
        found.append(likeness(*map(compared_pixels, crops)))
    assert len(found) == 14
    assert max(found) < 0.96


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=30),
    st.lists(
        st.tuples(st.integers(0, 29), st.lists(st.integers(0, 63), max_size=12), st.booleans()), max_size=20
    ),
    st.integers(0, 12),
)
def test_near_pairs_are_those_of_all_pairs(hashes, changed, max_bits):
    for at, flips, mirror in changed:  # some that are near on purpose
        if at < len(hashes):
            near = hashes[at]
            for flip in flips:
                near ^= 1 << flip
            hashes.append(near ^ MIRROR if mirror else near)
    mirrored = [value ^ MIRROR for value in hashes]
    expected = [
        (i, j)
        for i in range(len(hashes)) for j in range(i + 1, len(hashes))
        if min(bits(hashes[i], hashes[j]), bits(mirrored[i], hashes[j])) <= max_bits
    ]  # fmt: skip
    assert list(near_pairs(hashes, mirrored, max_bits)) == expected


def test_groups_are_connected():
    assert groups_of([(0, 3), (5, 6), (3, 9), (6, 5)]) == [[0, 3, 9], [5, 6]]
    assert groups_of([]) == []


def test_copies_are_told_from_other_photos_of_one_face():
    faces = [drawn_face(family, number, 112)[0] for family in range(4) for number in range(3)]
    copy = np.asarray(Image.fromarray(faces[4]).resize((70, 70), Image.Resampling.BICUBIC).resize((112, 112)))
    mirrored = np.ascontiguousarray(faces[7][:, ::-1])
    crops = [*faces, copy, mirrored]
    pixels = [compared_pixels(crop) for crop in crops]
    hashes, mirrored_hashes = (
        [perceptual_hash(view) for view in views] for views in (crops, [c[:, ::-1] for c in crops])
    )
    found = find_copies(hashes, mirrored_hashes, pixels.__getitem__, 12, 0.97)
    assert found == [[4, 12], [7, 13]]
