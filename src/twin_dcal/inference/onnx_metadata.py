"""What an exported model says about itself, as the strings of an ONNX file's metadata. No torch here.

One key for each thing, prefixed "twin_dcal."; values are JSON, so that any viewer of ONNX files shows them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twin_dcal.data.fit import sides
from twin_dcal.errors import MetricError, ModelError
from twin_dcal.image_size import MAX_IMAGE_SIZE, MAX_WIDTH, ImageSize
from twin_dcal.model_file.entries import read_entries

from .backend import ModelSource

FORMAT = "twin_dcal.onnx"
FORMAT_VERSION = 1
INPUT = "pixels"
QUANTIZATIONS = ("none", "int8")

MAX_FEATURE = 2 * MAX_WIDTH + 100_000
"""Numbers of a combined feature: two branches of the widest blocks, and the embedding of an untouched face network."""

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


def promised_size(strings: Mapping[str, str]) -> tuple[int, int]:
    """Rows and columns of the pictures that metadata speaks of, unchecked; zeros where it says nothing that could be
    right."""
    try:
        size = json.loads(strings[_PREFIX + "preprocessing"])["image_size"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return 0, 0
    rows, columns = size if isinstance(size, list) and len(size) == 2 else (size, size)
    is_size = all(type(side) is int and 0 < side <= MAX_IMAGE_SIZE for side in (rows, columns))
    return (rows, columns) if is_size else (0, 0)


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
    entries = read_entries(content)
    source = ModelSource(
        path=path, sha256=sha256, format="onnx", backbone=_text(content["backbone"]),
        branches=tuple(_text(name) for name in content["branches"]), image_size=entries.image_size,
        mean=entries.mean, std=entries.std, threshold=entries.threshold, calibration=entries.calibration,
        error_curve=entries.error_curve, training=entries.training, landmarks=entries.landmarks, fusion=entries.fusion,
        familiarity=entries.familiarity, templates=entries.templates,
    )  # fmt: skip
    features = {_text(name): _length(length) for name, length in content["features"].items()}
    if set(features) != set(source.feature_types()):
        raise ValueError(f"features {sorted(features)} of branches {list(source.branches)}")
    if entries.fusion is not None and entries.fusion.split >= features["combined"]:
        raise ValueError(f"its fusion cuts after {entries.fusion.split} of {features['combined']} numbers")
    exported = dict(content["exported"])
    if exported["quantization"] not in QUANTIZATIONS:
        raise ValueError(f"quantization {exported['quantization']!r:.40}")
    return Described(source, features, exported["quantization"], exported)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _length(value: Any) -> int:
    if type(value) is not int or not 0 < value <= MAX_FEATURE:
        raise ValueError(f"{value!r:.40} is no length of a feature")
    return value
