"""Images of a face set, each augmented from a seed of its own, whoever loads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .faceset import FaceSet
from .images import read_image
from .samplers import SampleKey
from .transforms import ImageTransform
from .virtual import VirtualTwins


class Sample(TypedDict):
    """One image; a DataLoader makes it a dict of tensors with a batch axis in front."""

    image: Tensor
    """(3, S, S), uint8, or float in [0, 1] from a transform of the user's."""
    person: int
    """Index into the face set's people, -1 if unknown."""
    family: int
    """Family of the person, -1 if unknown."""
    index: int
    """Index into the face set's paths."""


class FaceDataset(Dataset[Sample]):
    """Images of a `FaceSet`, by index or by the sampler's keys.

    A random transform must draw from torch's global CPU RNG: it is seeded from (seed, epoch, batch, slot) for
    each sample and put back afterwards, so samples do not depend on workers and the caller's randomness is
    untouched.
    """

    def __init__(self, face_set: FaceSet, transform: ImageTransform, seed: int) -> None:
        self._set(face_set.paths, face_set.person_of, face_set.image_families, transform, seed)

    @classmethod
    def of_paths(cls, paths: Sequence[str | Path], transform: ImageTransform, seed: int = 0) -> Self:
        """Images of unknown people: `person` and `family` are -1."""
        dataset = cls.__new__(cls)
        unknown = np.full(len(paths), -1, dtype=np.int64)
        dataset._set(tuple(Path(path) for path in paths), unknown, unknown, transform, seed)
        return dataset

    def _set(
        self,
        paths: tuple[Path, ...],
        person_of: np.ndarray,
        image_families: np.ndarray,
        transform: ImageTransform,
        seed: int,
    ) -> None:
        self.paths, self._person_of, self._image_families = paths, person_of, image_families
        self._transform, self._seed = transform, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """A plain index is taken as epoch 0, batch 0, slot index. ImageError if the file cannot be read."""
        if not isinstance(key, SampleKey):
            key = SampleKey(int(key), epoch=0, batch=0, slot=int(key))
        path = self.paths[key.index]
        image_CHW = self._read(key)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also reseed the GPUs.
            torch.default_generator.manual_seed(augmentation_seed(self._seed, key))
            image_CSS = self._transform(image_CHW)
        _check_transformed(image_CSS, path)
        person, family = self.labels(key)
        return Sample(image=image_CSS, person=person, family=family, index=key.index)

    def _read(self, key: SampleKey) -> Tensor:
        return read_image(self.paths[key.index])

    def labels(self, key: SampleKey) -> tuple[int, int]:
        """Person and family of a sample."""
        return int(self._person_of[key.index]), int(self._image_families[key.index])


class VirtualFaceDataset(FaceDataset):
    """Training photographs as virtual twins: edited by the epoch, then augmented like any others."""

    def __init__(self, twins: VirtualTwins, transform: ImageTransform, seed: int) -> None:
        super().__init__(twins.faces, transform, seed)
        self._twins = twins

    def _read(self, key: SampleKey) -> Tensor:
        return self._twins.edited(super()._read(key), key.index, key.epoch)

    def labels(self, key: SampleKey) -> tuple[int, int]:
        return int(self._twins.person_of(key.epoch)[key.index]), int(self._image_families[key.index])


def augmentation_seed(seed: int, key: SampleKey) -> int:
    """64 bits mixed from the run's seed and the sample's place in the run."""
    sequence = np.random.SeedSequence((seed, key.epoch, key.batch, key.slot))
    return int(sequence.generate_state(1, np.uint64)[0])


def _check_transformed(image: Tensor, path: Path) -> None:
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{path}: the transform gave a {type(image).__name__}. Return a tensor of shape (3, S, S)."
        )
    if (
        image.ndim != 3
        or image.shape[0] != 3
        or not (image.dtype == torch.uint8 or image.is_floating_point())
    ):
        raise TypeError(
            f"{path}: the transform gave {image.dtype} of shape {tuple(image.shape)}. "
            "Return uint8, or float in [0, 1], of shape (3, S, S)."
        )
