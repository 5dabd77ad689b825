"""From a configuration to batches of images."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from twin_dcal.config import TwinVerificationConfig

from .dataset import FaceDataset, ReadImage, Sample, Unreadable, VirtualFaceDataset
from .faceset import FaceData, FaceSet
from .images import read_image
from .manifest import load_face_data
from .samplers import FamilyBatchSampler, SampleKey
from .transforms import ImageTransform, eval_transform, train_transform
from .virtual import VirtualTwins


class TwinDataModule:
    """The data of one run: `setup()`, then loaders whose batches are dicts (see `Sample`).

    The same configuration gives the same batches, whatever the number of workers.

    Example:
        >>> from twin_dcal import TwinVerificationConfig
        >>> data = TwinDataModule(TwinVerificationConfig().override({"data.data_dir": "faces"}))
        >>> data
        TwinDataModule(faces, not read yet)
        >>> data.setup()
        >>> data.face_data.train
        FaceSet(8 people in 4 families (4 of twins), 48 images, 6 a person)
    """

    def __init__(self, config: TwinVerificationConfig) -> None:
        self.config = config
        self._face_data: FaceData | None = None
        self.virtual: VirtualTwins | None = None
        self.setup_transforms()

    def __repr__(self) -> str:
        data = self.config.data
        place = data.data_dir or data.dataset_info or "no data set"
        return f"TwinDataModule({place}, {'not read yet' if self._face_data is None else self._face_data.summary()})"

    def setup(self) -> None:
        """Read the data set once. ManifestError if it cannot be used."""
        if self._face_data is None:
            data = self.config.data
            self._face_data = load_face_data(data, self.config.runtime.seed)
            if data.virtual_twins != "off":
                rounds = self.config.training.cached_views or None
                self.virtual = VirtualTwins.build(self._face_data.train, data, self._view_seed, rounds)

    def setup_transforms(
        self, train: ImageTransform | None = None, evaluation: ImageTransform | None = None
    ) -> None:
        """Use transforms of your own; None is the default. Takes effect in loaders made afterwards.

        Each takes uint8 (3, H, W) and returns uint8, or float in [0, 1], of shape (3, S, S). Where workers
        are not forked (Windows, macOS, Python 3.14) it must be picklable.
        """
        data = self.config.data
        self.evaluation_transform = evaluation or eval_transform(data.image_size)
        default = (
            train_transform(
                data.image_size,
                data.horizontal_flip,
                min_crop_area=data.min_crop_area,
                color_jitter=data.color_jitter,
                erase_probability=data.erase_probability,
            )
            if data.augmentation
            else eval_transform(data.image_size)
        )
        self.train_transform = train or default

    @property
    def face_data(self) -> FaceData:
        """RuntimeError before `setup()`."""
        if self._face_data is None:
            raise RuntimeError("the data set has not been read. Call setup() first.")
        return self._face_data

    @property
    def train_faces(self) -> FaceSet:
        """What the indices of training batches count."""
        return self.virtual.faces if self.virtual else self.face_data.train

    @property
    def num_people(self) -> int:
        """People to train on: the classes of the identity loss."""
        return self.virtual.num_people if self.virtual else self.face_data.train.num_people

    @property
    def summary(self) -> str:
        return self.face_data.summary()

    def train_loader(self, rank: int = 0, world_size: int = 1) -> DataLoader[Sample]:
        """Family batches of the training set, this process's part of each; call `loader.batch_sampler.set_epoch`
        before each epoch. An image that cannot be read is replaced by another, or refused if data.strict."""
        faces, training, virtual = self.face_data.train, self.config.training, self.virtual
        seed = self.config.runtime.seed
        sampler = FamilyBatchSampler(
            virtual.person_of(0) if virtual else faces.person_of,
            virtual.family_of if virtual else faces.family_of,
            num_people=training.batch_size // training.images_per_person,
            images_per_person=training.images_per_person,
            seed=seed,
            rank=rank,
            world_size=world_size,
            person_in=virtual.person_of if virtual else None,
        )
        if virtual:
            _end_threads_of_opencv()
        return DataLoader(
            self.train_dataset(), batch_sampler=sampler, **self._worker_options(persistent=True)
        )

    def train_dataset(self) -> FaceDataset:
        """Training images, augmented, by the sampler's keys; with virtual twins edited first."""
        seed, unreadable = self._view_seed, self.train_unreadable
        if self.virtual:
            return VirtualFaceDataset(self.virtual, self.train_transform, seed, unreadable)
        return FaceDataset(self.face_data.train, self.train_transform, seed, unreadable)

    @property
    def train_unreadable(self) -> Unreadable:
        """What comes of a training image that cannot be read."""
        return "refuse" if self.config.data.strict else "replace"

    @property
    def _view_seed(self) -> int:
        """What edits and augmentation are keyed by: views that are kept serve runs of every seed."""
        return 0 if self.config.training.cached_views else self.config.runtime.seed

    def eval_loader(
        self, faces: FaceSet | Sequence[str | Path], batch_size: int | None = None, part: range | None = None,
        unreadable: Unreadable = "refuse", read: ReadImage = read_image,
    ) -> DataLoader[Sample]:  # fmt: skip
        """Every image once, in order, without augmentation.

        Args: batch_size: None is that of training. part: only the images at these places. unreadable: see `Unreadable`.
        read: what makes an image of a file that is named by its path.
        """
        seed = self.config.runtime.seed
        if isinstance(faces, FaceSet):
            dataset = FaceDataset(faces, self.evaluation_transform, seed, unreadable)
        else:
            dataset = FaceDataset.of_paths(faces, self.evaluation_transform, seed, unreadable, read)
        if read is not read_image:
            _end_threads_of_opencv()
        size = batch_size or self.config.training.batch_size
        return DataLoader(dataset, batch_size=size, sampler=part, **self._worker_options(persistent=False))

    def loader_of(self, dataset: Dataset[Any], batches: Sequence[list[SampleKey]]) -> DataLoader[Any]:
        """These batches of a data set, once."""
        return DataLoader(dataset, batch_sampler=batches, **self._worker_options(persistent=False))

    def _worker_options(self, persistent: bool) -> dict[str, Any]:
        runtime = self.config.runtime
        # Its own generator: starting an iterator would otherwise draw from the global RNG.
        generator = torch.Generator()
        generator.manual_seed(runtime.seed)
        return {
            "num_workers": runtime.num_workers,
            "multiprocessing_context": _context(runtime.num_workers),
            "persistent_workers": persistent and runtime.num_workers > 0,
            "pin_memory": runtime.device != "cpu" and torch.cuda.is_available(),
            "worker_init_fn": init_worker,
            "generator": generator,
        }


def _context(num_workers: int) -> str | None:
    """How workers start. Forked ones have the data set at once, and outlive a SIGTERM to the whole process group; from
    Python 3.14 on, Linux would start them by a server process, which that signal ends."""
    return "fork" if num_workers > 0 and sys.platform == "linux" else None


def _end_threads_of_opencv() -> None:
    """End them before workers are forked: one that uses OpenCV waits for ever for threads that stay behind here, even
    where it sets their number to one."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


def init_worker(worker: int) -> None:
    """One thread per worker, and no death by the signals that ask the training process to stop and save.

    Ctrl-C is ignored, and so is SIGTERM unless the training process itself sent it, to end workers left over
    at exit: schedulers send both to the whole process group. Where the sender cannot be known (macOS,
    Windows) SIGTERM ends the worker.
    """
    torch.set_num_threads(1)
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # should a worker be the first to import it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_when_parent_says, daemon=True).start()


def _exit_when_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
