"""What a file decides, by the engine and by other readers: torch's and ONNX Runtime's, and arithmetic in float64."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from twin_dcal.checkpoint import skeleton_of
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.models.dcal import DCALVerificationModel

from .checkpoints import read
from .sound import pixels

_TOLERANCE = 2e-4
"""Of a similarity, and how near the threshold a pair may be decided either way."""


def checkpoint_wrong(path: Path) -> str | None:
    """What is wrong with the decisions of a checkpoint that is accepted; None where they are those of its content."""
    decided = _decided(path)
    content = read(path.read_bytes())
    return _compared(decided, _of_checkpoint(content), content)


def onnx_wrong(path: Path) -> str | None:
    """The same of an exported model."""
    decided = _decided(path)
    data = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    strings = session.get_modelmeta().custom_metadata_map
    content = {
        key.removeprefix("twin_dcal."): json.loads(text)
        for key, text in strings.items()
        if "twin_dcal." in key
    }
    (features,) = session.run(["combined"], {"pixels": pixels()})
    return _compared(decided, features, content)


def _decided(path: Path) -> list[tuple[bool, float, float | None]]:
    engine = TwinInferenceEngine(path, "cpu", align="never")
    given = pixels()
    results = [engine.verify_pair(given[at], given[at + 1]) for at in (0, 2)]
    json.dumps([result.to_dict() for result in results], allow_nan=False)  # every answer can be written down
    return [
        (result.verification_decision, result.similarity, result.verification_score) for result in results
    ]


def _of_checkpoint(content: dict[str, Any]) -> np.ndarray:
    config = TwinVerificationConfig.from_dict(content["config"])
    model = DCALVerificationModel.from_config(config, with_weights=False, skeleton=skeleton_of(content))
    model.load_state_dict(content["weights"], strict=True)
    mean, std = (np.asarray(content["preprocessing"][name], np.float32) for name in ("mean", "std"))
    given = (pixels().astype(np.float32) / 255 - mean) / std
    with torch.inference_mode():
        return model.eval().embed(torch.from_numpy(np.ascontiguousarray(given.transpose(0, 3, 1, 2)))).numpy()


def _compared(
    decided: list[tuple[bool, float, float | None]], features: np.ndarray, content: dict[str, Any]
) -> str | None:
    threshold, wide = content["threshold"]["value"], features.astype(np.float64)
    for (decision, similarity, score), at in zip(decided, (0, 2), strict=True):
        expected = _score(wide[at], wide[at + 1], content.get("fusion"))
        if not abs(similarity - expected) <= _TOLERANCE:
            return f"similarity {similarity}, expected {expected}"
        if abs(expected - threshold) > _TOLERANCE and decision != (expected >= threshold):
            return f"decided {decision} at similarity {expected} and threshold {threshold}"
        if score is not None and not 0 <= score <= 1:
            return f"probability {score}"
    return None


def _score(one: np.ndarray, two: np.ndarray, fusion: dict[str, Any] | None) -> float:
    if fusion is None:
        return float(one @ two)
    split, share = fusion["split"], fusion["share"]
    cosines = one[:split] @ two[:split] / share, one[split:] @ two[split:] / (1 - share)
    against = [
        weight - (kind[0] * cosines[0] + kind[1] * cosines[1] + kind[2])
        for weight, kind in ((0.0, fusion["twins"]), (3.0, fusion["strangers"])) if kind is not None
    ]  # fmt: skip
    return math.tanh(-float(np.logaddexp.reduce(against)) / 8)
