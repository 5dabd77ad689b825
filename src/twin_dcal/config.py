"""Configuration: one frozen schema (`config_sections`), presets by name, JSON files, dotted overrides.

Resolution order, last wins: defaults < preset < file < command line. A wrong key names the file, the key and
the nearest right key; a wrong value names the key and the value. Nothing here imports torch.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from .config_sections import (
    MAX_BLOCKS,
    Branch,
    DataConfig,
    LossConfig,
    ModelConfig,
    RuntimeConfig,
    Section,
    TrackingConfig,
    TrainingConfig,
)
from .config_text import read_config_json, refuse_flat_file
from .errors import ConfigError
from .files import is_file, write_text
from .image_size import MAX_IMAGE_SIZE, MAX_WIDTH, MIN_IMAGE_SIZE, ImageSize, image_size_of
from .presets import PRESETS
from .spelling import nearest

__all__ = [
    "MAX_BLOCKS",
    "MAX_IMAGE_SIZE",
    "MAX_WIDTH",
    "MIN_IMAGE_SIZE",
    "PRESETS",
    "Branch",
    "DataConfig",
    "ImageSize",
    "LossConfig",
    "ModelConfig",
    "RuntimeConfig",
    "TrackingConfig",
    "TrainingConfig",
    "TwinVerificationConfig",
    "dotted_keys",
    "image_size_of",
    "resolve_config",
]


class TwinVerificationConfig(Section):
    """The whole configuration. `from_file`, `preset` and `override` are the ways to make one.

    Example:
        >>> TwinVerificationConfig().override({"training.num_epochs": 3, "model.pretrained": False})
        TwinVerificationConfig(model.pretrained=False, training.num_epochs=3)
    """

    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    tracking: TrackingConfig = TrackingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __repr__(self) -> str:
        """What differs from the defaults."""
        usual = type(self).model_construct()
        changed = [
            f"{section}.{key}={value!r}"
            for section, own in self
            for key, value in own
            if value != getattr(getattr(usual, section), key)
        ]
        return f"TwinVerificationConfig({', '.join(changed)})"

    __str__ = __repr__

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "configuration") -> Self:
        """Validate nested plain values. ConfigError names `source` and every offending key."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"{source}: a configuration is an object of sections, this is {values!r:.60}")
        refuse_flat_file(values, source)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: " + "; ".join(_explain(item) for item in error.errors())) from None

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a JSON file; keys it does not name keep their defaults. ConfigError names file, line or key."""
        return cls.from_dict(read_config_json(path), str(path))

    @classmethod
    def preset(cls, name: str) -> Self:
        """One of `PRESETS`. ConfigError names the nearest preset."""
        if name not in PRESETS:
            raise ConfigError(f"no preset '{name}'{nearest(name, PRESETS)}; presets: {', '.join(PRESETS)}")
        return cls.from_dict(PRESETS[name], f"preset '{name}'")

    def override(self, values: Mapping[str, Any], source: str = "command line") -> Self:
        """A copy with dotted keys replaced: ``{"training.learning_rate": 1e-4}``."""
        merged = self.model_dump()
        for key, value in values.items():
            section, _, name = str(key).partition(".")
            if not name or section not in merged:
                raise ConfigError(f"{source}: no key '{key}'{nearest(str(key), dotted_keys())}")
            merged[section][name] = value
        return self.from_dict(merged, source)

    def save(self, path: str | Path) -> None:
        write_text(path, json.dumps(self.model_dump(), indent=2) + "\n")


def resolve_config(name_or_path: str | None, overrides: Mapping[str, Any]) -> TwinVerificationConfig:
    """The command line's way in: a preset name or a JSON file, then dotted overrides."""
    if name_or_path is None:
        config = TwinVerificationConfig.preset("default")
    elif name_or_path in PRESETS:
        config = TwinVerificationConfig.preset(name_or_path)
    elif not name_or_path.endswith(".json") and not is_file(name_or_path):
        raise ConfigError(
            f"--config {name_or_path}: neither a file nor a preset{nearest(name_or_path, PRESETS)}; "
            f"presets: {', '.join(PRESETS)}"
        )
    else:
        config = TwinVerificationConfig.from_file(name_or_path)
    return config.override(overrides)


def dotted_keys() -> Iterator[str]:
    for section, field in TwinVerificationConfig.model_fields.items():
        annotation = field.annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        yield from (f"{section}.{name}" for name in annotation.model_fields)


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    parent, _, name = place.rpartition(".")
    if item["type"] == "extra_forbidden":
        known = dotted_keys() if parent else TwinVerificationConfig.model_fields
        return f"unknown key '{place}'{nearest(place, known)}"
    message = item["msg"].removeprefix("Value error, ")
    try:
        shown = json.dumps(item["input"], default=str)
    except (TypeError, ValueError):  # a Python object that JSON cannot hold
        shown = repr(item["input"])
    given = f" (given: {shown})" if len(shown) <= 60 and not isinstance(item["input"], dict) else ""
    return f"{place or name}: {message}{given}"
