"""What an exported model says about itself, as the strings of an ONNX file's metadata. No torch here.

One key for each thing, prefixed "twin_dcal."; values are JSON, so that any viewer of ONNX files shows them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twin_dcal.config import ImageSize
from twin_dcal.data.fit import sides
from twin_dcal.errors import MetricError, ModelError
from twin_dcal.verification.calibration import calibration_from_dict
from twin_dcal.verification.entries import read_familiarity
from twin_dcal.verification.fusion import Fusion
from twin_dcal.verification.stored import ErrorCurve, Threshold

from .backend import ModelSource

FORMAT = "twin_dcal.onnx"
FORMAT_VERSION = 1
INPUT = "pixels"
QUANTIZATIONS = ("none", "int8")

_PREFIX = "twin_dcal."


@dataclass(frozen=True)
class Described:
    """A model file as its metadata has it.

    features: output -> length of its rows; quantization: "none" or "int8"; exported: how it was made, that included.
    """

    source: ModelSource
    features: Mapping[str, int]
    quantization: str
    exported: Mapping[str, Any]


def preprocessing_in_words(size: ImageSize) -> str:
    """What happens to a picture before it is given to the graph; the graph itself scales and normalises."""
    rows, columns = sides(size)
    part = "square" if rows == columns else f"part of {rows} rows for every {columns} columns"
    return (
        f"Turn the picture upright (EXIF), as 8-bit RGB. Cut out the largest central {part}. Unless it is {rows} x "
        f"{columns} already, resize it to that with an antialiased bilinear filter (Pillow's BILINEAR). Stack pictures "
        f"as uint8 (batch, {rows}, {columns}, 3). The graph divides by 255, subtracts the mean and divides by std. "
        "Training faces were aligned crops: give the same. Rows of each output have length 1; the cosine of two is "
        "their dot product."
    )


def to_strings(content: Mapping[str, Any]) -> dict[str, str]:
    """Plain values as metadata. ValueError for what JSON cannot hold."""
    return {_PREFIX + key: json.dumps(value, allow_nan=False) for key, value in content.items()}


def read_metadata(strings: Mapping[str, str], path: str, sha256: str) -> Described:
    """The inverse of what an export wrote. ModelError, one line: foreign, of another version, damaged."""
    if _PREFIX + "format" not in strings:
        raise ModelError(
            f"{path}: an ONNX model without twin_dcal metadata; use a file that dcal-export wrote"
        )
    try:
        content = {
            key[len(_PREFIX) :]: json.loads(text) for key, text in strings.items() if key.startswith(_PREFIX)
        }
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        if content["format_version"] != FORMAT_VERSION:
            raise ModelError(
                f"{path}: format version {content['format_version']!r:.40}; this release reads version "
                f"{FORMAT_VERSION}. It was written by twin_dcal {content.get('version', 'unknown')!s:.40}."
            )
        return _described(content, path, sha256)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        MetricError,
    ) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(
            f"{path}: an entry of its metadata is missing or of the wrong kind ({reason})"
        ) from error


def _described(content: Mapping[str, Any], path: str, sha256: str) -> Described:
    pixels, threshold = content["preprocessing"], content["threshold"]
    calibration, curve = content["calibration"], content["error_curve"]
    source = ModelSource(
        path=path, sha256=sha256, format="onnx", backbone=_text(content["backbone"]),
        branches=tuple(_text(name) for name in content["branches"]), image_size=_size(pixels["image_size"]),
        mean=_three(pixels["mean"]), std=_three(pixels["std"]),
        threshold=None if threshold is None else _threshold(threshold),
        calibration=None if calibration is None else calibration_from_dict(calibration),
        error_curve=None if curve is None else ErrorCurve.from_dict(curve), training=dict(content["training"]),
        landmarks=_landmarks(pixels.get("landmarks")),
        fusion=None if content.get("fusion") is None else Fusion.from_dict(content["fusion"]),
        familiarity=read_familiarity(content.get("familiarity")),
    )  # fmt: skip
    features = {_text(name): _count(length) for name, length in content["features"].items()}
    if set(features) != set(source.feature_types()):
        raise ValueError(f"features {sorted(features)} of branches {list(source.branches)}")
    exported = dict(content["exported"])
    if exported["quantization"] not in QUANTIZATIONS:
        raise ValueError(f"quantization {exported['quantization']!r:.40}")
    return Described(source, features, exported["quantization"], exported)


def _threshold(values: Mapping[str, Any]) -> Threshold:
    value = float(values["value"])
    if not -1 <= value <= 1:
        raise ValueError(f"threshold {value}")
    return Threshold(value, dict(values["origin"]))


def _landmarks(values: Any) -> tuple[tuple[float, float], ...] | None:
    if values is None:
        return None
    points = tuple((float(x), float(y)) for x, y in values)
    if len(points) != 5 or not all(0 <= value <= 1 for point in points for value in point):
        raise ValueError(f"{values!r:.60} are no five places in a crop")
    return points


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r:.40} is no size")
    return value


def _size(value: Any) -> ImageSize:
    if not isinstance(value, list):
        return _count(value)
    rows, columns = (_count(side) for side in value)
    return rows, columns


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"{values!r:.60} are no channel values")
    return red, green, blue
