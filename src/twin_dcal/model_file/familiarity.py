"""How far a picture is from those a model was trained on, by what it looks like before the network sees it.

The network's own features do not tell: a small one trained on drawn faces puts photographs among them, and one trained
on photographs does the same with drawn faces. Sharpness, texture, noise and colours of the crop do tell
(`benchmarks/familiarity.py`, docs/inference.md). numpy and Pillow only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.data.decode import decode_pixels, read_bytes
from twin_dcal.data.fit import fit
from twin_dcal.errors import ImageError
from twin_dcal.image_size import ImageSize
from twin_dcal.percent import percent
from twin_dcal.plural import plural

Floats = NDArray[np.float64]

LIMIT = 0.99
"""Share of validation pictures that a picture must be further than, to be warned about."""
MAX_IMAGES = 2000
"""Pictures that are looked at, evenly from all, on either side."""
MIN_IMAGES = 20
"""Fewer than this on either side say nothing."""
UNLIKE = "it looks unlike the pictures the model was trained on"
"""How a warning about one picture begins."""

_LARGE, _SMALL = (112, 8), (64, 4)  # pixels a side at which pictures are compared, and between blocks of them
_BLOCK = 8
_BANDS = ((1, 3), (3, 6), (6, 10), (10, 15))  # of the sum of both frequencies of a coefficient
_LEVELS = (*(step / 100 for step in range(100)), 0.995, 0.999, 1.0)
_NOTHING = 1e-7
_MANY, _TIMES = (
    0.05,
    5,
)  # a set is warned about from this share beyond the limit, and so many times the expected one


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What training pictures look like, and how far validation pictures are from them.

    mean, deviation (D,): of the statistics of training pictures (`looks`). whitening (D, D): takes standardized
    statistics to uncorrelated ones. levels, distances (L,): share of validation pictures that are at most so far.
    num_train, num_validation: pictures behind it. data: in words.
    """

    mean: Floats
    deviation: Floats
    whitening: Floats
    levels: Floats
    distances: Floats
    num_train: int
    num_validation: int
    data: str

    @classmethod
    def of(cls, train_ND: ArrayLike, validation_MD: ArrayLike, data: str) -> Self | None:
        """From statistics of pictures; None where either are fewer than MIN_IMAGES.

        The correlations are shrunk towards none, the more the fewer pictures there are.
        """
        train, validation = (np.asarray(values, np.float64) for values in (train_ND, validation_MD))
        if min(len(train), len(validation)) < MIN_IMAGES:
            return None
        mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-3)
        size = train.shape[1]
        standard = (train - mean) / deviation
        shrinkage = float(np.clip(size / (10 * len(train)), 1e-3, 1))
        correlations = (1 - shrinkage) * standard.T @ standard / len(train) + shrinkage * np.eye(size)
        whitening = np.linalg.cholesky(np.linalg.inv(correlations))
        mean, deviation, whitening = (_rounded(values) for values in (mean, deviation, whitening))
        nothing = np.zeros(1)
        made = cls(mean, deviation, whitening, nothing, nothing, len(train), len(validation), data)
        levels = np.array(_LEVELS)
        # Of M pictures the one at place ceil(level (M + 1)): as many of new ones are beyond it as is promised.
        at = np.ceil(levels * (len(validation) + 1)).astype(int).clip(1, len(validation)) - 1
        distances = np.sort(made.distance(validation))[at]
        return replace(made, levels=levels, distances=_rounded(distances))

    @property
    def limit(self) -> float:
        """The distance beyond which a picture is warned about."""
        return float(self.distances[int(np.searchsorted(self.levels, LIMIT))])

    def distance(self, looks_ND: ArrayLike) -> Floats:
        """(N,) root mean square of the whitened statistics: about 1 for a training picture."""
        standard = (np.asarray(looks_ND, np.float64) - self.mean) / self.deviation
        return np.asarray(np.sqrt(((standard @ self.whitening) ** 2).mean(axis=1)))

    def judged(self, pixels_SSC: NDArray[np.uint8]) -> dict[str, Any]:
        """A picture as the network sees it, (S, S, 3): its `distance`, the `limit`, the `share` of validation pictures
        that are less far, and whether it is `beyond` the limit."""
        distance = float(self.distance(looks(pixels_SSC)[None])[0])
        share = float(np.interp(distance, self.distances, self.levels, left=0.0, right=1.0))
        return {
            "distance": round(distance, 4), "limit": round(self.limit, 4), "share": round(share, 4),
            "beyond": distance > self.limit,
        }  # fmt: skip

    def told(self) -> str:
        """A warning about a picture that was judged beyond the limit."""
        return (
            f"{UNLIKE} (sharpness, texture, colours): further from them than {percent(LIMIT)} of "
            f"{self.num_validation:,} validation pictures; error rates measured on those say little about it"
        )

    def many_unlike_warning(self, looks_ND: ArrayLike) -> tuple[str, ...]:
        """A warning where clearly more of these pictures are beyond the limit than of validation pictures."""
        beyond = self.distance(looks_ND) > self.limit
        # Of M validation pictures the limit is one, so that 1 in M + 1 new ones may be beyond it, however few they are.
        if not beyond.size or beyond.mean() <= max(_MANY, _TIMES / (self.num_validation + 1)):
            return ()
        return (
            f"{percent(float(beyond.mean()))} of {plural(beyond.size, 'picture')} looked at are unlike those the model "
            f"was trained on (sharpness, texture, colours): further from them than {percent(LIMIT)} of its "
            "validation pictures",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the checkpoint."""
        return {
            "mean": self.mean.tolist(), "deviation": self.deviation.tolist(), "whitening": self.whitening.tolist(),
            "levels": self.levels.tolist(), "distances": self.distances.tolist(), "num_train": self.num_train,
            "num_validation": self.num_validation, "data": self.data,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, for values that `entries` has checked."""
        names = ("mean", "deviation", "whitening", "levels", "distances")
        mean, deviation, whitening, levels, distances = (
            np.asarray(values[name], np.float64) for name in names
        )
        return cls(
            mean, deviation, whitening, levels, distances, int(values["num_train"]), int(values["num_validation"]),
            str(values["data"]),
        )  # fmt: skip


def familiarity_of(
    train: Sequence[Path | str], validation: Sequence[Path | str], image_size: ImageSize, data: str
) -> Familiarity | None:
    """Of image files, cut and resized as a network of this input size takes them; None where too few can be read."""
    return Familiarity.of(looks_of_files(train, image_size), looks_of_files(validation, image_size), data)


def looks_of_files(
    paths: Sequence[Path | str], image_size: ImageSize, most: int = MAX_IMAGES,
    prepare: Callable[[str], NDArray[np.uint8]] | None = None,
) -> Floats:  # fmt: skip
    """(N, D) statistics of at most so many files, evenly chosen; those that cannot be read are left out.

    Args: prepare: a file as the network takes it; None takes its central part.
    """
    rows = []
    for path in paths[:: max(1, -(-len(paths) // most))]:
        try:
            pixels = prepare(str(path)) if prepare else fit(decode_pixels(read_bytes(path), path), image_size)
            rows.append(looks(pixels))
        except ImageError:
            continue
    return np.array(rows).reshape(len(rows), NUM_LOOKS)


def looks(pixels_SSC: NDArray[np.uint8]) -> Floats:
    """(D,) statistics of a picture, (S, S, 3) uint8, at 112 pixels a side, or 64 where it is smaller than 112.

    Of brightness: mean, contrast, energy at each pair of frequencies of 8 x 8 blocks, and for four
    bands of them how much it is gathered in few blocks, which sets drawn surfaces and noise apart from skin. Of two
    colour differences: mean, spread and energy of the bands. Energies are logarithms.
    """
    side, stride = _LARGE if min(pixels_SSC.shape[:2]) >= _LARGE[0] else _SMALL
    red, green, blue = np.moveaxis(fit(pixels_SSC, side).astype(np.float64) / 255, 2, 0)
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    blocks = _frequencies(bright, stride)
    energy = (blocks**2).mean(axis=0)
    told = [[bright.mean(), np.log(bright.std() + 1e-3)], np.log(energy[1:] + _NOTHING)]
    told += [_gathered(blocks[:, band]) for band in _IN_BAND]
    for colour in (blue - 0.5 * (red + green), red - 0.5 * (green + blue)):
        energy = (_frequencies(colour, stride) ** 2).mean(axis=0)
        told.append([colour.mean(), np.log(colour.std() + 1e-3)])
        told.append(np.log(np.array([energy[band].mean() for band in _IN_BAND]) + _NOTHING))
    return np.concatenate(told)


def _gathered(values_BF: Floats) -> Floats:
    """Two measures of how unevenly energy is spread over blocks, for all frequencies of a band together."""
    even = values_BF / np.sqrt((values_BF**2).mean(axis=0) + 1e-9)
    return np.log([(even**4).mean() + _NOTHING, np.abs(even).mean() + _NOTHING])


def _frequencies(plane_SS: Floats, stride: int) -> Floats:
    """(blocks, 64) cosine transforms of blocks."""
    views = np.lib.stride_tricks.sliding_window_view(plane_SS, (_BLOCK, _BLOCK))[::stride, ::stride]
    return np.asarray(views.reshape(-1, _BLOCK * _BLOCK) @ _COSINES)


def _cosines() -> Floats:
    """(64, 64): pixels of a block to its frequencies, orthonormal."""
    at = np.arange(_BLOCK)
    one = np.cos(np.pi * (2 * at[None] + 1) * at[:, None] / (2 * _BLOCK)) * np.sqrt(2 / _BLOCK)
    one[0] /= np.sqrt(2)
    return np.asarray(np.kron(one, one).T)


def _rounded(values: Floats) -> Floats:
    """Seven digits are plenty, and keep model files small."""
    return np.array([float(f"{value:.7g}") for value in values.ravel()]).reshape(values.shape)


_COSINES = _cosines()
_IN_BAND = [
    np.array([low <= i + j < high for i in range(_BLOCK) for j in range(_BLOCK)]) for low, high in _BANDS
]
NUM_LOOKS = 2 + _BLOCK**2 - 1 + 2 * len(_BANDS) + 2 * (2 + len(_BANDS))
"""D."""
