"""What trackers that send figures elsewhere have in common."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError
from twin_dcal.files import write_text
from twin_dcal.jsontext import parse_json

MLFLOW_NOTE, WANDB_NOTE = "mlflow.json", "wandb.json"
"""Notes in a run's folder by which a resumed training, or an evaluation, finds the run."""

_PLACES = {
    "model": ("pretrained",), "data": ("data_dir", "dataset_info", "twin_pairs", "data_root", "split_file"),
    "runtime": ("output_dir",), "tracking": ("mlflow_uri",),
}  # fmt: skip


def is_installed(name: str) -> bool:
    return find_spec(name) is not None


def need_package(name: str) -> None:
    """ConfigError naming the extra, if a tracker's package is not installed."""
    if not is_installed(name):
        raise ConfigError(
            f"--tracking {name}: {name} is not installed; pip install 'twin-dcal[{name}]', or use --tracking none"
        )


def settings_to_send(config: TwinVerificationConfig, *, is_local: bool) -> dict[str, dict[str, Any]]:
    """The configuration by section, without the places of files if it leaves this machine."""
    values: dict[str, dict[str, Any]] = config.model_dump(mode="json")
    if not is_local:
        for section, keys in _PLACES.items():
            for key in keys:
                if isinstance(values[section].get(key), str):
                    values[section][key] = "(not sent)"
    return values


def read_note(path: Path) -> dict[str, str]:
    """The note by which a resumed run finds itself again; empty if there is none that can be read."""
    try:
        note = parse_json(path.read_text(encoding="utf-8"), path)
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(path: Path, **note: str) -> None:
    write_text(path, json.dumps(note, indent=1) + "\n")


def one_line(error: Exception, limit: int = 200) -> str:
    """An error as the tail of a warning."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
