"""Values of a configuration as users write them, in a JSON file or after dotted options, before the schema."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .files import refuse_endless
from .jsontext import parse_json
from .presets import PRESETS
from .spelling import nearest_argument

_PYTHON_LITERALS = {"True": True, "False": False, "None": None}


def parse_dotted(
    arguments: list[str], options: Collection[str] = (), keys: Iterable[str] = ()
) -> dict[str, Any]:
    """Read `--training.learning_rate 1e-4 --model.branches=["sa"]` to a mapping; dashes and underscores are the same.

    ConfigError for anything else, with the nearest of the command's own `options` and of the `keys` that it takes.
    """
    overrides: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, equals, text = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or "." not in name:
            raise ConfigError(f"unknown argument '{argument}'{nearest_argument(name, options, keys)}")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise ConfigError(f"{argument} needs a value")
            text = following
        try:
            overrides[name] = _PYTHON_LITERALS[text] if text in _PYTHON_LITERALS else json.loads(text)
        except json.JSONDecodeError:
            overrides[name] = text
        except (ValueError, RecursionError) as error:  # a number without end, brackets without end
            raise ConfigError(f"{flag}: {error}") from None
    return overrides


_MOST_DIGITS = 18


def whole_number(text: str) -> int | None:
    """A number as digits alone; None for anything else, and for one that nothing counts to: Python makes no number of
    thousands of digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def read_config_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file. ConfigError names the file, and the line where that is known."""
    path = Path(path)
    refuse_endless(path, ConfigError)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; presets are {', '.join(PRESETS)}") from None
    except (OSError, ValueError) as error:  # ValueError: bad UTF-8, or a name that no file can have
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        values = parse_json(text, path)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a JSON object, this is a {type(values).__name__}")
    return values


_FLAT_KEYS = {
    "INPUT_SIZE": "data.image_size", "IMAGE_SIZE": "data.image_size", "BACKBONE_NAME": "model.backbone",
    "BACKBONE": "model.backbone", "PRETRAINED": "model.pretrained", "LOCAL_QUERY_RATIO": "model.local_ratio",
    "EMBED_DIM": "model.attention_dim", "ATTENTION_DIM": "model.attention_dim", "NUM_HEADS": "model.num_heads",
    "DROPOUT": "model.dropout", "DROP_PATH_RATE": "model.drop_path", "BATCH_SIZE": "training.batch_size",
    "LEARNING_RATE": "training.learning_rate", "NUM_EPOCHS": "training.num_epochs",
    "EPOCHS": "training.num_epochs", "WEIGHT_DECAY": "training.weight_decay",
    "WARMUP_EPOCHS": "training.warmup_epochs", "GRADIENT_ACCUMULATION_STEPS": "training.accumulation_steps",
    "GRAD_CLIP": "training.clip_norm", "TRIPLET_MARGIN": "loss.triplet_margin", "DATA_ROOT": "data.data_root",
    "SEED": "runtime.seed", "OUTPUT_DIR": "runtime.output_dir", "NUM_WORKERS": "runtime.num_workers",
}  # fmt: skip


def refuse_flat_file(values: Mapping[str, Any], source: str) -> None:
    """ConfigError for a file of an older version, with what its keys are called now."""
    flat = [key for key in values if isinstance(key, str) and key.isupper()]
    if flat:
        moved = ", ".join(f"{key} -> {_FLAT_KEYS.get(key, 'no longer used')}" for key in flat)
        raise ConfigError(f"{source}: flat UPPER_CASE keys are from an older version; write them as {moved}")
