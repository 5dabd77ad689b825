"""Several photographs of each: their features to one score, and what each photograph does to it. No torch here."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.templates import Rule, template_score
from twin_dcal.prepare.align import FaceChoice
from twin_dcal.prepare.quality import weight_of

from .aligning import FaceInfo
from .backend import ModelSource
from .deciding import Deciding
from .given import check_one_of
from .images import ImageInput
from .pictures import Embedder
from .result import TemplateResult
from .videos import as_photographs

Features = NDArray[np.float32]
Photographs = ImageInput | Sequence[ImageInput]
"""One or several of a person."""
Fuse = Literal["quality", "mean", "max", "scores"]
"""How photographs are taken together: the mean of their features, weighted by the quality of the faces where it is
known, or not weighted; the highest score of two photographs; the mean of these scores."""

_RARE = 0.01
"""A photograph is told of that is less like the others than all but this share of genuine comparisons."""


@dataclass(frozen=True, eq=False)
class Side:
    """The photographs of one side: its name, their paths, features (N, E), and what was seen in them.

    names: what messages call each, "photo 2" where none are given; notes: warnings about the side as a whole.
    """

    name: str
    paths: Sequence[str | None]
    features: Features
    seen: Sequence[FaceInfo]
    names: Sequence[str] = ()
    notes: tuple[str, ...] = ()

    def called(self, number: int) -> str:
        return self.names[number] if self.names else f"photo {number + 1}"

    def weights(self, fuse: Fuse) -> NDArray[np.float64] | None:
        """Shares (N,) of the photographs in their mean; None where all weigh alike."""
        qualities = [info.face.get("quality") if info.face else None for info in self.seen]
        known = [each for each in qualities if each is not None]
        if fuse != "quality" or len(known) < len(qualities) or len(known) < 2:
            return None
        weights = np.array([weight_of(each) for each in known])
        return np.asarray(weights / weights.sum())

    def without(self, number: int) -> "Side":
        rest = [at for at in range(len(self.paths)) if at != number]
        return Side(
            self.name,
            [self.paths[at] for at in rest],
            self.features[rest],
            [self.seen[at] for at in rest],
            [self.called(at) for at in rest],
        )

    def told(self) -> FaceInfo:
        """The face in the only photograph, without warnings; of several, each is told with its photograph."""
        return replace(self.seen[0], warnings=()) if len(self.seen) == 1 else FaceInfo()

    def warnings(self) -> tuple[str, ...]:
        """What is odd about all of them, and about each photograph."""
        several = len(self.seen) > 1
        return self.notes + tuple(
            f"{self.name}{f' {self.called(at)}' if several else ''}: {text}"
            for at, info in enumerate(self.seen)
            for text in info.warnings
        )


def embed_sides(
    embed: Embedder, given: Sequence[tuple[Photographs, str, FaceChoice]], shared: bool = False
) -> list[Side]:
    """Photographs of people, embedded together; a video is its best frames.

    Args: given: one or several photographs of each, what messages call them, and which face is meant; shared: that
    choice of a face is for other pictures too. ConfigError for a side without any.
    """
    listed: list[list[Any]] = [list(side) if isinstance(side, list | tuple) else [side] for side, *_ in given]
    if not all(listed):
        raise ConfigError("a side without a photograph; give one, or a list of some, for either side")
    photographs = [
        as_photographs(embed, side, name, face, shared)
        for side, (_, name, face) in zip(listed, given, strict=True)
    ]
    features, seen = embed([picture for pictures, *_ in photographs for picture in pictures])
    infos = [info for info in seen if isinstance(info, FaceInfo)]
    made, begin = [], 0
    for (pictures, names, notes), (_, name, _) in zip(photographs, given, strict=True):
        part = slice(begin, begin + len(pictures))
        paths = [picture.path for picture in pictures]
        made.append(Side(name, paths, features[part], infos[part], names, notes))
        begin += len(pictures)
    return made


def decide_sides(
    one: Side, two: Side, fuse: Fuse, source: ModelSource, deciding: Deciding, began: float
) -> TemplateResult:
    """The decision on two people. Args: source: the model; deciding: on single photographs, from which that on so many
    follows; began: `time.perf_counter()` when the work on the photographs began."""
    fusion, sizes = source.fusion, (len(one.paths), len(two.paths))
    unlike, told = zip(*(outliers(side, deciding, fusion) for side in (one, two)), strict=True)
    score = similarity(one, two, fuse, fusion)
    decided = deciding.of_templates(rule_of(fuse), sizes).decide(
        score, source, (one.told(), two.told()), began
    )
    photographs = tuple(
        described(side, other, fuse, fusion, score, of_side)
        for side, other, of_side in zip((one, two), (two, one), unlike, strict=True)
    )
    plain = {field.name: getattr(decided, field.name) for field in fields(decided)}
    plain["warnings"] = (*decided.warnings, *one.warnings(), *two.warnings(), *told[0], *told[1])
    plain["elapsed_ms"] = 1000 * (time.perf_counter() - began)
    return TemplateResult(**plain, fuse=fuse, sizes=sizes, photographs=(photographs[0], photographs[1]))


def check_fuse(fuse: str) -> None:
    check_one_of(fuse, Fuse, "fuse")


def rule_of(fuse: Fuse) -> Rule:
    """Whose thresholds hold: weights by quality change a mean too little to need their own (docs/results.md)."""
    return "mean" if fuse == "quality" else fuse


def similarity(one: Side, two: Side, fuse: Fuse, fusion: Fusion | None) -> float:
    """The score of two sides, in [-1, 1]."""
    weights = one.weights(fuse), two.weights(fuse)
    return template_score(one.features, two.features, rule_of(fuse), fusion, weights)


def outliers(side: Side, deciding: Deciding, fusion: Fusion | None) -> tuple[list[int], tuple[str, ...]]:
    """Photographs that do not look like the others of their side, the most unlike first, and warnings about them.

    One is told of where the mean of the others is less like it than all but 1 % of genuine comparisons of so many
    photographs, and would be decided to be another person; then it is left out and the rest are looked at again. Of two
    that are so unlike, neither is known to be the wrong one.
    """
    rest, found, told = list(range(len(side.paths))), [], []
    while len(rest) > 1:
        scores = [_likeness(side.features, at, rest, fusion) for at in rest]
        lowest = int(np.argmin(scores))
        one = deciding.of_templates("mean", (1, len(rest) - 1))
        rates = one.rates(scores[lowest])
        if scores[lowest] >= one.required() or (rates is not None and rates.fnmr > _RARE):
            break
        score = f"similarity {scores[lowest]:+.3f}"
        if len(rest) == 2:
            names = " and ".join(side.called(at) for at in rest)
            told.append(f"{side.name}: {names} do not look like one person ({score})")
            break
        at = rest.pop(lowest)
        found.append(at)
        told.append(f"{side.name}: {side.called(at)} does not look like the others ({score})")
    return found, tuple(told)


def _likeness(features: Features, at: int, among: Sequence[int], fusion: Fusion | None) -> float:
    others = [other for other in among if other != at]
    return template_score(features[[at]], features[others], "mean", fusion)


def described(
    side: Side, other: Side, fuse: Fuse, fusion: Fusion | None, score: float, unlike: Sequence[int]
) -> tuple[Mapping[str, Any], ...]:
    """Each photograph of a side as plain values (see `TemplateResult.photographs`). Args: score: of both sides."""
    weights, total = side.weights(fuse), len(side.paths)
    rest = list(range(total))
    return tuple(
        {
            "path": side.paths[at],
            "weight": 1 / total if weights is None else float(weights[at]),
            "contribution": score - similarity(side.without(at), other, fuse, fusion) if total > 1 else None,
            "likeness": _likeness(side.features, at, rest, fusion) if total > 1 else None,
            "outlier": at in unlike, "face": side.seen[at].face, "familiarity": side.seen[at].familiarity,
        }
        for at in rest
    )  # fmt: skip
