"""The faces an export is checked on: those of a data set or folder, or drawn ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.fit import fit, sides
from twin_dcal.image_size import ImageSize
from twin_dcal.inference.aligning import prepare_file
from twin_dcal.inference.backend import Backend
from twin_dcal.plural import plural
from twin_dcal.progress import track
from twin_dcal.synth.known import know
from twin_dcal.synth.photo import draw_photo
from twin_dcal.synth.settings import Settings

NUM_CHECKED = 32
_BATCH = 32
_SMALLEST_DRAWN = 32


@dataclass(frozen=True, eq=False)
class CheckFaces:
    """Pixels (N, rows, columns, 3) uint8, and which they are, in words."""

    pixels: NDArray[np.uint8]
    told: str


def some_of(names: Sequence[str], size: ImageSize, source: str) -> CheckFaces:
    """Up to NUM_CHECKED image files, evenly spaced over the list. ImageError for one that cannot be read."""
    chosen = np.unique(np.linspace(0, len(names) - 1, NUM_CHECKED).round().astype(int))
    pixels = np.stack([prepare_file("never", size, None, "command", names[at]) for at in chosen])
    return CheckFaces(pixels, f"{plural(len(pixels), 'face')} of {source}")


def drawn(size: ImageSize, num_families: int = 4) -> CheckFaces:
    """Two photos of each member of a few SynTwins families; always the same."""
    settings = Settings(families=num_families, images=2, image_size=max(*sides(size), _SMALLEST_DRAWN))
    photos = [
        known.take(draw_photo(settings.seed, family, known.person.twin, number, settings.level), settings.image_size)[0]
        for family in range(num_families)
        for known in know(settings.people_of(family), settings.texels)
        for number in range(settings.images)
    ]  # fmt: skip
    pixels = np.stack([fit(photo, size) for photo in photos])
    return CheckFaces(
        pixels, f"{len(pixels)} drawn SynTwins faces (name real ones with --val_data or --images)"
    )


def embed_files(backend: Backend, names: Sequence[str]) -> NDArray[np.float32]:
    """(N, E) combined features of image files, in order. ImageError for one that cannot be read."""
    size = backend.source.image_size
    rows = []
    for start in track(range(0, len(names), _BATCH), "embedding", "batches"):
        pixels = [
            prepare_file("never", size, None, "command", name) for name in names[start : start + _BATCH]
        ]
        rows.append(backend.embed(np.stack(pixels)))
    return np.concatenate(rows)
