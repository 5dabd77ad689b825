"""The inference checkpoint, `best_model.pth`: everything a decision needs in one file.

Tensors and plain types only, read with ``weights_only=True``: a file with code in it is refused, not run.
"""

import hashlib
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch

from ._version import __version__
from .config import TwinVerificationConfig
from .errors import MetricError, ModelError
from .files import replacing
from .models.dcal import DCALVerificationModel
from .models.face.open import Skeleton
from .models.preprocessing import Preprocessing
from .verification.calibration import Calibration, calibration_from_dict
from .verification.fusion import Fusion
from .verification.stored import ErrorCurve, Threshold

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
    training: Mapping[str, Any]
    sha256: str


def save_model(
    path: str | Path, model: DCALVerificationModel, config: TwinVerificationConfig, *,
    threshold: Threshold | None = None, calibration: Calibration | None = None,
    error_curve: ErrorCurve | None = None, fusion: Fusion | None = None, training: Mapping[str, Any] | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
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
        **_decision(threshold, calibration, error_curve),
        "fusion": None if fusion is None else fusion.to_dict(),
        "training": dict(training or {}),
    }
    write_tensors(path, content)


def store_decision(
    path: str | Path, threshold: Threshold, calibration: Calibration | None, error_curve: ErrorCurve | None, *,
    expected_sha256: str,
) -> None:  # fmt: skip
    """Put threshold, calibration and error curve into a checkpoint; all else stays as it is, bit for bit.

    Args: expected_sha256: of the file that was evaluated. ModelError if the file is another one by now, or damaged.
    """
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != expected_sha256:
        raise ModelError(f"{path}: it has changed since it was evaluated; evaluate it again")
    content = read_tensors(path, FORMAT, FORMAT_VERSION)
    content |= _decision(threshold, calibration, error_curve)
    write_tensors(path, content)


def _decision(
    threshold: Threshold | None, calibration: Calibration | None, error_curve: ErrorCurve | None
) -> dict[str, Any]:
    """The entries of a checkpoint that a decision needs, in plain types."""
    told = None if threshold is None else {"value": threshold.value, "origin": dict(threshold.origin)}
    return {
        "threshold": told,
        "calibration": None if calibration is None else calibration.to_dict(),
        "error_curve": None if error_curve is None else error_curve.to_dict(),
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
    num_bytes = sum(value.numel() * value.element_size() for value in content["weights"].values())
    return Skeleton(graph.numpy().tobytes(), num_bytes)


def read_model_content(path: str | Path) -> dict[str, Any]:
    """The entries of an inference checkpoint as they were written. ModelError as `load_model`."""
    return read_tensors(path, FORMAT, FORMAT_VERSION)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Read an inference checkpoint. ModelError: missing, foreign, damaged, or of another format version."""
    content = read_tensors(path, FORMAT, FORMAT_VERSION)
    try:
        return _loaded(path, content, device)
    except (AttributeError, KeyError, TypeError, ValueError, MetricError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ModelError(f"{path}: an entry is missing or of the wrong kind ({reason})") from error


def _loaded(path: str | Path, content: Mapping[str, Any], device: torch.device | str) -> LoadedModel:
    config = TwinVerificationConfig.from_dict(content["config"], str(path))
    model = DCALVerificationModel.from_config(config, with_weights=False, skeleton=skeleton_of(content))
    try:
        model.load_state_dict(content["weights"], strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise ModelError(f"{path}: its weights do not fit its configuration: {reason}") from error
    threshold, calibration = content["threshold"], content["calibration"]
    curve, fusion = content.get("error_curve"), content.get("fusion")  # absent in files of earlier releases
    return LoadedModel(
        model=model.eval().to(device),
        config=config,
        preprocessing=Preprocessing.from_dict(content["preprocessing"]),
        threshold=None
        if threshold is None
        else Threshold(float(threshold["value"]), dict(threshold["origin"])),
        calibration=None if calibration is None else calibration_from_dict(calibration),
        error_curve=None if curve is None else ErrorCurve.from_dict(curve),
        fusion=None if fusion is None else Fusion.from_dict(fusion),
        training=dict(content["training"]),
        sha256=hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )


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


def read_tensors(path: str | Path, kind: str, version: int) -> dict[str, Any]:
    """A file of `write_tensors`, of the given format and version. ModelError says what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch writes checksums but does not look at them
                if (damaged := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(f"{path}: holds something other than tensors and plain values; not read") from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"{path}: not a checkpoint, or damaged ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != kind:
        found = (
            content.get("format", "no format name") if isinstance(content, dict) else type(content).__name__
        )
        raise ModelError(f"{path}: expected a '{kind}' file, found {found!r}")
    if content.get("format_version") != version:
        raise ModelError(
            f"{path}: format version {content.get('format_version')}; this release reads version {version}. "
            f"It was written by twin_dcal {content.get('twin_dcal', 'unknown')}."
        )
    return content
