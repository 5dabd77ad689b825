"""Virtual twins: every training person as two, made while training by editing photographs (`edits`).

A person's photographs are dealt to two selves, and each self is edited in a way of its own, the same in all its
photographs. Both stay in one family, so that batches hold the two side by side, as they do twins.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from twin_dcal.config import DataConfig
from twin_dcal.edits.dealing import deal
from twin_dcal.edits.face import Camera
from twin_dcal.edits.identity import Edit, draw_edit
from twin_dcal.edits.landmarks import Kept, copies_among, kept_landmarks
from twin_dcal.edits.looking import Limits, camera_of
from twin_dcal.edits.warp import apply_edit
from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

from .faceset import FaceSet

logger = logging.getLogger(__name__)

SELVES = 2


@dataclass(frozen=True, eq=False)
class VirtualTwins:
    """Training faces with two selves of each person; person p's are 2p and 2p + 1."""

    faces: FaceSet
    """Photographs whose faces can be edited; the others are left out of training."""
    cameras: tuple[Camera, ...]
    """(N,) where the face lies in each."""
    copies: tuple[tuple[tuple[int, ...], ...], ...]
    """(P,) groups of each person's photographs that are one picture, counted from the person's first."""
    seed: int
    fresh: bool
    """New edits and a new deal each epoch; otherwise those of epoch 0 for ever."""
    strength: float
    rounds: int | None = None
    """After so many epochs of fresh edits they come again; None never repeats."""

    @classmethod
    def build(cls, faces: FaceSet, data: DataConfig, seed: int, rounds: int | None = None) -> Self:
        """Find landmarks, or read those found before. ManifestError where no two photographs can be edited."""
        kept = kept_landmarks(faces.paths, _folder_of(data))
        looks = [camera_of(each.found, Limits()) for each in kept]
        usable = [at for at, camera in enumerate(looks) if isinstance(camera, Camera)]
        reasons = Counter(camera for camera in looks if isinstance(camera, str))
        if reasons:
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            logger.info(
                "virtual twins: %s: %s",
                plural(reasons.total(), "photograph cannot be edited and is left out",
                       "photographs cannot be edited and are left out"),
                told,
            )  # fmt: skip
        if len(usable) < SELVES:
            raise ManifestError(
                "data.virtual_twins: no faces that can be edited are in the training photographs"
            )
        chosen = _some(faces, usable)
        copies = _copies_by_person(chosen, [kept[at] for at in usable])
        cameras = tuple(camera for camera in looks if isinstance(camera, Camera))
        return cls(
            chosen, cameras, copies, seed, data.virtual_twins == "fresh", data.virtual_strength, rounds
        )

    @property
    def num_people(self) -> int:
        return SELVES * self.faces.num_people

    @property
    def family_of(self) -> np.ndarray:
        """(2P,) the two selves of a person, and of that person's twins, are one family."""
        return np.repeat(self.faces.family_of, SELVES)

    def person_of(self, epoch: int) -> np.ndarray:
        """(N,) whose each photograph is in an epoch, 0 to 2P - 1."""
        return _people(self, self._round(epoch))

    def edited(self, image_CHW: Tensor, index: int, epoch: int) -> Tensor:
        """A photograph as its self of the epoch looks: uint8 (3, H, W) to the same."""
        person, half = divmod(int(self.person_of(epoch)[index]), SELVES)
        pixels = image_CHW.permute(1, 2, 0).numpy()
        edited = apply_edit(
            np.ascontiguousarray(pixels), self.cameras[index], self.edit_of(person, half, epoch)
        )
        return torch.from_numpy(edited).permute(2, 0, 1)

    def _round(self, epoch: int) -> int:
        """What edits and deals of an epoch are keyed by."""
        if not self.fresh:
            return 0
        return epoch if self.rounds is None else epoch % self.rounds

    def edit_of(self, person: int, half: int, epoch: int) -> Edit:
        """What makes a self of a person in an epoch."""
        key = self.seed, self.faces.people[person], half, self._round(epoch)
        return draw_edit(*key).scaled(self.strength)


@lru_cache(maxsize=2)
def _people(twins: VirtualTwins, epoch: int) -> np.ndarray:
    people = np.empty(twins.faces.num_images, np.int64)
    starts = np.searchsorted(twins.faces.person_of, np.arange(twins.faces.num_people + 1))
    for person, name in enumerate(twins.faces.people):
        first, end = int(starts[person]), int(starts[person + 1])
        hands = deal(end - first, twins.copies[person], SELVES, twins.seed, name, epoch)
        for half, hand in enumerate(sorted(hands, key=lambda hand: not hand)):
            people[[first + at for at in hand]] = SELVES * person + half
    return people


def _some(faces: FaceSet, indices: Sequence[int]) -> FaceSet:
    """The same people with these images; nobody is left out, not even who has none."""
    images: dict[str, list[Path]] = {person: [] for person in faces.people}
    for at in indices:
        images[faces.people[int(faces.person_of[at])]].append(faces.paths[at])
    return FaceSet.build(images, dict(zip(faces.people, faces.family_of.tolist(), strict=True)))


def _copies_by_person(faces: FaceSet, kept: Sequence[Kept]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    starts = np.searchsorted(faces.person_of, np.arange(faces.num_people + 1)).tolist()
    spans = [slice(first, end) for first, end in pairwise(starts)]
    return tuple(
        tuple(tuple(group) for group in copies_among(faces.paths[span], kept[span])) for span in spans
    )


def _folder_of(data: DataConfig) -> Path:
    """Where a data set lies, and its landmarks are kept."""
    given = data.data_dir or data.data_root or (Path(data.dataset_info).parent if data.dataset_info else ".")
    return Path(given).expanduser()
