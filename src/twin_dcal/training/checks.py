"""What is refused before a run starts."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twin_dcal import distributed
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.faceset import FaceData, FaceSet
from twin_dcal.data.findings import first_few
from twin_dcal.data.fingerprint import changes, fingerprint
from twin_dcal.device import amp_dtype
from twin_dcal.errors import ConfigError, ManifestError, ModelError
from twin_dcal.plural import plural

from .state import MAY_CHANGE

logger = logging.getLogger(__name__)


def check_processes(config: TwinVerificationConfig, device: torch.device) -> None:
    """ConfigError for a run that cannot be shared by this many processes. Warns of a warm-up that never ends."""
    size, training = distributed.world_size(), config.training
    if 0 < training.num_epochs <= training.warmup_epochs:
        logger.warning(
            "training (%s) ends within its warm-up (%g): the learning rate only rises, below its peak. "
            "Training goes on like this; set training.warmup_epochs lower to reach it",
            plural(training.num_epochs, "epoch"), training.warmup_epochs,
        )  # fmt: skip
    people = training.batch_size // training.images_per_person
    if size > 1 and people < 2 * size:
        raise ConfigError(
            f"training.batch_size {training.batch_size} holds {plural(people, 'person', 'people')}; {size} "
            "processes need 2 each: use "
            f"at least {2 * size * training.images_per_person}, or fewer processes"
        )
    if size > 1 and config.runtime.strategy == "fsdp" and amp_dtype(config.runtime, device) == torch.float16:
        raise ConfigError("runtime.strategy 'fsdp' does not work with fp16; set runtime.amp to bf16 or off")


def check_validation(faces: FaceSet) -> None:
    """ManifestError for validation people of whom no genuine or no impostor pair can be made."""
    if faces.num_images and (faces.num_people < 2 or faces.images_per_person.most < 2):
        raise ManifestError(
            f"validation needs 2 people, one of them with 2 images; it has {faces.num_people} with "
            f"{faces.images_per_person.most} at most. Give it more, or none at all."
        )


def check_sameness(config: TwinVerificationConfig, data: FaceData) -> None:
    """ConfigError in every process if one has another configuration or data set than rank 0."""
    if distributed.world_size() == 1:
        return
    told = json.dumps([
        {f"{section}.{name}": value for section, values in config.model_dump(mode="json").items()
         for name, value in values.items() if f"{section}.{name}" not in MAY_CHANGE},
        [[fingerprint(faces), faces.family_of.tolist()] for faces in (data.train, data.val)],
    ])  # fmt: skip
    digests = distributed.gather_objects(hashlib.sha256(told.encode()).hexdigest())
    other = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
    if other:
        raise ConfigError(
            f"rank {', '.join(other)} has another configuration or other people and images than rank 0; give every "
            "node the same options and the same data set"
        )


def data_summary(data: FaceData) -> dict[str, Any]:
    """What a checkpoint says of the images it was trained and validated on."""
    return {name: fingerprint(getattr(data, name)) for name in _USED}


def check_data(state: Mapping[str, Any], data: FaceData, path: Path, strict: bool) -> None:
    """Warn of images that are not those of a checkpoint, which `path` held; ManifestError instead when `strict`.

    ModelError for other people to train on.
    """
    if state["people"] != list(data.train.people):
        raise ModelError(
            f"{path}: was trained on {plural(len(state['people']), 'person', 'people')}, not the "
            f"{data.train.num_people} of this "
            "data set; pass the run's split.json as data.split_file"
        )
    told = state.get("data")
    if told is None:
        logger.warning("%s: written by an earlier release, it does not say which images it knows", path)
        return
    found = {name: changes(told[name], getattr(data, name)) for name in _USED}
    parts = [f"{_USED[name]}: {first_few(phrases)}" for name, phrases in found.items() if phrases]
    if not parts:
        return
    message = f"{path}: the images are not those it was trained with. {'; '.join(parts)}"
    if strict:
        raise ManifestError(
            f"{message}. Restore them, or leave out --strict (data.strict) to go on with these."
        )
    logger.warning("%s. The run goes on with these, but not to the same bits", message)


_USED = {"train": "training people", "val": "validation people"}
