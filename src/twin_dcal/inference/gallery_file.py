"""A gallery as one file: safetensors with the features, and in its header whose they are and of which model.

One file, so that it is replaced as a whole: whoever is killed while writing leaves the old one or the new one.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError
from safetensors import SafetensorError

from twin_dcal._version import __version__
from twin_dcal.errors import ConfigError, ImageError, ManifestError, ModelError
from twin_dcal.files import replacing
from twin_dcal.locking import locked
from twin_dcal.model_file.entries import first_fault
from twin_dcal.names import printable
from twin_dcal.plural import plural
from twin_dcal.prepare.quality import WEIGHED

from .given import as_pairs, as_path
from .images import ImageInput, read_pixels
from .pictures import digests_of, path_of

FORMAT, FORMAT_VERSION = "twin_dcal.gallery", 1
_ENTRY, _TENSOR = "gallery", "features"
_ROUNDING = 1e-2
LONGEST = 10_000
"""Letters of a name or a path."""


def _name(value: object) -> str:
    """Any text: pydantic's own refuse the names of files that are no UTF-8."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise ValueError(f"should be a text of 1 to {LONGEST:,} letters")
    return value


def _measured(value: dict[str, float]) -> dict[str, float]:
    missing = [name for name in WEIGHED if name not in value]
    if missing:
        raise ValueError(f"no {missing[0]}")
    return value


_Text = Annotated[str, Strict(), Field(max_length=LONGEST)]
_Name = Annotated[Any, AfterValidator(_name)]
_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class Photograph(BaseModel):
    """One of a person: path (None where it had none), SHA-256 of the file or pixels, and the measured quality of the
    face (None where nobody looked)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    person: _Name
    path: _Name | None
    sha256: Annotated[_Text, Field(pattern="^[0-9a-f]{64}$")]
    quality: Annotated[dict[_Text, _Number], AfterValidator(_measured)] | None = None

    def is_of(self, image: ImageInput) -> bool:
        """Whether a picture is this one, by its path or its content."""
        known = isinstance(image, str | Path) and self.path == str(image)
        return known or digests_of([image]) == [self.sha256]


class _Manifest(BaseModel):
    format: _Text
    format_version: Annotated[int, Strict()]
    model: dict[_Text, Any]
    align: _Text
    twins: list[tuple[_Name, _Name]]
    photographs: list[Photograph]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a gallery's file holds. features (N, E): a row for each photograph; twins: pairs of people."""

    photographs: tuple[Photograph, ...] = ()
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    twins: tuple[tuple[str, str], ...] = ()

    def with_photographs(self, new: Sequence[Photograph], features: NDArray[np.float32]) -> "Stored":
        rows = [features] if not self.photographs else [self.features, features]
        return replace(self, photographs=(*self.photographs, *new), features=np.concatenate(rows))

    def without(self, gone: Collection[int]) -> "Stored":
        """Args: gone: rows."""
        kept = [row for row in range(len(self.photographs)) if row not in gone]
        return replace(
            self, photographs=tuple(self.photographs[row] for row in kept), features=self.features[kept]
        )

    def with_twins(self, pairs: Iterable[tuple[str, str]]) -> "Stored":
        """The same where they are known already. Each pair and all pairs are sorted."""
        ordered = {(min(pair), max(pair)) for pair in pairs}
        return (
            self
            if ordered <= set(self.twins)
            else replace(self, twins=tuple(sorted({*self.twins, *ordered})))
        )


class GalleryFile:
    """The file that a gallery keeps to. A link is followed: what is deleted is gone from where it really lies."""

    def __init__(self, path: str | Path) -> None:
        self.path = as_path(path, "gallery", ModelError)
        self._seen: tuple[int, ...] | None = None
        """What told the file apart when it was read or written; None where there was none."""

    @property
    def is_there(self) -> bool:
        return self._stamp() is not None

    @property
    def is_news(self) -> bool:
        """Whether somebody has written or deleted it since it was read or written here."""
        return self._seen != self._stamp()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time, by whichever link. ConfigError for the other."""
        target = self._target()
        lock = target.with_name(f".{target.name}.lock")
        with locked(lock, f"writing the gallery {self.path}", "gallery", target):
            yield

    def refuse_other(self) -> None:
        """ConfigError where there is a file that is no gallery: a photograph, say, which would be lost."""
        if self.path.is_file() and FORMAT.encode() not in _beginning(self.path):
            raise ConfigError(f"{self.path}: there already, and no gallery; name another file")

    def read(self, sha256: str, align: str, width: int) -> Stored:
        """See `read_gallery`."""
        seen = self._stamp()
        stored = read_gallery(self.path, sha256, align, width)
        self._seen = seen
        return stored

    def write(self, stored: Stored, model: dict[str, Any], align: str) -> None:
        write_gallery(self._target(), stored, model, align)
        self._seen = self._stamp()

    def _target(self) -> Path:
        return Path(os.path.realpath(self.path))

    def _stamp(self) -> tuple[int, ...] | None:
        """Changes whenever the file is replaced."""
        try:
            info = self.path.stat()
        except FileNotFoundError:
            return None
        return info.st_ino, info.st_size, info.st_mtime_ns


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


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


def read_gallery(path: Path, sha256: str, align: str, width: int) -> Stored:
    """A file of `write_gallery`. ModelError for what is none, and for one of another model or way of aligning faces.

    Args: sha256: of the model's file; width: E of its features.
    """
    if not path.is_file():
        raise ModelError(f"{path}: {'no file' if path.exists() else 'no such gallery; make one with enroll'}")
    data = path.read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        found = _Manifest.model_validate(json.loads(header["__metadata__"][_ENTRY]))
        features = safetensors.numpy.load(data)[_TENSOR]
    except ValidationError as error:
        raise ModelError(f"{path}: damaged: {printable(first_fault(error))}") from error
    except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise ModelError(f"{path}: not a gallery, or damaged") from error
    if found.format != FORMAT or found.format_version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: {printable(found.format):.40} of version {found.format_version!s:.20}; this release reads "
            f"{FORMAT} of version {FORMAT_VERSION}"
        )
    if found.model.get("sha256") != sha256:
        raise ModelError(
            f"{path}: a gallery of another model ({printable(found.model.get('path')):.100}), whose features mean "
            "nothing to this one; enroll the photographs again"
        )
    if found.align != align:
        raise ModelError(told_align(path, printable(found.align)[:20], align))
    _check_features(path, features, len(found.photographs), width)
    return Stored(tuple(found.photographs), features, tuple(found.twins))


def _check_features(path: Path, features: NDArray[Any], count: int, width: int) -> None:
    if features.dtype != np.float32 or features.ndim != 2 or len(features) != count:
        raise ModelError(
            f"{path}: damaged: {features.dtype} of shape {features.shape} for {plural(count, 'photograph')}"
        )
    if count and features.shape[1] != width:
        raise ModelError(
            f"{path}: damaged: features of {features.shape[1]:,} numbers, and the model's have {width:,}"
        )
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(features, axis=1)
    if not (np.abs(lengths - 1) < _ROUNDING).all():  # also for NaN
        raise ModelError(f"{path}: damaged: its features are not of length 1")


def told_align(gallery: object, enrolled: str, align: str) -> str:
    """Why an engine may not touch a gallery whose faces were aligned in another way."""
    return f"{gallery}: enrolled with align='{enrolled}', and this engine has '{align}'"


def check_person(person: object) -> str:
    """A name of a person. ConfigError for what is none."""
    if not isinstance(person, str) or not 0 < len(person) <= LONGEST:
        raise ConfigError(f"person {person!r:.40}: give a name of 1 to {LONGEST:,} letters")
    return person


def check_new_person(person: object) -> str:
    """A name to enroll somebody by. ConfigError also for blanks around it: '07 ' and '07' look alike, and tables are
    read without them. Galleries of earlier releases may have such people, who can still be deleted."""
    name = check_person(person)
    if name != name.strip():
        told = f"; enroll as '{name.strip():.40}'" if name.strip() else "; give a name"
        raise ConfigError(f"person '{name:.40}': blanks before or after a name, which nobody sees{told}")
    return name


def refuse_shared(
    listed: Sequence[tuple[str, ImageInput]], digests: Sequence[object], enrolled: Iterable[Photograph]
) -> None:
    """ManifestError for a photograph of two people, known by its content: it shows one of them at most.

    Args: listed: people and photographs to enroll; digests: SHA-256 of each photograph, or why there is none.
    """
    new: dict[str, tuple[str, str]] = {}
    owners: dict[str, dict[str, str]] = {digest: {} for digest in digests if isinstance(digest, str)}
    for each in enrolled:
        if each.sha256 in owners:
            owners[each.sha256][each.person] = each.path or "a picture in memory"
    for at, ((person, image), digest) in enumerate(zip(listed, digests, strict=True), start=1):
        if not isinstance(digest, str):
            continue
        called = path_of(image) or f"photograph {at}"
        first, first_called = new.setdefault(digest, (person, called))
        if first != person and _opens(image):
            raise ManifestError(
                f"one photograph of two people, '{first}' ({first_called}) and '{person}' ({called}). Leave it out for "
                "one of them."
            )
        if owners[digest] and person not in owners[digest]:
            other, place = next(iter(owners[digest].items()))
            raise ManifestError(
                f"one photograph of two people, '{other}' ({place}), who is enrolled, and '{person}' ({called}). Leave "
                "it out, or delete it there first."
            )


def _opens(image: ImageInput) -> bool:
    """Whether this is a picture: empty files are alike too, and are left out with their reasons."""
    try:
        read_pixels(image)
    except ImageError:
        return False
    return True


def check_twins(pairs: Iterable[Any]) -> list[tuple[str, str]]:
    """Pairs of two people each. ConfigError for what is none."""
    listed = as_pairs(pairs, "twins", "two people")
    for pair in listed:
        if check_person(pair[0]) == check_person(pair[1]):
            raise ConfigError(f"twins {pair!r:.60}: a person with themselves; give two people")
    return [(one, other) for one, other in listed]
