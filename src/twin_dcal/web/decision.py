"""From two uploaded photos to an answer: what a worker thread does."""

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from twin_dcal._version import __version__
from twin_dcal.data.decode import decode_pixels
from twin_dcal.errors import ConfigError
from twin_dcal.inference.aligning import Prepared
from twin_dcal.inference.backend import ModelSource
from twin_dcal.inference.deciding import Deciding
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.inference.result import VerificationResult
from twin_dcal.metrics.error_curve import Rates
from twin_dcal.model_file.provenance import told_of_training
from twin_dcal.prepare.align import FaceChoice

from .queue import stop_if_dropped
from .schemas import (
    Curve,
    Decision,
    Known,
    Limits,
    Maps,
    ModelAnswer,
    ModelInfo,
    Options,
    RatesAnswer,
    RatesAt,
    SeenFace,
)
from .uploads import MAX_PHOTO_BYTES, Upload

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Explain = Callable[[Prepared, Prepared], tuple[VerificationResult, Mapping[str, Any] | Maps]]
"""The decision on two prepared pictures and their maps, together since one pass may give both: `Maps`, or values under
its names; any may be left out."""

Explains = Mapping[str, Explain]
"""What is offered: "attention", which is quick, and "pair", which holds its maps too and may take long."""

MAX_PIXELS = 50_000_000
"""Of an upload: a 50-megapixel photo takes 150 MB once decoded."""

_FOLDERS = re.compile(r"^(?:[A-Za-z]:)?[\\/](?:[^\\/:]+[\\/])*")


def decide(engine: TwinInferenceEngine, explains: Explains, upload: Upload) -> Decision:
    """Decide on an upload. ImageError, in one line, for a photo that cannot be read; Dropped when nobody waits."""
    began = time.perf_counter()
    options = upload.options
    asked = _asked(engine, options)
    one, two = (
        _looked_at(engine, photo, name, face)
        for photo, name, face in ((upload.img1, "img1", options.face1), (upload.img2, "img2", options.face2))
    )
    maps: Maps | None = None
    warnings: list[str] = []
    if options.explain == "none":
        result = engine.decide(one, two)
    else:
        result, found = explains[options.explain](one, two)
        maps, warnings = _maps(found)
    crops = (_png_url(one.shown()), _png_url(two.shown())) if options.crops else None
    result = result if asked is None else asked.applied(result)
    same = result.verification_decision
    return Decision(
        verification_score=result.verification_score, verification_decision=same, prediction=int(same),
        same_person=same, similarity=result.similarity, threshold=result.threshold,
        threshold_source=_without_folders(result.threshold_source), estimated_fmr=result.estimated_fmr,
        estimated_fnmr=result.estimated_fnmr, model=model_info(engine.source),
        warnings=[*result.warnings, *warnings], faces=(_seen_face(one), _seen_face(two)),
        familiarity=(_known(one), _known(two)), elapsed_ms=1000 * (time.perf_counter() - began),
        attention_maps=maps, crops=crops,
    )  # fmt: skip


def _looked_at(engine: TwinInferenceEngine, photo: bytes, name: str, face: FaceChoice) -> Prepared:
    pixels = decode_pixels(photo, name, MAX_PIXELS)
    stop_if_dropped()
    seen = engine.prepare_image(pixels, name, face, surface="page")
    stop_if_dropped()
    return seen


def _asked(engine: TwinInferenceEngine, options: Options) -> Deciding | None:
    """What a request decides by, where it says so; the engine's own stays as it is. ConfigError where it cannot be."""
    if options.threshold is not None and options.threshold_probability is not None:
        raise ConfigError("threshold and threshold_probability exclude each other; give one")
    if options.threshold is not None:
        return engine.deciding.moved(options.threshold, "request")
    if options.threshold_probability is not None:
        return engine.deciding.moved_to_probability(options.threshold_probability, "request")
    return None


def _seen_face(picture: Prepared) -> SeenFace | None:
    face = picture.seen.face
    return (
        None
        if face is None
        else SeenFace(number=face["number"], boxes=face["boxes"], picture=face["picture"])
    )


def _known(picture: Prepared) -> Known | None:
    judged = picture.seen.familiarity
    return None if judged is None else Known.model_validate(dict(judged))


def _maps(told: Mapping[str, Any] | Maps) -> tuple[Maps | None, list[str]]:
    """Maps ready to be sent, or the warning that takes their place: a decision stands without them."""
    try:
        return Maps.model_validate(told), []
    except ValidationError:
        logger.exception("maps that cannot be sent")
        return None, [
            "the maps of where the model looked could not be made; the server's log has the details"
        ]


def model_info(source: ModelSource) -> ModelInfo:
    return ModelInfo(
        file=PurePath(source.path).name, sha256=source.sha256, format=source.format, backbone=source.backbone,
        branches=list(source.branches),
    )  # fmt: skip


def model_answer(engine: TwinInferenceEngine, explains: Explains) -> ModelAnswer:
    source = engine.source
    return ModelAnswer(
        **model_info(source).model_dump(), image_size=source.image_size, device=engine.backend.device,
        threshold=engine.threshold, threshold_source=_without_folders(engine.threshold_source),
        calibrated=engine.deciding.calibration is not None, warnings=list(told_of_training(source.training)),
        explains=sorted(explains),
        limits=Limits(photo_bytes=MAX_PHOTO_BYTES, photo_pixels=MAX_PIXELS), version=__version__,
    )  # fmt: skip


def rates_answer(engine: TwinInferenceEngine, threshold: float | None) -> RatesAnswer:
    """The stored error curve, and the rates at a threshold where one is asked for."""
    curve = engine.deciding.error_curve
    rates = None if threshold is None else engine.rates(threshold)
    return RatesAnswer(
        curve=None if curve is None else Curve.model_validate(_without_folders(curve.to_dict())),
        at=None if rates is None else _rates_at(rates),
    )


def _rates_at(rates: Rates) -> RatesAt:
    return RatesAt.model_validate({**asdict(rates), "weak": list(rates.weak)})


def _without_folders(source: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with the name alone of a data set that is told by its path: where it lay is nobody's business."""
    return {
        name: _FOLDERS.sub("", value) if isinstance(value, str) else value for name, value in source.items()
    }


def _png_url(pixels: Pixels) -> str:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
