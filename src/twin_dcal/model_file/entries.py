"""What a model file says beside its weights, checked the same way whether it is a checkpoint or an exported model.

Every number has a range, so that nothing that is read later can overflow, divide by zero or decide for everybody.
No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from twin_dcal.image_size import MAX_IMAGE_SIZE, ImageSize, image_size_of
from twin_dcal.metrics.calibration import Calibration, calibration_from_dict
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.templates import Rule, TemplateDecision

from .familiarity import LIMIT, NUM_LOOKS, Familiarity

ROUNDING = 2.0**-20
"""How far beyond [-1, 1] a stored cosine may lie: a threshold that refuses every pair is the next number above 1."""
MAX_POINTS = 100_000
"""Of an error curve or a calibration; training stores some hundred."""
MAX_DEPTH = 20
MAX_TEMPLATES = 100
"""Numbers of photographs and rules that thresholds are stored for; training stores 42."""

_LARGEST = 1e18
"""What numbers of a threshold stay below: JSON has no infinite ones."""

_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
_Cosine = Annotated[_Number, Field(ge=-1 - ROUNDING, le=1 + ROUNDING)]
_Share = Annotated[_Number, Field(ge=0, le=1)]
_Count = Annotated[int, Strict(), Field(ge=0, lt=2**53)]
_Text = Annotated[str, Strict(), Field(max_length=10_000)]
_Mean = Annotated[_Number, Field(ge=-10, le=10)]
_Deviation = Annotated[_Number, Field(ge=1e-4, le=10)]
_Points = Annotated[list[_Cosine], Field(min_length=1, max_length=MAX_POINTS)]
_Rates = Annotated[list[_Share], Field(min_length=1, max_length=MAX_POINTS)]
_Landmark = tuple[_Share, _Share]
_Side = Annotated[int, Strict(), Field(ge=1, le=MAX_IMAGE_SIZE)]


_FLATTEST = 0.02
"""Smallest singular value of a face's centred landmarks, in sides of the crop; a face that fills it has some 0.3."""
_OURS = ("set_by", "probability")
"""What a decision says of its threshold beside the file."""


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Preprocessing(_Schema):
    image_size: _Side | tuple[_Side, _Side]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]
    landmarks: tuple[_Landmark, _Landmark, _Landmark, _Landmark, _Landmark] | None = None

    @model_validator(mode="after")
    def _spans_a_face(self) -> Self:
        if self.landmarks is not None:
            points = np.array(self.landmarks)
            if np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[-1] < _FLATTEST:
                raise ValueError("its landmarks lie on one line or at one point")
        return self


class _ErrorOfChoice(_Schema):
    expected_fmr: _Share
    error: Annotated[_Number, Field(ge=0, le=100)]
    freedom: Annotated[_Number, Field(ge=1, le=1e9)]
    skewness: Annotated[_Number, Field(ge=-1e3, le=1e3)]


class _Origin(_Schema):
    """Of a threshold: whatever it was chosen by; what is shown with every decision has its kind."""

    model_config = ConfigDict(frozen=True, extra="allow")

    data: _Text | None = None
    criterion: _Text | None = None
    impostors: _Text | None = None
    fmr: _Share | None = None
    fnmr: _Share | None = None
    fmr_upper: _Share | None = None
    error_of_choice: _ErrorOfChoice | None = None


class _Threshold(_Schema):
    value: _Cosine
    origin: _Origin


class _Calibration(_Schema):
    """What both kinds have; `calibration_from_dict` knows the rest."""

    model_config = ConfigDict(frozen=True, extra="allow")

    slope: Annotated[_Number, Field(ge=0, le=1e12)] | None = None
    intercept: Annotated[_Number, Field(ge=-1e12, le=1e12)] | None = None
    scores: _Points | None = None
    probabilities: _Rates | None = None
    prior: _Share
    num_genuine: _Count
    num_impostors: _Count
    source: _Text


class _ErrorCurve(_Schema):
    thresholds: _Points
    fnmr: _Rates
    fmr: Annotated[dict[_Text, _Rates], Field(max_length=10)]
    num_genuine: _Count
    num_impostors: Annotated[dict[_Text, _Count], Field(max_length=10)]
    data: _Text


_Coefficient = Annotated[_Number, Field(ge=-1e4, le=1e4)]
_Coefficients = tuple[_Coefficient, _Coefficient, _Coefficient]


class _Fusion(_Schema):
    split: Annotated[_Count, Field(ge=1, le=100_000)]
    share: Annotated[_Number, Field(gt=0, lt=1)]
    twins: _Coefficients | None
    strangers: _Coefficients | None
    data: _Text = ""


_Look = Annotated[_Number, Field(ge=-1e3, le=1e3)]
_Spread = Annotated[_Number, Field(ge=1e-4, le=1e3)]
_Weight = Annotated[_Number, Field(ge=-1e4, le=1e4)]
_Looks = Field(min_length=NUM_LOOKS, max_length=NUM_LOOKS)


class _Familiarity(_Schema):
    mean: Annotated[list[_Look], _Looks]
    deviation: Annotated[list[_Spread], _Looks]
    whitening: Annotated[list[Annotated[list[_Weight], _Looks]], _Looks]
    levels: _Rates
    distances: Annotated[
        list[Annotated[_Number, Field(ge=0, le=1e6)]], Field(min_length=1, max_length=MAX_POINTS)
    ]
    num_train: _Count
    num_validation: _Count
    data: _Text

    @model_validator(mode="after")
    def _rises(self) -> Self:
        levels, distances = np.array(self.levels), np.array(self.distances)
        if levels.size != distances.size or (np.diff(levels) <= 0).any() or (np.diff(distances) < 0).any():
            raise ValueError("its distances do not rise with its levels")
        if levels[-1] < LIMIT:
            raise ValueError(f"its levels end below {LIMIT}")
        return self


_Photographs = Annotated[_Count, Field(ge=1, le=1000)]


class _Template(_Schema):
    rule: Rule
    sizes: tuple[_Photographs, _Photographs]
    threshold: _Threshold
    calibration: _Calibration
    error_curve: _ErrorCurve

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if not self.sizes[0] <= self.sizes[1] > 1:
            raise ValueError("its sizes are not those of templates, the smaller first")
        return self


class _Training(_Schema):
    model_config = ConfigDict(frozen=True, extra="allow")

    faces: _Text | None = None
    start: _Text | None = None

    split: dict[_Text, list[_Text]] | None = None


class _Entries(_Schema):
    preprocessing: _Preprocessing
    threshold: _Threshold | None
    calibration: _Calibration | None
    error_curve: _ErrorCurve | None = None  # absent in files of earlier releases, as are the next three
    fusion: _Fusion | None = None
    familiarity: _Familiarity | None = None
    templates: Annotated[list[_Template], Field(max_length=MAX_TEMPLATES)] = []
    training: _Training


@dataclass(frozen=True)
class Entries:
    """image_size in pixels, a side or rows and columns; mean, std of each channel on the [0, 1] scale; landmarks (5, 2)
    of the crops, of side 1."""

    image_size: ImageSize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    landmarks: tuple[tuple[float, float], ...] | None
    threshold: Threshold | None
    calibration: Calibration | None
    error_curve: ErrorCurve | None
    fusion: Fusion | None
    familiarity: Familiarity | None
    training: Mapping[str, Any]
    templates: tuple[TemplateDecision, ...]


def read_entries(content: Mapping[str, Any]) -> Entries:
    """The entries of a model file. ValueError or MetricError, in one line, for one that is missing or out of range."""
    try:
        checked = _Entries.model_validate(content)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
    refuse_objects(content["threshold"], "threshold", finite=True)
    refuse_objects(content["training"], "training")
    templates = tuple(_template(values, number) for number, values in enumerate(content.get("templates", ())))
    content = {
        name: _legible(value) if isinstance(value, Mapping) else value for name, value in content.items()
    }
    pixels, threshold, calibration = checked.preprocessing, content["threshold"], content["calibration"]
    curve, fusion = content.get("error_curve"), content.get("fusion")
    return Entries(
        image_size_of(pixels.image_size), pixels.mean, pixels.std, pixels.landmarks,
        None if threshold is None else Threshold(float(threshold["value"]), _origin(threshold["origin"])),
        None if calibration is None else calibration_from_dict(calibration),
        None if curve is None else _rising(ErrorCurve.from_dict(curve)),
        None if fusion is None else Fusion.from_dict(fusion),
        _familiarity(checked.familiarity),
        dict(content["training"]), templates,
    )  # fmt: skip


def _template(values: Mapping[str, Any], number: int) -> TemplateDecision:
    """What decides on templates, of values with the right kinds."""
    refuse_objects(values["threshold"], f"templates.{number}.threshold", finite=True)
    curve = ErrorCurve.from_dict(_legible(values["error_curve"]))
    return TemplateDecision(
        values["rule"], tuple(values["sizes"]),
        Threshold(float(values["threshold"]["value"]), _origin(values["threshold"]["origin"])),
        calibration_from_dict(_legible(values["calibration"])), _rising(curve),
    )  # fmt: skip


def _origin(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _legible(values).items() if name not in _OURS}


def _legible(values: Mapping[str, Any]) -> dict[str, Any]:
    """Texts without control characters, which a terminal would obey when a decision is printed."""
    return {
        name: "".join(char if char.isprintable() else ascii(char)[1:-1] for char in value)
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }


def read_familiarity(values: Any) -> Familiarity | None:
    """The entry alone. ValueError, in one line, for one that is out of range; None where there is none."""
    try:
        return None if values is None else _familiarity(_Familiarity.model_validate(values))
    except ValidationError as error:
        raise ValueError(f"familiarity.{first_fault(error)}") from None


def _familiarity(checked: _Familiarity | None) -> Familiarity | None:
    return None if checked is None else Familiarity.from_dict(checked.model_dump())


def _rising(curve: ErrorCurve) -> ErrorCurve:
    """ValueError unless a higher threshold refuses more genuine pairs and accepts fewer impostors, or as many."""
    if (np.diff(curve.fnmr) < 0).any() or any((np.diff(rates) > 0).any() for rates in curve.fmr.values()):
        raise ValueError("error_curve: its rates go up and down")
    return curve


def refuse_objects(value: object, place: str, *, finite: bool = False, depth: int = 0) -> None:
    """ValueError for what JSON could not hold: it is shown with results.

    Args: finite: also for infinite numbers, NaN, and what is larger than anything measured. Figures of a training may
    be NaN.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"{place}: nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place}: {key!r:.40} is no name")
            refuse_objects(item, f"{place}.{key:.40}"[:120], finite=finite, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_objects(item, place, finite=finite, depth=depth + 1)
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"{place}: a {type(value).__name__} where a plain value belongs")
    elif finite and isinstance(value, int | float) and not abs(value) < _LARGEST:  # NaN, too
        raise ValueError(f"{place}: a number that is none, or beyond all that is measured")


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: where, what, and what was given if that is short."""
    first = error.errors(include_url=False, include_context=False)[0]
    given = " ".join(repr(first["input"]).split())
    shown = f" (given: {given})" if len(given) <= 60 else ""
    return f"{'.'.join(map(str, first['loc']))[:120]}: {first['msg']}{shown}"
