"""What the frozen part of a face network makes of the training images, computed once and kept in a file.

Stages that never change give the same maps every epoch. Each image is passed through them in a fixed number of
augmented views; training then reads a random view's maps, and runs only what comes after.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from twin_dcal import distributed
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.dataset import FaceDataset, augmentation_seed, batch_faults
from twin_dcal.data.fit import sides
from twin_dcal.data.samplers import SampleKey
from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder, owner_only, write_text
from twin_dcal.image_size import ImageSize
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.preprocessing import Preprocessing
from twin_dcal.plural import plural
from twin_dcal.progress import track

logger = logging.getLogger(__name__)

FOLDER = "frozen_features"
"""Beside a run's checkpoints."""


class KeptDataset(Dataset[dict[str, Tensor | int | str]]):
    """Frozen features of training images, by the sampler's keys: a random one of the kept views for each sample.

    Virtual twins have one edit for each view, so that all samples of an epoch are of one view, in turn. Like
    `FaceDataset`, but "image" is absent and "frozen_0", "frozen_1", … are a backbone's frozen outputs, float16.
    """

    def __init__(
        self, files: Sequence[Path], images: FaceDataset, num_views: int, seed: int, replaced: "Replaced", *,
        in_turn: bool,
    ) -> None:  # fmt: skip
        self._arrays = [np.load(file, mmap_mode="r") for file in files]
        self._images, self._num_images, self._num_views, self._seed = images, len(images), num_views, seed
        self._replaced, self._in_turn = replaced, in_turn

    def __len__(self) -> int:
        return self._num_images

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor | int | str]:
        if self._in_turn:
            view = key.epoch % self._num_views
        else:
            view = int(np.random.default_rng(augmentation_seed(self._seed, key)).integers(self._num_views))
        place = view * self._num_images + key.index
        sample: dict[str, Tensor | int | str] = {
            f"frozen_{number}": torch.from_numpy(np.array(array[place]))
            for number, array in enumerate(self._arrays)
        }
        index = self._replaced.by_place.get(place, key.index)
        person, family = self._images.labels(replace(key, index=index))
        fault = self._replaced.faults.get(key.index, "")
        return sample | {
            "person": person, "family": family, "index": index, "asked": key.index, "fault": fault,
        }  # fmt: skip


class Replaced(NamedTuple):
    """Images that could not be read: the index of the one whose features stand at a place, and why, by their index."""

    by_place: dict[int, int]
    faults: dict[int, str]


def kept_features(
    model: DCALVerificationModel, data: TwinDataModule, preprocessing: Preprocessing, config: TwinVerificationConfig,
    folder: Path,
) -> KeptDataset:  # fmt: skip
    """The frozen features of the training images, from the file of an earlier run or computed now.

    Args: model: on its device; its frozen stages must not change any more. folder: where files are kept; they are named
    by what they depend on: weights, images, geometry, augmentation. ConfigError for a backbone without frozen stages,
    and for several processes.
    """
    if not model.backbone.num_frozen:
        raise ConfigError("training.cached_views keeps what frozen stages give: set model.frozen_stride too")
    if distributed.world_size() > 1:
        raise ConfigError("training.cached_views is for one process; leave it at 0 with several")
    outputs = _shapes(model, config.data.image_size)
    key = _key(model, data, config)
    files = [folder / f"{key}_{number}.npy" for number in range(len(outputs))]
    about = folder / f"{key}_replaced.json"
    if not all(file.is_file() for file in [*files, about]):
        _compute(model, data, preprocessing, config, files, about, outputs)
    else:
        logger.info("frozen features: %s, from an earlier run", files[0].parent)
    told = ({int(key): value for key, value in part.items()} for part in json.loads(about.read_text("utf-8")))
    return KeptDataset(
        files, data.train_dataset(), config.training.cached_views, config.runtime.seed, Replaced(*told),
        in_turn=data.virtual is not None,
    )  # fmt: skip


def _make_room(folder: Path, num_bytes: int, num_views: int) -> None:
    """The folder of kept features. ConfigError where it cannot be one, or has not the room for so many bytes."""
    place = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
    if not place.is_dir():
        raise ConfigError(f"runtime.cache_dir {folder}: {place} is a file; name a folder")
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise ConfigError(
            f"training.cached_views {num_views}: their features take {num_bytes / 1e9:,.2f} GB, and {folder} has "
            f"{free / 1e9:,.2f} GB free. Keep fewer views, or name another runtime.cache_dir"
        )
    make_folder(folder)


def _shapes(model: DCALVerificationModel, image_size: ImageSize) -> list[tuple[int, ...]]:
    device = next(model.parameters()).device
    with torch.no_grad():
        outputs = model.backbone.frozen(torch.zeros(1, 3, *sides(image_size), device=device))
    return [tuple(output.shape[1:]) for output in outputs]


def _compute(
    model: DCALVerificationModel, data: TwinDataModule, preprocessing: Preprocessing, config: TwinVerificationConfig,
    files: Sequence[Path], about: Path, outputs: Sequence[tuple[int, ...]],
) -> None:  # fmt: skip
    faces, num_views = data.train_faces, config.training.cached_views
    total = faces.num_images * num_views
    num_bytes = 2 * total * sum(int(np.prod(shape)) for shape in outputs)
    logger.info(
        "frozen features: %s of %s, %.2f GB",
        plural(num_views, "view"),
        plural(faces.num_images, "image"),
        num_bytes / 1e9,
    )
    _make_room(files[0].parent, num_bytes, num_views)
    begun = [file.with_suffix(".part") for file in files]
    with owner_only():
        arrays = [
            np.lib.format.open_memmap(file, "w+", np.float16, (total, *shape))
            for file, shape in zip(begun, outputs, strict=True)
        ]
    replaced = Replaced({}, {})
    loader = data.loader_of(
        data.train_dataset(), list(_batches_of_keys(faces.num_images, num_views, config.training.batch_size))
    )
    device, start = next(model.parameters()).device, 0
    for batch in track(loader, "frozen features", "batches"):
        with torch.no_grad():
            frozen = model.backbone.frozen(preprocessing.normalize(batch["image"].to(device)))
        for array, output in zip(arrays, frozen, strict=True):
            array[start : start + len(output)] = output.half().cpu().numpy()
        for place, (asked, index) in enumerate(
            zip(batch["asked"].tolist(), batch["index"].tolist(), strict=True), start
        ):
            if asked != index:
                replaced.by_place[place] = index
        replaced.faults.update(batch_faults(batch))
        start += len(batch["index"])
    for array, part, file in zip(arrays, begun, files, strict=True):
        array.flush()
        part.replace(file)
    write_text(about, json.dumps(replaced))


def _batches_of_keys(num_images: int, num_views: int, batch_size: int) -> Iterator[list[SampleKey]]:
    """View after view, images in their order; a view is augmented as an epoch of its own."""
    keys = [SampleKey(index, view, 0, index) for view in range(num_views) for index in range(num_images)]
    for start in range(0, len(keys), batch_size):
        yield keys[start : start + batch_size]


def _key(model: DCALVerificationModel, data: TwinDataModule, config: TwinVerificationConfig) -> str:
    """24 hexadecimal digits of everything that the features depend on."""
    digest = hashlib.sha256()
    backbone = model.backbone
    for name, value in backbone.state_dict().items():
        part = name.split(".")
        if part[:2] == ["network", "stages"] and int(part[2]) >= backbone.num_frozen:
            continue
        if part[0] in ("network", "rows", "columns"):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    faces = data.train_faces
    files = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in faces.paths]
    told = [files, config.data.model_dump(mode="json"), config.training.cached_views]
    told += [list(config.model.feature_strides), backbone.num_frozen, repr(data.train_transform)]
    digest.update(json.dumps(told).encode())
    return digest.hexdigest()[:24]
