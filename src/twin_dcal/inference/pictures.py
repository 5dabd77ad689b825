"""Pictures in any form, in any number, to features: each that is met again is read, aligned and embedded once."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.data.decode import read_bytes
from twin_dcal.data.fit import sides
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.metrics.fusion import similarity_rows
from twin_dcal.plural import plural
from twin_dcal.prepare.align import FaceChoice
from twin_dcal.progress import ProgressBar

from .aligning import FaceInfo, Faces, Prepared, is_shared, of_both, unmet
from .backend import Backend, FeatureType
from .given import as_list
from .images import ImageInput, read_pixels

Features = NDArray[np.float32]
OnError = Literal["entry", "raise"]
BATCH = 32


@dataclass(frozen=True)
class Picture:
    """One to embed: in any form, which of its faces, what messages call it if it has no path. shared: that choice of a
    face is for another picture too; video: whether it is a frame of one, whose name takes the place of a path."""

    image: Any
    face: FaceChoice = "largest"
    called: str = "image"
    shared: bool = False
    video: bool = False

    @property
    def path(self) -> str | None:
        """Where it is, if it says so."""
        return self.called if self.video else path_of(self.image)

    def key(self) -> Hashable:
        """Equal for the same face of the same picture: by path or by bytes; other objects by themselves."""
        image = self.image
        if image is None:  # a missing one is named by its own place, whichever others are missing too
            return ("missing", self.called)
        if isinstance(image, str | Path):
            return ("path", str(image), self.face)
        if isinstance(image, bytes):
            return ("bytes", hashlib.sha256(image).digest(), self.face)
        return ("object", id(image), self.face)


@dataclass(frozen=True, eq=False)
class Embedder:
    """A backend and how pictures are prepared for it."""

    backend: Backend
    prepare: Callable[[Picture], Prepared]

    def __call__(
        self, pictures: Sequence[Picture], feature_type: FeatureType = "combined", batch_size: int = BATCH,
        on_error: OnError = "raise",
    ) -> tuple[Features, list[FaceInfo | str]]:  # fmt: skip
        """Features (N, E) of pictures, and what was seen in them; a row of zeros and the reason where one cannot be
        used, unless that is to be raised."""
        check_batch_size(batch_size)
        empty = np.empty((0, *sides(self.backend.source.image_size), 3), np.uint8)
        rows = [self.backend.embed(empty, feature_type)]
        seen: list[FaceInfo | str] = []
        for start in range(0, len(pictures), batch_size):
            pixels, used = [], []
            for at, picture in enumerate(pictures[start : start + batch_size]):
                try:
                    prepared = self.prepare(picture)
                except ImageError as error:
                    if on_error == "raise":
                        raise
                    seen.append(str(error))
                    continue
                pixels.append(prepared.pixels)  # not the photo itself: a batch of those fills the memory
                used.append(at)
                seen.append(prepared.seen)
            part = np.zeros((len(seen) - start, rows[0].shape[1]), np.float32)
            if used:
                part[used] = self.backend.embed(np.stack(pixels), feature_type)
            rows.append(part)
        return np.concatenate(rows), seen


class EmbeddedOnce:
    """Pictures that were embedded, by their keys: 2 kB each for 512 numbers, as long as this lives."""

    def __init__(self, embed: Embedder, batch_size: int = BATCH, on_error: OnError = "entry") -> None:
        check_batch_size(batch_size)
        self._embed, self._batch_size, self._on_error = embed, batch_size, on_error
        self._known: dict[Hashable, tuple[Features, FaceInfo | str]] = {}

    def scores(
        self, pairs: Sequence[tuple[ImageInput, ImageInput]], faces: Faces
    ) -> tuple[Features, list[tuple[FaceInfo | str, FaceInfo | str]]]:
        """Scores (P,) of pairs in [-1, 1], and what was seen in their pictures; the new ones are embedded.

        A picture that could not be used has its reason instead, and its scores mean nothing.
        """
        pictures = [
            [
                Picture(image, face, f"pair {at}, img{side}", is_shared(faces))
                for side, (image, face) in enumerate(zip(pair, of_both(faces), strict=True), start=1)
            ]
            for at, pair in enumerate(pairs)
        ]
        keys = [[picture.key() for picture in pair] for pair in pictures]
        new: dict[Hashable, Picture] = {}
        for pair_keys, pair_pictures in zip(keys, pictures, strict=True):
            for key, picture in zip(pair_keys, pair_pictures, strict=True):
                if key not in self._known:
                    new.setdefault(key, picture)
        features, seen = self._embed(list(new.values()), "combined", self._batch_size, self._on_error)
        self._known.update(zip(new, zip(features, seen, strict=True), strict=True))
        one, two = (np.stack([self._known[pair[side]][0] for pair in keys]) for side in (0, 1))
        found = similarity_rows(one, two, self._embed.backend.source.fusion)
        of_pairs = [(self._known[first][1], self._known[second][1]) for first, second in keys]
        for at, (first, second) in enumerate(of_pairs):
            both = [info for info in (first, second) if isinstance(info, FaceInfo)]
            if len(both) == 2 and (why := unmet(faces, both)):
                if self._on_error == "raise":
                    raise ImageError(f"pair {at}: {why}")
                of_pairs[at] = (why, why)
        return np.asarray(np.clip(found, -1, 1), np.float32), of_pairs


def pairs_of(given: Any) -> list[tuple[ImageInput, ImageInput]]:
    """Pairs of pictures as they were given. ConfigError for what is no pair, such as a path, or a pair with a label."""
    listed = []
    for number, pair in enumerate(as_list(given, "pairs", "pairs of pictures")):
        if not isinstance(pair, tuple | list):
            raise ConfigError(f"pair {number} is a {type(pair).__name__}; give two pictures, (one, other)")
        if len(pair) != 2:
            raise ConfigError(
                f"pair {number} has {plural(len(pair), 'part')}; give two pictures, (one, other), without a label"
            )
        listed.append((pair[0], pair[1]))
    return listed


def path_of(image: ImageInput) -> str | None:
    """Where a picture is, if it says so."""
    if isinstance(image, str | Path):
        return str(image)
    name = getattr(image, "filename" if isinstance(image, Image.Image) else "name", None)
    return name if isinstance(name, str) and name else None  # an open file's name may be a number


def digest_of(image: ImageInput) -> str:
    """SHA-256 of a file's bytes, or of the pixels of what has none. ImageError for what cannot be read."""
    if isinstance(image, str | Path):
        return hashlib.sha256(read_bytes(image)).hexdigest()
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    pixels = read_pixels(image)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def digests_of(images: Sequence[ImageInput], progress: bool = False) -> list[str | ImageError]:
    """`digest_of` each, or why there is none."""
    found: list[str | ImageError] = []
    with ProgressBar(len(images), "reading", "photographs", shown=progress) as bar:
        for image in images:
            try:
                found.append(digest_of(image))
            except ImageError as error:
                found.append(error)
            bar.update()
    return found


def check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size {batch_size!r:.60}: give a whole number of at least 1")
