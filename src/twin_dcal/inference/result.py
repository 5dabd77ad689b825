"""What the engine says about a pair: typed, and a mapping with the names that older scripts read."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from twin_dcal.notebook import html_table

from .records import Records

_ALIASES = ("prediction", "same_person")


@dataclass(frozen=True, eq=False)
class VerificationResult(Mapping[str, Any]):
    """A decision on two pictures. Every field is a key as well, and so are `prediction` (1 or 0) and `same_person`.

    verification_score: probability that both show one person, in [0, 1], for equally many genuine pairs and hardest
        impostors (the checkpoint's calibration); None without a calibration.
    verification_decision: whether similarity >= threshold.
    similarity: how alike, in [-1, 1]: the cosine of the embeddings, or the score that a fused model makes of two
        cosines (`metrics.fusion`).
    threshold_source: where the threshold is from, and its error rates where they are known.
    estimated_fmr, estimated_fnmr: error rates that a threshold at this very similarity would have, on the validation
        pairs of the checkpoint: the share of impostors at least as alike, and of genuine pairs less alike. The former
        against twins where there were any. None without an error curve.
    model: path, sha256, format, backbone, branches.
    warnings: what a reader should know before relying on the decision.
    elapsed_ms: wall time of reading, embedding and deciding.
    faces: what was found in each picture: whether it was aligned, num_faces, the face's number from the left, its box
        (x, y, width, height) and landmarks, measured quality, the boxes of all faces from left to right, and the
        picture's width and height, all in its pixels; None where nothing was looked for.
    familiarity: of each picture, how far it is from the model's training pictures in sharpness, texture, noise and
        colours: `distance`, the `limit` beyond which it is warned about, the `share` of validation pictures that are
        less far, and whether it is `beyond` the limit; None where the model file does not say.
    attention_maps: on request, arrays of `twin_dcal.explain` as plain lists.
    """

    verification_score: float | None
    verification_decision: bool
    similarity: float
    threshold: float
    threshold_source: Mapping[str, Any]
    estimated_fmr: float | None
    estimated_fnmr: float | None
    model: Mapping[str, Any]
    warnings: tuple[str, ...]
    elapsed_ms: float
    attention_maps: Mapping[str, Any] | None = None
    faces: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None)
    familiarity: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None)

    def __repr__(self) -> str:
        return f"VerificationResult({', '.join(f'{name}{value}' for name, value in self._told())})"

    def _repr_html_(self) -> str:
        first, *rest = self._told()
        rows = [("decision", first[1]), *((name.strip(), value) for name, value in rest)]
        return html_table([*rows, *(("warning", text) for text in self.warnings)])

    def _told(self) -> list[tuple[str, str]]:
        score = [] if self.verification_score is None else [("score ", f"{self.verification_score:.3f}")]
        return [
            ("", "same person" if self.verification_decision else "different people"),
            ("similarity ", f"{self.similarity:+.3f}"), ("threshold ", f"{self.threshold:+.3f}"), *score,
        ]  # fmt: skip

    @property
    def prediction(self) -> int:
        return int(self.verification_decision)

    @property
    def same_person(self) -> bool:
        return self.verification_decision

    def __getitem__(self, key: str) -> Any:
        if key in _keys(type(self)):
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(_keys(type(self)))

    def __len__(self) -> int:
        return len(_keys(type(self)))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON."""
        told = dict(self)
        return told | {"warnings": list(self.warnings), "faces": list(self.faces),
                       "familiarity": list(self.familiarity), "model": dict(self.model),
                       "threshold_source": dict(self.threshold_source)}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TemplateResult(VerificationResult):
    """A decision on two people, of each of whom there are several photographs.

    Threshold, score and rates are those for so many photographs, where the model has them; `threshold_source` then has
    their numbers as `photographs`. `faces` and `familiarity` are those of a side with one photograph, None of others.

    fuse: how photographs were taken together. sizes: how many there are of each. photographs: of each side, of each one
        its `path`, `weight` in the mean (they add up to 1), `contribution` (by how much the similarity is higher with
        it than without it) and `likeness` (to the mean of the others of its side), both None where it is the only one,
        whether it is an `outlier`, its `face` and `familiarity`.
    """

    fuse: str = "quality"
    sizes: tuple[int, int] = (1, 1)
    photographs: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]] = ((), ())

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON."""
        photographs = [[dict(each) for each in side] for side in self.photographs]
        return super().to_dict() | {"sizes": list(self.sizes), "photographs": photographs}


@dataclass(frozen=True)
class Hit:
    """A person that a search found.

    similarity, threshold, same_person, verification_score, estimated_fmr, estimated_fnmr: as in a pair's result, for so
    many photographs. twins: the similarity of each enrolled twin of this person; margin: how far this person is above
    the nearest of them, None without any.
    """

    rank: int
    person: str
    similarity: float
    same_person: bool
    verification_score: float | None
    threshold: float
    estimated_fmr: float | None
    estimated_fnmr: float | None
    num_photographs: int
    twins: Mapping[str, float]
    margin: float | None


@dataclass(frozen=True)
class SearchResult:
    """The people most like a photograph, the most alike first, and what a reader should know.

    exact: whether everybody was compared, or a shortlist by FAISS (docs/people.md).
    """

    hits: tuple[Hit, ...]
    warnings: tuple[str, ...]
    num_people: int
    exact: bool
    elapsed_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON."""
        return {**asdict(self), "hits": [asdict(hit) for hit in self.hits], "warnings": list(self.warnings)}

    def records(self) -> Records:
        """A row for each hit, to be written or made a DataFrame."""
        return Records(asdict(hit) for hit in self.hits)


@cache
def _keys(kind: type[VerificationResult]) -> tuple[str, ...]:
    return (*(field.name for field in fields(kind)), *_ALIASES)


RESULT_KEYS = _keys(VerificationResult)
"""Every key of a result."""
