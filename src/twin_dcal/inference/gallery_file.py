"""A gallery as one file: safetensors with the features, and in its header whose they are and of which model.

One file, so that it is replaced as a whole: whoever is killed while writing leaves the old one or the new one.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError
from safetensors import SafetensorError

from twin_dcal._version import __version__
from twin_dcal.errors import ModelError
from twin_dcal.files import replacing
from twin_dcal.model_file.entries import first_told
from twin_dcal.plural import plural

FORMAT, FORMAT_VERSION = "twin_dcal.gallery", 1
_ENTRY, _TENSOR = "gallery", "features"
_ROUNDING = 1e-2

_Text = Annotated[str, Strict(), Field(max_length=10_000)]
_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class Photograph(BaseModel):
    """One of a person: path (None where it had none), SHA-256 of the file or pixels, and the measured quality of the
    face (None where nobody looked)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    person: Annotated[_Text, Field(min_length=1)]
    path: _Text | None
    sha256: Annotated[_Text, Field(pattern="^[0-9a-f]{64}$")]
    quality: dict[_Text, _Number] | None = None


class _Manifest(BaseModel):
    format: _Text
    format_version: Annotated[int, Strict()]
    model: dict[_Text, Any]
    align: _Text
    twins: list[tuple[_Text, _Text]]
    photographs: list[Photograph]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a gallery's file holds. features (N, E): a row for each photograph; twins: pairs of people."""

    photographs: tuple[Photograph, ...] = ()
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    twins: tuple[tuple[str, str], ...] = ()


def write_gallery(path: Path, stored: Stored, model: dict[str, Any], align: str) -> None:
    """Replace the file at once; readable by its owner only."""
    manifest = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "twin_dcal": __version__, "model": model, "align": align,
        "twins": [list(pair) for pair in stored.twins],
        "photographs": [photograph.model_dump() for photograph in stored.photographs],
    }  # fmt: skip
    features = np.ascontiguousarray(stored.features)
    content = safetensors.numpy.save({_TENSOR: features}, {_ENTRY: json.dumps(manifest)})
    with replacing(path) as file:
        file.write(content)


def read_gallery(path: Path, sha256: str, align: str) -> Stored:
    """A file of `write_gallery`. ModelError for what is none, and for one of another model or way of aligning faces.

    Args: sha256: of the model's file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such gallery; make one with enroll") from None
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        found = _Manifest.model_validate(json.loads(header["__metadata__"][_ENTRY]))
        features = safetensors.numpy.load(data)[_TENSOR]
    except ValidationError as error:
        raise ModelError(f"{path}: damaged: {first_told(error)}") from error
    except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise ModelError(f"{path}: not a gallery, or damaged") from error
    if found.format != FORMAT or found.format_version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: {found.format:.40} of version {found.format_version}; this release reads {FORMAT} of version "
            f"{FORMAT_VERSION}"
        )
    if found.model.get("sha256") != sha256:
        raise ModelError(
            f"{path}: a gallery of another model ({found.model.get('path')!s:.100}), whose features mean nothing to "
            "this one; enroll the photographs again"
        )
    if found.align != align:
        raise ModelError(f"{path}: enrolled with align='{found.align:.20}', and this engine has '{align}'")
    if features.dtype != np.float32 or features.ndim != 2 or len(features) != len(found.photographs):
        raise ModelError(
            f"{path}: damaged: {features.dtype} of shape {features.shape} for "
            f"{plural(len(found.photographs), 'photograph')}"
        )
    if not (np.abs(np.linalg.norm(features, axis=1) - 1) < _ROUNDING).all():  # also for NaN
        raise ModelError(f"{path}: damaged: its features are not of length 1")
    return Stored(tuple(found.photographs), features, tuple(found.twins))
