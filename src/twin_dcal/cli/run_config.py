"""The configuration a training command runs with: preset or file, options, and what folder and machine fill in."""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_dcal.config import TwinVerificationConfig, resolve_config
from twin_dcal.presets import ON_HUB, WITHOUT_GPU

from .common import overrides_from

logger = logging.getLogger(__name__)

DATA_FOLDER = "data"
_BATCH = {"training.batch_size", "training.accumulation_steps", "training.images_per_person"}


def read_run_config(
    options: argparse.Namespace, keys: Mapping[str, str], dotted: Mapping[str, Any]
) -> TwinVerificationConfig:
    """Resolve --config, --config_file, the options that `keys` maps to configuration keys, and dotted ones.

    What nobody named is filled in, and said: the folder ./data, and a GPU preset's settings for a CPU.
    """
    name = options.config_file or options.config
    chosen = {**overrides_from(options, keys), **dotted}
    if "tracking.backend" in chosen:  # who asks for a tracker by name wants to hear that it is missing
        chosen.setdefault("tracking.required", True)
    config = resolve_config(name, chosen)
    if not (config.data.data_dir or config.data.dataset_info) and (folder := default_data_folder()):
        config = config.override({"data.data_dir": folder})
    return fit_to_cpu(name, config, chosen)


def default_data_folder() -> str | None:
    """The folder ./data, and say so; None if there is none."""
    if not Path(DATA_FOLDER).is_dir():
        return None
    logger.info("no --data_dir given: using ./%s", DATA_FOLDER)
    return DATA_FOLDER


def fit_to_cpu(
    preset: str, config: TwinVerificationConfig, chosen: Mapping[str, Any]
) -> TwinVerificationConfig:
    """Change what a preset that is made for a GPU sets otherwise on a CPU, save for what was chosen by name."""
    if preset not in WITHOUT_GPU:
        return config
    from twin_dcal.device import resolve_device  # torch
    from twin_dcal.distributed import launch

    if resolve_device(config.runtime.device).type != "cpu":
        return config
    kept = {*chosen, *(_BATCH if _BATCH & chosen.keys() or launch().world_size > 1 else ())}
    changes = {key: value for key, value in WITHOUT_GPU[preset].items() if key not in kept}
    fitted = config.override(changes)
    told = ", ".join(f"{key} {_value(config, key)} -> {value}" for key, value in changes.items())
    logger.warning(
        "no GPU is used: preset '%s' is made for one, and a CPU takes many times as long; %s",
        preset, f"changed: {told}" if told else "nothing had to be changed",
    )  # fmt: skip
    return fitted


def refuse_missing_weights(config: TwinVerificationConfig) -> None:
    """ModelError, before data are read and timm is imported, where a preset's weights cannot be had."""
    from twin_dcal.hub import may_be_cached, need_hub

    backbone = config.model.backbone
    if config.model.pretrained is True and backbone in ON_HUB and not may_be_cached(backbone):
        need_hub(backbone)


def _value(config: TwinVerificationConfig, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
