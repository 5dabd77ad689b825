"""`embeddings.npz`: one vector per image and whose it is, ours or another system's. Plain arrays, no pickle.

Ours: `features` (N, D) float32, `image_paths`, `ids`, with identities `people` and `families`, with a list of pairs
`pair_first`, `pair_second`, `pair_kinds`, of a protocol with folds `pair_folds`; `feature_type`; `metadata`, a JSON
object (format, model hash, preprocessing).
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.files import replacing
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.plural import plural

from .failures import failures_from
from .match_names import short_ids
from .protocol import Comparisons, Labels, PairRows

FORMAT = "twin_dcal.embeddings"
FORMAT_VERSION = 1

VECTOR_KEYS = ("features", "embeddings", "vectors")
NAME_KEYS = ("image_paths", "paths", "ids")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors (N, D) float32 of any length but zero, and a name for each.

    people, families: labels (N,), None where the file has none. pairs: what was compared, None for all pairs. metadata:
    plain values; {} in files of other systems.
    """

    file: str
    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    people: Labels | None
    families: Labels | None
    pairs: PairRows | None
    metadata: Mapping[str, Any]

    def comparisons(self) -> Comparisons:
        """What the file itself says was compared; all pairs where it lists none."""
        protocol = self.metadata.get("protocol", {"name": "all pairs"})
        comparisons = Comparisons(self.file, self.names, self.people, self.families, self.pairs, protocol)
        return replace(comparisons, failures=failures_from(self.metadata.get("failures"), self.file))


def write_embeddings(
    path: str | Path, comparisons: Comparisons, vectors: NDArray[np.float32], metadata: Mapping[str, Any]
) -> None:
    """Write vectors (N, D) of what was compared; the file appears whole or not at all, readable by its owner only."""
    arrays: dict[str, Any] = {
        "features": np.asarray(vectors, dtype=np.float32),
        "image_paths": np.array(comparisons.names, dtype=np.str_),
        "ids": np.array(short_ids(comparisons.names), dtype=np.str_),
        "feature_type": np.array(str(metadata.get("feature_type", ""))),
    }
    if comparisons.people is not None:
        arrays["people"] = comparisons.people
    if comparisons.families is not None:
        arrays["families"] = comparisons.families
    if comparisons.pairs is not None:
        pairs = comparisons.pairs
        arrays |= {"pair_first": pairs.first, "pair_second": pairs.second, "pair_kinds": pairs.kinds}
        if pairs.folds is not None:
            arrays["pair_folds"] = pairs.folds
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **metadata,
        "protocol": dict(comparisons.protocol),
    }
    if comparisons.failures is not None:
        about["failures"] = asdict(comparisons.failures)
    arrays["metadata"] = np.array(json.dumps(about, ensure_ascii=False, allow_nan=False))
    with replacing(path) as file:
        np.savez(file, **arrays)  # no array of objects among them, so no pickle


def read_embeddings(path: str | Path, *, keep_failed: bool = False) -> Embeddings:
    """Read embeddings of ours or of another system: an .npz with vectors and a name for each.

    Args: keep_failed: a vector with NaN or infinity, or of zeros only, is an image that failed, and is zero here.

    MetricError, in one line, for a missing, damaged or pickled file, missing keys, shapes that do not fit, vectors with
    NaN or without a direction, and a name given twice.
    """
    path = Path(path)
    arrays = _arrays(path)
    vectors_key = _first_key(path, arrays, VECTOR_KEYS, "vectors, one row per image")
    names_key = _first_key(path, arrays, NAME_KEYS, "the path or id of each image")
    names = _text(path, arrays, names_key)
    vectors = _vectors(path, vectors_key, arrays[vectors_key], names, keep_failed)
    _refuse_repeated(path, names)
    people, families = (
        _labels(path, arrays, key, len(names)) if key in arrays else None for key in ("people", "families")
    )
    return Embeddings(
        file=str(path),
        vectors=vectors,
        names=names,
        people=people,
        families=families,
        pairs=_pairs(path, arrays, len(names)),
        metadata=_metadata(path, arrays),
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise MetricError(f"{path}: no such file of embeddings")
    if not zipfile.is_zipfile(path):
        raise MetricError(
            f"{path}: not an .npz file. Write it with np.savez(file, features=…, image_paths=…)."
        )
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            for key in stored.files:
                arrays[key] = _array(path, stored, key)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, MemoryError, ValueError) as error:
        raise MetricError(f"{path}: damaged, or not an .npz file ({str(error)[:100]})") from error
    return arrays


def _array(path: Path, stored: Any, key: str) -> NDArray[Any]:
    try:
        return np.asarray(stored[key])
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise MetricError(
            f"{path}: '{key}' holds pickled objects, which can run code and are not read. Save it as a plain "
            "array: np.array(values, dtype=str) or a float array."
        ) from error


def _first_key(path: Path, arrays: Mapping[str, Any], keys: Sequence[str], what: str) -> str:
    for key in keys:
        if key in arrays:
            return key
    raise MetricError(
        f"{path}: no {' or '.join(keys)} ({what}); it has {', '.join(sorted(arrays)) or 'nothing'}."
    )


def _vectors(
    path: Path, key: str, array: NDArray[Any], names: Sequence[str], keep_failed: bool
) -> NDArray[np.float32]:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.size == 0:
        raise MetricError(
            f"{path}: '{key}' is {array.dtype} of shape {array.shape}, not numbers of (images, width)."
        )
    if len(array) != len(names):
        raise MetricError(
            f"{path}: {plural(len(array), 'vector')} but {plural(len(names), 'name')}. Give one name per row."
        )
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    largest = np.abs(array).max(axis=1)
    failed = ~np.isfinite(largest) | (largest == 0)
    if keep_failed and not failed.all():
        array = np.where(failed[:, None], 0, array)
        largest = np.where(failed, 1, largest)
    for bad, fault in ((~np.isfinite(largest), "NaN or infinity"), (largest == 0, "a zero vector")):
        if bad.any():
            first = names[int(np.argmax(bad))]
            raise MetricError(
                f"{path}: {fault} for {plural(int(bad.sum()), 'image')}, first: {first}. Leave them out."
            )
    return np.asarray(array / largest[:, None] if array.dtype == np.float64 else array, dtype=np.float32)


def _text(path: Path, arrays: Mapping[str, NDArray[Any]], key: str) -> tuple[str, ...]:
    values = arrays[key]
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise MetricError(f"{path}: '{key}' is {values.dtype} of shape {values.shape}, not a list of text.")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "surrogateescape")
    return tuple(values.astype(np.str_).tolist())


def _labels(path: Path, arrays: Mapping[str, NDArray[Any]], key: str, num_images: int) -> Labels:
    labels = np.array(_text(path, arrays, key), dtype=np.str_)
    if labels.size != num_images:
        raise MetricError(
            f"{path}: {labels.size} {key} for {plural(num_images, 'image')}. Give one per image."
        )
    return labels


def _pairs(path: Path, arrays: Mapping[str, NDArray[Any]], num_images: int) -> PairRows | None:
    given = [arrays.get(key) for key in ("pair_first", "pair_second", "pair_kinds")]
    first, second, kinds = given
    if first is None or second is None or kinds is None:
        return None
    one_length = first.ndim == 1 and first.shape == second.shape == kinds.shape
    whole = one_length and all(array.dtype.kind in "iu" for array in (first, second, kinds))
    if not (
        whole and first.size and min(first.min(), second.min()) >= 0 and max(first.max(), second.max()) < num_images
        and np.isin(kinds, list(PairKind)).all()
    ):  # fmt: skip
        raise MetricError(
            f"{path}: pair_first, pair_second and pair_kinds do not fit {plural(num_images, 'image')}."
        )
    folds = arrays.get("pair_folds")
    if folds is not None and (folds.shape != first.shape or folds.dtype.kind not in "iu" or folds.min() < 0):
        raise MetricError(f"{path}: pair_folds is not a number from 0 on for each pair.")
    folds = None if folds is None else folds.astype(np.int64)
    return PairRows(first.astype(np.int64), second.astype(np.int64), kinds.astype(np.int8), folds)


def _metadata(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """{} for another system's file. MetricError for a version that this release does not know."""
    try:
        values = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    except json.JSONDecodeError:
        values = {}
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return {}
    if values.get("format_version") != FORMAT_VERSION:
        raise MetricError(
            f"{path}: format version {values.get('format_version')}; this release reads version {FORMAT_VERSION}."
        )
    return values


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise MetricError(f"{path}: '{twice}' is in it twice. Keep one vector per image.")
