"""Images of a face set, each augmented from a seed of its own, whoever loads it.

Only decoding proves that a file is sound, and it comes last: while a batch is loaded. What is done then about a file
that cannot be read depends on that file and the sample's key alone, so a resumed run does the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from twin_dcal.errors import ImageError
from twin_dcal.plural import plural

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
    asked: int
    """Index of the image that was asked for: another one if that could not be read and was replaced."""
    fault: str
    """Why the image that was asked for could not be read, in one line with its path; empty if it was."""


ReadImage = Callable[[Path], Tensor]
"""A file as an image before augmentation, uint8 (3, H, W). ImageError for one that cannot be used."""
Unreadable = Literal["refuse", "replace", "blank"]
"""What comes of an image that cannot be read: an ImageError; another image, of the same person if one of theirs can be
read; or grey, for callers that leave it out by its `fault`."""


class FaceDataset(Dataset[Sample]):
    """Images of a `FaceSet`, by index or by the sampler's keys.

    A random transform must draw from torch's global CPU RNG: it is seeded from (seed, epoch, batch, slot) for
    each sample and put back afterwards, so samples do not depend on workers and the caller's randomness is
    untouched.
    """

    def __init__(
        self, face_set: FaceSet, transform: ImageTransform, seed: int, unreadable: Unreadable = "refuse"
    ) -> None:
        people, families = face_set.person_of, face_set.image_families
        self._set(face_set.paths, people, families, transform, seed, unreadable, read_image)

    @classmethod
    def of_paths(
        cls, paths: Sequence[str | Path], transform: ImageTransform, seed: int = 0,
        unreadable: Unreadable = "refuse", read: ReadImage = read_image,
    ) -> Self:  # fmt: skip
        """Images of unknown people: `person` and `family` are -1. Args: read: what makes an image of a file."""
        dataset = cls.__new__(cls)
        unknown = np.full(len(paths), -1, dtype=np.int64)
        dataset._set(tuple(Path(path) for path in paths), unknown, unknown, transform, seed, unreadable, read)
        return dataset

    def _set(
        self,
        paths: tuple[Path, ...],
        person_of: np.ndarray,
        image_families: np.ndarray,
        transform: ImageTransform,
        seed: int,
        unreadable: Unreadable,
        read: ReadImage,
    ) -> None:
        self._read_file = read
        self.paths, self._person_of, self._image_families = paths, person_of, image_families
        self._transform, self._seed, self._unreadable = transform, seed, unreadable

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """A plain index is taken as epoch 0, batch 0, slot index. ImageError if no file can be read that may stand
        for it."""
        if not isinstance(key, SampleKey):
            key = SampleKey(int(key), epoch=0, batch=0, slot=int(key))
        index, image_CHW, fault = self._read(key)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also reseed the GPUs.
            torch.default_generator.manual_seed(augmentation_seed(self._seed, key))
            image_CSS = self._transform(image_CHW)
        _check_transformed(image_CSS, self.paths[index])
        person, family = self.labels(replace(key, index=index))
        return Sample(
            image=image_CSS, person=person, family=family, index=index, asked=key.index, fault=fault
        )

    def _people(self, epoch: int) -> np.ndarray:
        """(N,) person of each image in an epoch."""
        return self._person_of

    def labels(self, key: SampleKey) -> tuple[int, int]:
        """Person and family of a sample."""
        return int(self._people(key.epoch)[key.index]), int(self._image_families[key.index])

    def _picture(self, index: int, epoch: int) -> Tensor:
        """An image before augmentation, uint8 (3, H, W). ImageError if its file cannot be read."""
        return self._read_file(self.paths[index])

    def _read(self, key: SampleKey) -> tuple[int, Tensor, str]:
        """Index and pixels (3, H, W) of the image that stands for the key, and the fault of its own, if any."""
        first_error: ImageError | None = None
        for index in self._candidates(key):
            try:
                return index, self._picture(index, key.epoch), str(first_error or "")
            except ImageError as error:
                first_error = first_error or error
                if self._unreadable == "refuse":
                    raise
        assert first_error is not None
        if self._unreadable == "blank":
            return key.index, _GREY.clone(), str(first_error)
        raise ImageError(f"0 of {plural(len(self.paths), 'image')} can be read. {first_error}")

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """The image itself, and to replace it all others in an order of the key's own, the same person's first."""
        yield key.index
        if self._unreadable != "replace":
            return
        rng = np.random.default_rng((self._seed, key.epoch, key.batch, key.slot, _REPLACING))
        people = self._people(key.epoch)
        is_own = people == people[key.index]
        is_other = ~is_own
        is_own[key.index] = False
        yield from rng.permutation(np.flatnonzero(is_own)).tolist()
        yield from rng.permutation(np.flatnonzero(is_other)).tolist()


class VirtualFaceDataset(FaceDataset):
    """Training photographs as virtual twins: edited by the epoch, then augmented like any others."""

    def __init__(
        self, twins: VirtualTwins, transform: ImageTransform, seed: int, unreadable: Unreadable = "refuse"
    ) -> None:
        super().__init__(twins.faces, transform, seed, unreadable)
        self._twins = twins

    def _picture(self, index: int, epoch: int) -> Tensor:
        return self._twins.edited(super()._picture(index, epoch), index, epoch)

    def _people(self, epoch: int) -> np.ndarray:
        return self._twins.person_of(epoch)


_GREY = torch.full((3, 64, 64), 128, dtype=torch.uint8)
_REPLACING = 1
"""Tells these random numbers from those of augmentation."""


def batch_faults(batch: Mapping[str, Any]) -> dict[int, str]:
    """Of a loader's batch, the images that could not be read: index and reason."""
    return {
        index: fault for index, fault in zip(batch["asked"].tolist(), batch["fault"], strict=True) if fault
    }


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
