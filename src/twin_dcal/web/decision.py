"""From uploaded photos to an answer: what a worker thread does."""

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from twin_dcal._version import __version__
from twin_dcal.data.decode import decode_pixels
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.inference.aligning import FaceInfo, Prepared
from twin_dcal.inference.backend import ModelSource
from twin_dcal.inference.deciding import Deciding
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.inference.result import VerificationResult
from twin_dcal.inference.templates import Fuse, Side, rule_of
from twin_dcal.metrics.error_curve import Rates
from twin_dcal.model_file.provenance import training_warnings
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
    Photograph,
    RatesAnswer,
    RatesAt,
    SeenFace,
)
from .uploads import MAX_PHOTO_BYTES, MAX_PHOTOS, Upload

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Explain = Callable[[Prepared, Prepared], tuple[VerificationResult, Mapping[str, Any] | Maps]]
"""The decision on two prepared pictures and their maps, together since one pass may give both: `Maps`, or values under
its names; any may be left out."""

Explains = Mapping[str, Explain]
"""What is offered: "attention", which is quick, and "pair", which holds its maps too and may take long."""

MAX_PIXELS = 50_000_000
"""Of an upload: a 50-megapixel photo takes 150 MB once decoded."""

MAX_READING_SECONDS = 20.0
"""Of several photos: no further one is begun after that."""
_TILE = 256  # pixels a side of a square, where several are shown

_FOLDERS = re.compile(r"^(?:[A-Za-z]:)?[\\/](?:[^\\/:]+[\\/])*")


def decide(engine: TwinInferenceEngine, explains: Explains, upload: Upload) -> Decision:
    """Decide on an upload. ImageError, in one line, for a photo that cannot be read; Dropped when nobody waits."""
    began = time.perf_counter()
    if len(upload.img1) + len(upload.img2) > 2:
        return _decide_on_people(engine, upload, began)
    options = upload.options
    asked = _asked(engine, options)
    one, two = (
        _looked_at(engine, photo, name, face)
        for photo, name, face in (
            (upload.img1[0], "img1", options.face1[0]), (upload.img2[0], "img2", options.face2[0])
        )
    )  # fmt: skip
    maps: Maps | None = None
    warnings: list[str] = []
    if options.explain == "none":
        result = engine.decide(one, two)
    else:
        result, found = explains[options.explain](one, two)
        maps, warnings = _maps(found)
    return Decision(
        **_told(engine, result if asked is None else asked.applied(result), warnings),
        faces=(_seen_face(one.seen), _seen_face(two.seen)), familiarity=(_known(one.seen), _known(two.seen)),
        crops=(_png_url(one.shown()), _png_url(two.shown())) if options.crops else None,
        attention_maps=maps, elapsed_ms=1000 * (time.perf_counter() - began),
    )  # fmt: skip


def _decide_on_people(engine: TwinInferenceEngine, upload: Upload, began: float) -> Decision:
    """`decide` of several photos, with what each does to the decision."""
    options = upload.options
    asked = _asked(engine, options)
    one, two = (
        _photographed(engine, photos, name, faces, began)
        for photos, name, faces in (
            (upload.img1, "img1", options.face1), (upload.img2, "img2", options.face2)
        )
    )  # fmt: skip
    prepared = (*one.prepared, *two.prepared)
    features = engine.backend.embed(np.stack([picture.pixels for picture in prepared]))
    stop_if_dropped()
    of_one, of_two = (
        Side(side.name, [None] * len(side.prepared), part, [picture.seen for picture in side.prepared])
        for side, part in zip((one, two), np.split(features, [len(one.prepared)]), strict=True)
    )
    result = engine.decide_sides(of_one, of_two, options.fuse, began)
    if asked is not None:
        asked = asked.of_templates(rule_of(options.fuse), result.sizes)
    first, second = (
        [
            _photograph(each, picture.seen, crop if options.crops else None)
            for each, picture, crop in zip(told, side.prepared, side.crops, strict=True)
        ]
        for told, side in zip(result.photographs, (one, two), strict=True)
    )
    return Decision(
        **_told(engine, result if asked is None else asked.applied(result), []), fuse=result.fuse,
        photographs=(first, second), elapsed_ms=1000 * (time.perf_counter() - began),
    )  # fmt: skip


def _told(engine: TwinInferenceEngine, result: VerificationResult, warnings: list[str]) -> dict[str, Any]:
    """The fields of a decision on photos of any number."""
    same = result.verification_decision
    return {
        "verification_score": result.verification_score, "verification_decision": same, "prediction": int(same),
        "same_person": same, "similarity": result.similarity, "threshold": result.threshold,
        "threshold_source": _without_folders(result.threshold_source), "estimated_fmr": result.estimated_fmr,
        "estimated_fnmr": result.estimated_fnmr, "model": model_info(engine.source),
        "warnings": [*result.warnings, *warnings],
    }  # fmt: skip


@dataclass(frozen=True)
class _Photographed:
    """The photos of one side as the network sees them, and the squares that were compared as PNG data URLs."""

    name: str
    prepared: list[Prepared]
    crops: list[str]


def _photographed(
    engine: TwinInferenceEngine, photos: Sequence[bytes], name: str, faces: Sequence[FaceChoice], began: float
) -> _Photographed:  # fmt: skip
    """Of each photo only the square stays in memory: ten of 50 megapixels would take 1.5 GB.

    Args: faces: one choice for all, or one for each. ImageError where reading the photos takes too long.
    """
    prepared, crops = [], []
    choices = faces if len(faces) == len(photos) else [faces[0]] * len(photos)
    for number, (photo, face) in enumerate(zip(photos, choices, strict=True), start=1):
        if time.perf_counter() - began > MAX_READING_SECONDS:
            raise ImageError(
                f"{name}: the photos take more than {MAX_READING_SECONDS:g} seconds to read. Send fewer or smaller."
            )
        called = name if len(photos) == 1 else f"{name} photo {number}"
        picture = _looked_at(engine, photo, called, face)
        crops.append(_png_url(picture.shown(_TILE)))
        prepared.append(Prepared(picture.pixels, picture.seen))
    return _Photographed(name, prepared, crops)


def _photograph(told: Mapping[str, Any], seen: FaceInfo, crop: str | None) -> Photograph:
    kept = {name: told[name] for name in ("weight", "contribution", "likeness", "outlier")}
    return Photograph(**kept, face=_seen_face(seen), familiarity=_known(seen), crop=crop)


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


def _seen_face(seen: FaceInfo) -> SeenFace | None:
    face = seen.face
    return (
        None
        if face is None
        else SeenFace(number=face["number"], boxes=face["boxes"], picture=face["picture"])
    )


def _known(seen: FaceInfo) -> Known | None:
    return None if seen.familiarity is None else Known.model_validate(dict(seen.familiarity))


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
        calibrated=engine.deciding.calibration is not None, warnings=list(training_warnings(source.training)),
        explains=sorted(explains),
        limits=Limits(
            photo_bytes=MAX_PHOTO_BYTES, photo_pixels=MAX_PIXELS, photos=MAX_PHOTOS, total_bytes=2 * MAX_PHOTO_BYTES
        ),
        version=__version__,
    )  # fmt: skip


def rates_answer(
    engine: TwinInferenceEngine, threshold: float | None, fuse: Fuse = "quality", sizes: tuple[int, int] = (1, 1)
) -> RatesAnswer:  # fmt: skip
    """The stored error curve for so many photos, and the rates at a threshold where one is asked for."""
    deciding = engine.deciding.of_templates(rule_of(fuse), sizes)
    curve = deciding.error_curve
    rates = None if threshold is None else deciding.rates(threshold)
    first, second = deciding.origin.get("photographs", (1, 1))
    return RatesAnswer(
        curve=None if curve is None else Curve.model_validate(_without_folders(curve.to_dict())),
        threshold=deciding.required(), photographs=(first, second), at=None if rates is None else _rates_at(rates),
    )  # fmt: skip


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
