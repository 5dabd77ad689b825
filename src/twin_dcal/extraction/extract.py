"""Features of many pictures to files: in parts that survive an interruption, joined to one file or to shards.

A part holds `PART` pictures and lies in a hidden folder beside the output until everything is there. The same command
finds the parts of an interrupted run, if model, feature and files are still the same, and goes on after them.
"""

import hashlib
import json
import logging
import shutil
import zipfile
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal import distributed
from twin_dcal._version import __version__
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.evaluation.embedding_files import FORMAT, FORMAT_VERSION
from twin_dcal.evaluation.evaluate import Decision
from twin_dcal.evaluation.match_names import short_ids
from twin_dcal.evaluation.systems import decision_to
from twin_dcal.files import replacing, write_text
from twin_dcal.inference.backend import FeatureType
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.inference.pictures import OnError
from twin_dcal.locking import locked
from twin_dcal.model_file.provenance import trained_on
from twin_dcal.plural import plural
from twin_dcal.prepare.detector import is_available
from twin_dcal.progress import ProgressBar

from .loading import loader
from .on_ray import OnRay, parts_on_ray
from .parts import Part, embed_part, reading

logger = logging.getLogger(__name__)

PART = 1024


@dataclass(frozen=True)
class Extraction:
    """What this process wrote. failed: (path, reason) of pictures that could not be read; num_reused: parts of an
    earlier, interrupted run that were taken over."""

    files: tuple[Path, ...]
    num_images: int
    failed: tuple[tuple[str, str], ...]
    num_reused: int


def extract(
    engine: TwinInferenceEngine, images: Sequence[str], output: str | Path, *,
    feature_type: FeatureType = "combined", batch_size: int = 32, num_workers: int = 2, shard_size: int = 100_000,
    on_error: OnError = "entry", ray: OnRay | None = None,
) -> Extraction:  # fmt: skip
    """Write features of image files, in order, prepared as the engine prepares them; damaged files, and those without
    a face unless the engine aligns never, are left out and listed.

    Args: on_error: of such a file: "entry" lists it, "raise" an ImageError. output: an .npz file; with more than
    `shard_size` pictures, shards `NAME-00000-of-00012.npz` in its place. ray: the workers of such a cluster compute the
    parts, and this process writes them.
    With several processes each takes every so many-th part, and rank 0 joins them: the same features. They need to
    see the same folder. ConfigError for another name, a feature that the model lacks, or an output that another process
    writes; ImageError if no picture can be read.
    """
    output = Path(output)
    if output.suffix != ".npz":
        raise ConfigError(
            f"--output {output}: features are written as .npz; name a file such as features.npz"
        )
    if feature_type not in engine.source.feature_types():
        raise ConfigError(
            f"--feature_type {feature_type}: this model has {', '.join(engine.source.feature_types())}"
        )
    with distributed.entered_by_main(writing(output)):
        return _extract(
            engine, images, output, feature_type, batch_size, num_workers, shard_size, on_error, ray
        )


def writing(output: Path) -> AbstractContextManager[None]:
    """The lock of an output and of what lies beside it. ConfigError while another process holds it."""
    return locked(output.with_name(f".{output.name}.lock"), f"writing {output}", "--output", output)


def _extract(
    engine: TwinInferenceEngine, images: Sequence[str], output: Path, feature_type: FeatureType, batch_size: int,
    num_workers: int, shard_size: int, on_error: OnError, ray: OnRay | None,
) -> Extraction:  # fmt: skip
    parts = output.with_name(f".{output.name}.parts")
    key = _run_key(engine, images, feature_type)
    num_reused = distributed.broadcast_object(_open_parts(parts, key) if distributed.is_main() else None) or 0
    if not parts.is_dir():
        raise ConfigError(
            f"{parts}: not seen by every process; --output must be on storage that all nodes share"
        )
    numbers = [number for number in range(-(-len(images) // PART)) if not _part_path(parts, number).exists()]
    with ProgressBar(len(images), "extracting", "images", shown=distributed.is_main()) as bar:
        bar.update(len(images) - sum(len(_part_of(images, number)) for number in numbers))
        making = _parts_here(engine, images, numbers, feature_type, batch_size, num_workers, bar)
        if ray is not None:
            making = parts_on_ray(
                ray, engine, {number: _part_of(images, number) for number in numbers}, feature_type, batch_size,
                num_workers, bar,
            )  # fmt: skip
        with closing(making):
            for number, part in making:
                if on_error == "raise" and part.failed.size:
                    raise ImageError(str(part.failed[0][1]))
                _save_part(_part_path(parts, number), part)
    distributed.barrier()
    if not distributed.is_main():
        return Extraction((), 0, (), num_reused)
    done = _join(engine, images, output, parts, feature_type, shard_size)
    shutil.rmtree(parts)
    return Extraction(*done, num_reused)


def _part_of(images: Sequence[str], number: int) -> Sequence[str]:
    return images[number * PART : (number + 1) * PART]


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:07}.npz"


def _parts_here(
    engine: TwinInferenceEngine, images: Sequence[str], numbers: Sequence[int], feature_type: FeatureType,
    batch_size: int, num_workers: int, bar: ProgressBar,
) -> Generator[tuple[int, Part], None, None]:  # fmt: skip
    """Those parts of `numbers` that are this process's, in order."""
    with loader(reading(engine), num_workers) as load:
        for number in numbers:
            names = _part_of(images, number)
            if number % distributed.world_size() == distributed.rank():
                yield number, embed_part(engine, load(names), feature_type, batch_size, bar.update)
            else:
                bar.update(len(names))


def shard_paths(output: Path, num_images: int, shard_size: int) -> list[tuple[Path, range]]:
    """The files that features go to, and the parts in each."""
    per_shard = max(1, -(-shard_size // PART))
    num_parts = -(-num_images // PART)
    if num_parts <= per_shard:
        return [(output, range(num_parts))]
    starts = range(0, num_parts, per_shard)
    return [
        (output.with_name(f"{output.stem}-{number:05}-of-{len(starts):05}.npz"),
         range(start, min(start + per_shard, num_parts)))
        for number, start in enumerate(starts)
    ]  # fmt: skip


def _run_key(engine: TwinInferenceEngine, images: Sequence[str], feature_type: str) -> str:
    """Changes with the model, the feature, how faces are aligned, the list of files, and any file's size or time."""
    told = hashlib.sha256(
        f"{engine.source.sha256} {feature_type} {engine.align} {is_available()} {PART}\n".encode()
    )
    for name in images:
        try:
            info = Path(name).stat()
            told.update(f"{name}\0{info.st_size} {info.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            told.update(f"{name}\0\n".encode("utf-8", "surrogateescape"))
    return told.hexdigest()


def _open_parts(folder: Path, key: str) -> int:
    """An empty folder for parts, or that of the same run interrupted; how many parts it has."""
    about = folder / "run.json"
    if about.is_file() and about.read_bytes() == json.dumps(key).encode():
        found = sum(map(_is_sound, folder.glob("part-*.npz")))
        if found:
            logger.info("going on after %s of an interrupted run", plural(found * PART, "image"))
        return found
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    elif folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder}: is no folder, and parts are kept there; move it away")
    folder.mkdir(parents=True, mode=0o700)
    write_text(about, json.dumps(key))
    return 0


def _is_sound(part: Path) -> bool:
    """Whether a part can be read. One that cannot, as a machine's crash leaves it, is deleted to be made anew."""
    try:
        with part.open("rb") as file, np.load(file) as arrays:
            for name in ("features", "rows", "failed"):
                arrays[name]
        return True
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        part.unlink()
        return False


def _save_part(path: Path, part: Part) -> None:
    with replacing(path) as file:
        np.savez(file, features=part.features, rows=part.rows, failed=part.failed)


def _join(
    engine: TwinInferenceEngine, images: Sequence[str], output: Path, parts: Path, feature_type: str,
    shard_size: int,
) -> tuple[tuple[Path, ...], int, tuple[tuple[str, str], ...]]:  # fmt: skip
    """Parts to files. Returns files, number of pictures in them, and failures."""
    written, failed, total = [], [], 0
    for path, numbers in shard_paths(output, len(images), shard_size):
        features, names = [], []
        for number in numbers:
            with np.load(_part_path(parts, number)) as part:
                listed = _part_of(images, number)
                names += [listed[row] for row in part["rows"]]
                failed += [(listed[int(row)], str(reason)) for row, reason in part["failed"]]
                if part["rows"].size:
                    features.append(part["features"])
        if features:
            _write(path, engine, np.concatenate(features), names, feature_type)
            written.append(path)
            total += len(names)
    if not written:
        shutil.rmtree(parts)
        raise ImageError(f"0 of {plural(len(images), 'image')} can be used; first: {failed[0][1]}")
    return tuple(written), total, tuple(failed)


def _write(
    path: Path,
    engine: TwinInferenceEngine,
    features: NDArray[np.float32],
    names: list[str],
    feature_type: str,
) -> None:
    source = engine.source
    decision = Decision.stored(source.threshold, source.calibration)
    about: dict[str, Any] = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "twin_dcal": __version__,
        "feature_type": feature_type, "model": {**source.described(), "trained_on": trained_on(source.training)},
        "preprocessing": {
            "image_size": source.image_size, "mean": source.mean, "std": source.std, "align": engine.align,
        },
    }  # fmt: skip
    if feature_type == "combined":  # which threshold, calibration and fusion are of
        about |= {"decision": decision_to(decision), "fusion": source.fusion and source.fusion.to_dict()}
    with replacing(path) as file:
        np.savez(
            file,
            features=features,
            image_paths=np.array(names, np.str_),
            ids=np.array(short_ids(names), np.str_),
            feature_type=np.array(feature_type),
            feature_dim=np.array(features.shape[1]),
            num_images=np.array(len(names)),
            extraction_date=np.array(datetime.now(UTC).isoformat(timespec="seconds")),
            model_path=np.array(source.path),
            model_sha256=np.array(source.sha256),
            metadata=np.array(json.dumps(about)),
        )
