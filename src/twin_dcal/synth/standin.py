"""Drawn faces in twin families, enough to run the whole chain; a stand-in until the real generator exists.

    python -m twin_dcal.synth.standin --output DIR

Twins share geometry and colours and differ only in their marks (dark spots on the skin). Pose, light, background
and noise are drawn anew for every photo, so nothing else tells two twins apart. These are cartoons: what a model
scores on them says that the chain works, nothing about real faces.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float64]

SPLITS = {"train": 32, "val": 8, "test": 12}


class Face(NamedTuple):
    """A person: geometry in face units (the head is about 2 high), colours in [0, 1], marks as (x, y, radius)."""

    shape: NDArray[np.float64]
    colours: NDArray[np.float64]
    marks: NDArray[np.float64]


def draw_family(rng: np.random.Generator) -> tuple[Face, Face]:
    """Two people who differ in their marks alone."""
    shape = rng.uniform([0.62, 0.26, 0.07, 0.18, 0.30, 0.40], [0.78, 0.36, 0.12, 0.34, 0.50, 0.60])
    skin = np.array([0.85, 0.65, 0.52]) * rng.uniform(0.55, 1.1)
    colours = np.stack([skin, rng.uniform(0.05, 0.6, 3), skin * [0.75, 0.4, 0.4]])
    twins = [Face(shape, colours, _marks(rng)) for _ in range(2)]
    return twins[0], twins[1]


def photograph(face: Face, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One photo of a face: (size, size, 3) uint8."""
    width, eye_x, eye_r, mouth_w, mouth_y, hair_y = face.shape
    x, y = _face_coordinates(size, rng)
    image = np.broadcast_to(rng.uniform(0.1, 0.9, 3), (size, size, 3))
    skin, hair, lips = face.colours
    spots = [np.exp(-(((x - a) ** 2 + (y - b) ** 2) / r**2)) for a, b, r in face.marks]
    darkness = 1 - 0.75 * np.max(spots, axis=0)[..., None]
    image = _paint(image, hair, (x / (width + 0.12)) ** 2 + ((y + 0.12) / 1.05) ** 2)
    image = _paint(image, skin * darkness, (x / width) ** 2 + (y / 0.95) ** 2)
    image = _paint(image, hair, (x / width) ** 2 + ((y + 0.95) / (0.75 - 0.5 * hair_y)) ** 2)
    smile = rng.uniform(0.03, 0.09)
    image = _paint(image, lips, (x / mouth_w) ** 2 + ((y - mouth_y) / smile) ** 2)
    image = _paint(image, skin * 0.8, (x / 0.05) ** 2 + ((y - 0.12) / 0.16) ** 2)
    for side in (-1, 1):
        image = _paint(
            image, np.ones(3), ((x - side * eye_x) / eye_r) ** 2 + ((y + 0.15) / (0.6 * eye_r)) ** 2
        )
        image = _paint(image, hair * 0.4, ((x - side * eye_x) ** 2 + (y + 0.15) ** 2) / (0.5 * eye_r) ** 2)
    light = rng.uniform(0.75, 1.15) * (1 + rng.uniform(-0.2, 0.2) * x)[..., None]
    noisy = image * light + rng.normal(0, 0.015, image.shape)
    return (255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def write_standin(folder: Path, *, size: int = 96, photos: int = 12, seed: int = 0) -> None:
    """Write train/val/test folders, dataset_infor.json and twin_pairs_infor.json."""
    info: dict[str, list[str]] = {}
    pairs: list[list[str]] = []
    for number, split in enumerate(split for split, count in SPLITS.items() for _ in range(count)):
        twins = draw_family(np.random.default_rng((seed, number)))
        ids = [f"{2 * number + twin:05d}" for twin in range(2)]
        pairs.append(ids)
        for twin, (person, face) in enumerate(zip(ids, twins, strict=True)):
            (folder / split / person).mkdir(parents=True, exist_ok=True)
            info[person] = [f"{split}/{person}/{photo:02d}.png" for photo in range(photos)]
            for photo, name in enumerate(info[person]):
                pixels = photograph(face, size, np.random.default_rng((seed, number, twin, photo)))
                Image.fromarray(pixels).save(folder / name)
    (folder / "dataset_infor.json").write_text(json.dumps(info, indent=1))
    (folder / "twin_pairs_infor.json").write_text(json.dumps(pairs))


def _marks(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform([-0.5, -0.05, 0.09], [0.5, 0.75, 0.16], (4, 3))


def _face_coordinates(size: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Face coordinates of every pixel, under a random small turn, zoom and shift."""
    column, row = np.meshgrid(*[(np.arange(size) + 0.5) / size * 2.4 - 1.2] * 2)
    turn, zoom, (dx, dy) = rng.normal(0, 0.08), rng.uniform(0.93, 1.07), rng.normal(0, 0.04, 2)
    x = zoom * (np.cos(turn) * column + np.sin(turn) * row) + dx
    y = zoom * (np.cos(turn) * row - np.sin(turn) * column) + dy
    return x, y


def _paint(image: Pixels, colour: Pixels, level: Pixels) -> Pixels:
    """`colour` where `level` is below 1, with a soft edge."""
    inside = 1 / (1 + np.exp(np.clip(14 * (level - 1), -60, 60)))[..., None]
    return image * (1 - inside) + colour * inside


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a small set of twin faces to try the chain on.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_standin(options.output, seed=options.seed)
    people = 2 * sum(SPLITS.values())
    print(f"{people} drawn people in {people // 2} twin pairs: {options.output}")


if __name__ == "__main__":
    main()
