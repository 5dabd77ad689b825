"""Settings of preparing a data set: one frozen schema, from a JSON file and `--section.key value`.

Whatever decides about a picture is here, and part of the key under which the result is kept.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twin_dcal.config_text import read_config_json
from twin_dcal.errors import ConfigError

from .quality import Quality


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Limits(Section):
    """What a picture must have to be kept; null sets no limit. See `Quality` for what is measured."""

    min_eyes_px: float | None = Field(20, ge=0)
    min_score: float | None = Field(0.7, ge=0, le=1)
    min_sharpness: float | None = Field(0.16, ge=0)
    min_brightness: float | None = Field(0.12, ge=0, le=1)
    max_brightness: float | None = Field(0.92, ge=0, le=1)
    max_clipped: float | None = Field(0.35, ge=0, le=1)
    max_turn: float | None = Field(0.6, ge=0)
    max_outside: float | None = Field(0.3, ge=0, le=1)

    def complaints(self, quality: Quality) -> tuple[str, ...]:
        """What is wrong, one line each with the value and the limit; () for a good picture."""
        checks = (
            ("too small", "eyes {} px apart", quality.eyes_px, self.min_eyes_px, None),
            ("doubtful face", "the detector's score {}", quality.score, self.min_score, None),
            ("too blurred", "sharpness {}", quality.sharpness, self.min_sharpness, None),
            ("too dark", "brightness {}", quality.brightness, self.min_brightness, None),
            ("too bright", "brightness {}", quality.brightness, None, self.max_brightness),
            ("over- or underexposed", "share {}", quality.clipped, None, self.max_clipped),
            ("turned away", "turn {}", abs(quality.turn), None, self.max_turn),
            ("cut off by the photo's edge", "share {}", quality.outside, None, self.max_outside),
        )
        told = []
        for fault, measured, value, least, most in checks:
            if least is not None and value < least:
                told.append(f"{fault} ({measured.format(f'{value:.3g}')}, at least {least:g} wanted)")
            if most is not None and value > most:
                told.append(f"{fault} ({measured.format(f'{value:.3g}')}, at most {most:g} wanted)")
        return tuple(told)


class Crops(Section):
    """What is cut out of a photo."""

    image_size: int = Field(224, ge=32, le=2048)
    """Pixels a side."""
    faces: Literal["largest", "all", "error"] = "largest"
    """Of several faces: the largest central one, each of them, or none (the photo is left out)."""
    tolerance: float = Field(0.02, ge=0, lt=1)
    """A square picture that aligning would move by less, as a share of its side, is a crop already and left alone."""
    jpeg_quality: int = Field(95, ge=1, le=100)


class Duplicates(Section):
    """When two crops are one picture, and when photos are of one session."""

    max_bits: int = Field(12, ge=0, le=16)
    """Bits of 64 in which perceptual hashes may differ for a pair to be compared by pixels."""
    min_correlation: float = Field(0.97, gt=0, le=1)
    """From this likeness on (`duplicates.likeness`), two crops are one picture."""
    session_minutes: float = Field(10, ge=0)
    """Photos of one camera with no longer pause between them are of one session; 0 looks for none."""


class PrepareConfig(Section):
    """All settings. `resolved` is the way to make one."""

    crops: Crops = Crops()
    quality: Limits = Limits()
    duplicates: Duplicates = Duplicates()

    @classmethod
    def resolved(cls, path: str | None, overrides: Mapping[str, Any]) -> Self:
        """Defaults, then a JSON file, then dotted keys. ConfigError names the source, the key, and the nearest."""
        values = read_config_json(path) if path is not None else {}
        source = "command line" if path is None else path
        merged: dict[str, Any] = {
            name: dict(section) if isinstance(section, Mapping) else section
            for name, section in values.items()
        }
        for key, value in overrides.items():
            section, _, name = key.partition(".")
            if not isinstance(merged.setdefault(section, {}), dict):
                raise ConfigError(f"{source}: {section} is not an object of settings")
            merged[section][name] = value
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise ConfigError(f"{source}: " + "; ".join(_explain(item) for item in error.errors())) from None


def setting_keys() -> list[str]:
    """Dotted names of all settings."""
    sections: dict[str, type[Section]] = {"crops": Crops, "quality": Limits, "duplicates": Duplicates}
    return [f"{section}.{name}" for section, kind in sections.items() for name in kind.model_fields]


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place, setting_keys(), 1)
        return f"unknown key '{place}'" + (
            f"; did you mean '{near[0]}'?" if near else f"; keys: {', '.join(setting_keys())}"
        )
    return f"{place}: {item['msg'].removeprefix('Value error, ')} (given: {str(item['input'])[:60]})"
