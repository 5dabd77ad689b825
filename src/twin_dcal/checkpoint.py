"""The inference checkpoint, `best_model.pth`: everything a decision needs in one file.

Tensors and plain types only, read by a reader that calls nothing (`pickled`): a file with code in it is refused, not
run. What a file says is checked before anything is made of it (docs/model_files.md).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ._version import __version__
from .config import TwinVerificationConfig
from .data.fit import in_words
from .errors import MetricError, ModelError
from .files import replacing
from .metrics.calibration import Calibration
from .metrics.error_curve import ErrorCurve, Threshold
from .metrics.fusion import Fusion
from .metrics.templates import TemplateDecision
from .model_file.archive import ArchiveError, records
from .model_file.entries import Entries, read_entries
from .model_file.familiarity import Familiarity
from .model_file.pickled import DamagedError, NotPlainError, unpickle
from .models.dcal import DCALVerificationModel
from .models.face.open import Skeleton, comes_with_structure
from .models.fitting import outlining, refuse_misfit, refuse_not_finite
from .models.preprocessing import Preprocessing

FORMAT = "twin_dcal.model"
FORMAT_VERSION = 1
MODEL_NAME = "best_model.pth"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use, in evaluation mode, with all that was stored beside its weights."""

    model: DCALVerificationModel
    config: TwinVerificationConfig
    preprocessing: Preprocessing
    threshold: Threshold | None
    calibration: Calibration | None
    error_curve: ErrorCurve | None
    fusion: Fusion | None
    familiarity: Familiarity | None
    training: Mapping[str, Any]
    templates: tuple[TemplateDecision, ...]
    sha256: str


def save_model(
    path: str | Path, model: DCALVerificationModel, config: TwinVerificationConfig, *,
    threshold: Threshold | None = None, calibration: Calibration | None = None,
    error_curve: ErrorCurve | None = None, fusion: Fusion | None = None, familiarity: Familiarity | None = None,
    training: Mapping[str, Any] | None = None, weights: Mapping[str, torch.Tensor] | None = None,
    templates: Sequence[TemplateDecision] = (),
) -> None:  # fmt: skip
    """Write an inference checkpoint, replacing an older one only when complete.

    Args: weights: the model's state where it is not the model's own, being in parts on several devices.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "twin_dcal": __version__,
        "config": config.model_dump(mode="json"),
        "weights": {key: value.detach().cpu() for key, value in (weights or model.state_dict()).items()},
        "face_graph": _face_graph(model),
        "preprocessing": Preprocessing.of(model.backbone, config).to_dict(),
        **_decision(threshold, calibration, error_curve, templates),
        "fusion": None if fusion is None else fusion.to_dict(),
        "familiarity": None if familiarity is None else familiarity.to_dict(),
        "training": dict(training or {}),
    }
    write_tensors(path, content)


def store_decision(
    path: str | Path, threshold: Threshold, calibration: Calibration | None, error_curve: ErrorCurve | None,
    templates: Sequence[TemplateDecision] = (), *, expected_sha256: str,
) -> None:  # fmt: skip
    """Put threshold, calibration, error curve and those of templates into a checkpoint; all else stays as it is, bit
    for bit.

    Args: expected_sha256: of the file that was evaluated. ModelError if the file is another one by now or damaged, or
    for what no reader would accept; nothing is written then.
    """
    stored = _read(path, FORMAT, FORMAT_VERSION)
    if stored.sha256 != expected_sha256:
        raise ModelError(f"{path}: it has changed since it was evaluated; evaluate it again")
    content = stored.content | _decision(threshold, calibration, error_curve, templates)
    with _told(path):
        read_entries(content)
    write_tensors(path, content)


def _decision(
    threshold: Threshold | None, calibration: Calibration | None, error_curve: ErrorCurve | None,
    templates: Sequence[TemplateDecision],
) -> dict[str, Any]:  # fmt: skip
    """The entries of a checkpoint that a decision needs, in plain types."""
    told = None if threshold is None else {"value": threshold.value, "origin": dict(threshold.origin)}
    return {
        "threshold": told,
        "calibration": None if calibration is None else calibration.to_dict(),
        "error_curve": None if error_curve is None else error_curve.to_dict(),
        "templates": [each.to_dict() for each in templates],
    }


def _face_graph(model: DCALVerificationModel) -> torch.Tensor | None:
    """The structure of a face network that came as an ONNX file: uint8, its protobuf without the weights."""
    skeleton = model.backbone.skeleton
    return None if skeleton is None else torch.frombuffer(bytearray(skeleton), dtype=torch.uint8)


def skeleton_of(content: Mapping[str, Any]) -> Skeleton | None:
    """The structure of the face network in a checkpoint's content, where it came as an ONNX file."""
    graph = content.get("face_graph")  # absent in files of earlier releases
    if graph is None:
        return None
    if not isinstance(graph, torch.Tensor) or graph.dtype != torch.uint8:
        raise ModelError("its face network's graph is no graph")
    num_bytes = sum(value.numel() * value.element_size() for value in content["weights"].values())
    return Skeleton(graph.numpy().tobytes(), num_bytes)


def read_model_content(path: str | Path) -> dict[str, Any]:
    """The entries of an inference checkpoint as they were written, each checked. ModelError as `load_model`."""
    stored = _read(path, FORMAT, FORMAT_VERSION)
    with _told(path):
        config = TwinVerificationConfig.from_dict(stored.content["config"], str(path))
        _entries(stored.content, _outline(stored.content, config))
        content: dict[str, Any] = _owned(stored.content)
    return content


def load_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Read an inference checkpoint. ModelError: missing, foreign, damaged, contradictory, or of another version."""
    stored = _read(path, FORMAT, FORMAT_VERSION)
    with _told(path):
        config = TwinVerificationConfig.from_dict(stored.content["config"], str(path))
        entries = _entries(stored.content, _outline(stored.content, config))
        model = _model(stored.content, config)
    return LoadedModel(
        model.to(device), config,
        Preprocessing(entries.image_size, entries.mean, entries.std, entries.landmarks), entries.threshold,
        entries.calibration, entries.error_curve, entries.fusion, entries.familiarity, entries.training,
        entries.templates, stored.sha256,
    )  # fmt: skip


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """What is wrong with a file's content, as one line that names the file."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, MetricError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:250]
        raise ModelError(f"{path}: an entry is missing or of the wrong kind ({reason})") from error


def _outline(content: Mapping[str, Any], config: TwinVerificationConfig) -> DCALVerificationModel:
    """The network without memory. ModelError, whatever size both claim, unless the weights are its own."""
    if comes_with_structure(config.model.backbone) and content.get("face_graph") is None:
        raise ModelError(f"the structure of its '{config.model.backbone[:80]}' is missing")
    with outlining():
        outline = DCALVerificationModel.from_config(config, with_weights=False, skeleton=skeleton_of(content))
    refuse_misfit(outline, content["weights"])
    refuse_not_finite(content["weights"])
    return outline


def _entries(content: Mapping[str, Any], outline: DCALVerificationModel) -> Entries:
    entries = read_entries(content)
    if entries.image_size != outline.image_size:
        raise ModelError(
            f"pictures of {in_words(entries.image_size)} pixels for a network of {in_words(outline.image_size)} pixels"
        )
    untouched = outline.backbone.untouched_dim
    if entries.fusion is not None and entries.fusion.split != untouched:
        raise ModelError(
            f"its fusion cuts after {entries.fusion.split} numbers, its network after {untouched}"
        )
    return entries


def _model(content: Mapping[str, Any], config: TwinVerificationConfig) -> DCALVerificationModel:
    """The network with its weights, in evaluation mode."""
    model = DCALVerificationModel.from_config(config, with_weights=False, skeleton=skeleton_of(content))
    model.load_state_dict(content["weights"], strict=True)
    return model.eval()


def write_tensors(path: str | Path, content: Mapping[str, Any]) -> None:
    """`torch.save` that leaves the old file untouched until the new one is complete. OSError if it cannot be."""
    _refuse_objects(content, "content")
    with replacing(path) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # how torch's writer reports a disk that filled up on the way
            raise OSError(f"{path}: cannot be written ({str(error).splitlines()[0][:200]})") from error


def _refuse_objects(value: object, place: str) -> None:
    """TypeError for anything that would not load with ``weights_only=True``."""
    if type(value) in (dict, OrderedDict):
        for key, item in cast(dict[object, object], value).items():
            _refuse_objects(key, place)
            _refuse_objects(item, f"{place}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(cast(list[object], value)):
            _refuse_objects(item, f"{place}[{index}]")
    elif value is not None and type(value) not in (str, bool, int, float, torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"checkpoints hold tensors and plain values; {place} is a {type(value).__name__}")


@dataclass(frozen=True)
class _Stored:
    """A file's content, whose tensors are views of its bytes, and the digest of these bytes."""

    content: dict[str, Any]
    sha256: str


def read_tensors(path: str | Path, kind: str, version: int) -> dict[str, Any]:
    """A file of `write_tensors`, of the given format and version. ModelError says what is wrong with it."""
    content: dict[str, Any] = _owned(_read(path, kind, version).content)
    return content


def _owned(value: Any) -> Any:
    """The same with tensors that have memory of their own. Containers are kept: they are this reader's."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _owned(item)
        return value
    if isinstance(value, list | tuple):
        return type(value)(map(_owned, value))
    return value


def _read(path: str | Path, kind: str, version: int) -> _Stored:
    """Read a file once. ModelError as `read_tensors`."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint")
    try:
        data = bytearray(path.read_bytes())
        content = unpickle(records(data))
    except NotPlainError as error:
        raise ModelError(f"{path}: holds something other than tensors and plain values; not read") from error
    except (ArchiveError, DamagedError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: not a checkpoint, or damaged ({reason})") from error
    except MemoryError as error:
        raise ModelError(f"{path}: larger than this machine's memory") from error
    _refuse_other_formats(content, kind, version, path)
    return _Stored(content, hashlib.sha256(data).hexdigest())


def _refuse_other_formats(content: Any, kind: str, version: int, path: Path) -> None:
    told = content.get("format", "no format name") if isinstance(content, dict) else type(content).__name__
    if not isinstance(told, str) or not isinstance(content, dict) or told != kind:
        raise ModelError(f"{path}: expected a '{kind}' file, found {' '.join(repr(told).split())[:80]}")
    found = content.get("format_version")
    if type(found) is not int or found != version:
        raise ModelError(
            f"{path}: format version {_short(found)}; this release reads version {version}. "
            f"It was written by twin_dcal {_short(content.get('twin_dcal', 'unknown'))}."
        )


def _short(value: object) -> str:
    """On one line, whatever it is."""
    return " ".join(str(value).split())[:40]
