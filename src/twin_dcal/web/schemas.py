"""What the API answers, as pydantic models: they are the OpenAPI schema, and they check what is sent.

Shapes: (Gh, Gw) is the grid of patches of the picture that the network sees, row 0 at the top.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, WithJsonSchema

Grid = list[list[FiniteFloat]]


class Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Problem(Plain):
    """Why a request was refused, in one line."""

    detail: str


Face = Literal["largest"] | Annotated[int, Field(ge=1, le=1000)]
_FACES = r"(largest|[1-9][0-9]{0,2}|1000)"
Faces = Annotated[
    tuple[Face, ...],
    BeforeValidator(lambda given: given.split(",") if isinstance(given, str) else given),
    WithJsonSchema({"type": "string", "pattern": f"^{_FACES}(,{_FACES})*$"}),
]
"""One choice for all photos of a side, or one for each, with commas between them."""


class Options(Plain):
    """The text fields of a request beside its photos."""

    threshold: float | None = Field(
        None, ge=-1, le=1, allow_inf_nan=False, description="Similarity to decide at, for this request only."
    )
    threshold_probability: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False,
        description="The same, by the verification_score that it has.",
    )  # fmt: skip
    fuse: Literal["quality", "mean", "max", "scores"] = Field(
        "quality",
        description="How several photos of one person are taken together: mean features, weighted by the quality of "
        "the faces or not; the highest score of two photos; the mean of all scores.",
    )
    face1: Faces = Field(
        ("largest",),
        description="Of several faces in the first photo: the largest central one, or one by its number from the left. "
        "Of several photos, one choice for all, or one for each with commas between them.",
    )
    face2: Faces = Field(("largest",), description="The same of the second photo.")
    explain: Literal["none", "attention", "pair"] = Field(
        "none",
        description="Also send maps: where the model looked (attention), or besides what made this pair alike or "
        "different (pair), which takes many times as long as the decision.",
    )
    crops: bool = Field(
        False,
        description="Also send the crops that were compared, as the photos show them, as PNG data URLs.",
    )


_FACE = "largest, or a number from the left (1 to 1000)"
_NUMBER = "a number from 1 to 10"
_FUSE = "quality, mean, max or scores"
ALLOWED: Mapping[str, str] = {
    "threshold": "a number from -1 to 1", "threshold_probability": "a number from 0 to 1",
    "fuse": _FUSE, "photos1": _NUMBER, "photos2": _NUMBER, "face1": _FACE, "face2": _FACE,
    "explain": "none, attention or pair", "crops": "true or false",
}  # fmt: skip
"""What the fields of `Options`, and numbers of photos, take, for whoever sent something else."""


def wrong_value_message(name: str, given: object) -> str:
    """One line about a field with a wrong value: what was given, and what may be."""
    return f"{name}: {str(given)[:40]!r} given; give {ALLOWED[name]}"


class RatesAt(Plain):
    """Error rates of deciding at one similarity, on the model's validation pairs. Shares in [0, 1]."""

    fmr: float = Field(description="False matches among the impostors named by `on`.")
    fnmr: float = Field(description="Genuine pairs refused.")
    twin_fmr: float | None = Field(description="False matches among twins; null where validation had none.")
    unrelated_fmr: float | None = Field(
        description="Among people not related; null where validation had none."
    )
    on: str
    weak: list[str] = Field(description="Rates with fewer than 30 errors behind them.")


class Curve(Plain):
    """The error curve stored with the model. At or above thresholds[i]: fmr[kind][i]; below it: fnmr[i]."""

    thresholds: list[float]
    fnmr: list[float]
    fmr: dict[str, list[float]] = Field(description="By kind of impostor: twin, unrelated, all.")
    num_genuine: int
    num_impostors: dict[str, int]
    data: str = Field(description="Which validation pairs.")


class RatesAnswer(Plain):
    """`curve` is null for a model file that stores no error curve, and then `at` is too."""

    curve: Curve | None
    threshold: float = Field(description="The one for so many photos.")
    photographs: tuple[int, int] = Field(
        description="Of how many photos of each person curve and threshold are: the nearest number that is known."
    )
    at: RatesAt | None = Field(None, description="At the threshold asked for.")


class ModelInfo(Plain):
    """The model file by name and hash; its folder is not told."""

    file: str
    sha256: str
    format: str
    backbone: str
    branches: list[str]


class Limits(Plain):
    """What is refused above."""

    photo_bytes: int
    photo_pixels: int
    photos: int = Field(description="Of one person.")
    total_bytes: int = Field(description="All photos of a request together.")


class ModelAnswer(ModelInfo):
    """The model, how it decides, and what this page can do with it."""

    image_size: int | tuple[int, int] = Field(
        description="Pixels that the network sees: the side of a square, or rows and columns."
    )
    device: str
    threshold: float
    threshold_source: dict[str, Any]
    calibrated: bool
    warnings: list[str] = Field(description="What to know before relying on any decision of this model.")
    explains: list[str] = Field(description="What `explain` may ask for, besides none.")
    limits: Limits
    version: str


class Match(Plain):
    """A patch of the first photo and the patch of the second that answers to it.

    weight: its part in the similarity, positive where it speaks for one person.
    """

    row1: int
    col1: int
    row2: int
    col2: int
    weight: FiniteFloat


class Maps(Plain):
    """Where the model looked; a pair of grids (Gh, Gw) each, first and second photo. Null: the model has none."""

    rollout: tuple[Grid, Grid] | None = Field(None, description="Share of each patch in the SA embedding.")
    glca_attention: tuple[Grid, Grid] | None = Field(None, description="GLCA's attention of CLS to patches.")
    glca_regions: tuple[Grid, Grid] | None = Field(None, description="1 for patches that GLCA chose, else 0.")
    pair: tuple[Grid, Grid] | None = Field(
        None, description="What made this pair alike (positive) or different (negative)."
    )
    regions_count: bool = Field(True, description="Whether GLCA's choice reaches the similarity at all.")
    matches: list[Match] = Field([], description="Rows and columns are those of `pair`'s grid.")
    method: str = Field("", description="How `pair` was found.")

    @classmethod
    def of_explanation(cls, told: Mapping[str, Any]) -> Self:
        """From the plain values of a `PairExplanation` (its `to_dict`)."""

        def both(name: str) -> Any:
            return None if told[f"{name}1"] is None else (told[f"{name}1"], told[f"{name}2"])

        matches = [
            Match(row1=match["first"][0], col1=match["first"][1], row2=match["second"][0], col2=match["second"][1],
                  weight=match["strength"])
            for match in told["matches"]
        ]  # fmt: skip
        return cls(
            rollout=both("rollout"), glca_attention=both("glca"), glca_regions=both("glca_chosen"),
            pair=both("attribution"), regions_count=told["glca_uses_chosen"], matches=matches, method=told["method"],
        )  # fmt: skip


Box = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class SeenFace(Plain):
    """The face of a photo that was compared, and all others in it."""

    number: int = Field(description="From the left, 1 the first.")
    boxes: list[Box] = Field(
        description="x, y, width, height of every face from left to right, in the photo's pixels."
    )
    picture: tuple[int, int] = Field(description="Width and height of the photo, upright.")


class Known(Plain):
    """How far a photo is from the model's training pictures in sharpness, texture, noise and colours."""

    distance: float
    limit: float = Field(description="A photo beyond it is warned about.")
    share: float = Field(description="Of validation pictures, those that are less far.")
    beyond: bool


class Photograph(Plain):
    """One of several photos of a person, and what it does to the decision."""

    weight: float = Field(description="In the mean of its side; they add up to 1.")
    contribution: float | None = Field(
        description="By how much the similarity is higher with it than without it."
    )
    likeness: float | None = Field(description="Similarity to the mean of the others of its side.")
    outlier: bool = Field(description="It does not look like the others.")
    face: SeenFace | None = Field(description="Null where nobody looked for a face.")
    familiarity: Known | None = Field(description="Null where the model file does not say.")
    crop: str | None = Field(None, description="The square that was compared, as a PNG data URL, on request.")


class Decision(Plain):
    """The fields of `VerificationResult`, and on request maps and squares; with several photos of a person those of
    `TemplateResult`."""

    verification_score: float | None = Field(
        description="Calibrated probability; null without a calibration."
    )
    verification_decision: bool
    prediction: int
    same_person: bool
    similarity: float = Field(
        description="Cosine of the embeddings, or the score that a fused model makes of two cosines; in [-1, 1]."
    )
    threshold: float
    threshold_source: dict[str, Any]
    estimated_fmr: float | None = Field(description="Of a threshold at this very similarity.")
    estimated_fnmr: float | None
    model: ModelInfo
    warnings: list[str]
    faces: tuple[SeenFace | None, SeenFace | None] = Field(
        (None, None), description="Of each photo; null where nobody looked for a face."
    )
    familiarity: tuple[Known | None, Known | None] = Field(
        (None, None), description="Of each photo; null where the model file does not say."
    )
    elapsed_ms: float = Field(description="Decoding, embedding, deciding and explaining; not waiting.")
    attention_maps: Maps | None = None
    crops: tuple[str, str] | None = Field(None, description="Of one photo each.")
    fuse: str | None = Field(None, description="How several photos were taken together; null for one each.")
    photographs: tuple[list[Photograph], list[Photograph]] | None = Field(
        None, description="Of either side, in the order they were sent; null for one photo each."
    )
