"""Images of which no template was made and comparisons without a score: failures to acquire and to enrol, and the
error rates that count them, as ISO/IEC 19795-1 asks (docs/metrics.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin_dcal.errors import MetricError
from twin_dcal.metrics.pair_stream import SECTIONS
from twin_dcal.metrics.pairs import PairKind

Counts = NDArray[np.int64]

IMPOSTORS = {"twin": (PairKind.TWIN,), "unrelated": (PairKind.UNRELATED,), "all": tuple(PairKind)[1:]}


@dataclass(frozen=True)
class Failures:
    """What of an evaluation's images, people and comparisons failed, and of how many.

    people: None where unknown. pairs: failed comparisons by PairKind.
    """

    num_images: int
    num_failed_images: int
    num_people: int | None
    num_failed_people: int | None
    pairs: tuple[int, ...]


def failures_of(
    people: NDArray[np.str_] | None,
    is_kept: NDArray[np.bool_],
    failed_pairs: ArrayLike,
    earlier: Failures | None = None,
) -> Failures:
    """Args: people, is_kept (N,): of all images, and which gave a template; failed_pairs: number by PairKind; earlier:
    of images and comparisons that had failed before, to be added."""
    num_people = num_failed = None
    if people is not None:
        num_people = np.unique(people).size
        num_failed = num_people - np.unique(people[is_kept]).size
    pairs = np.asarray(failed_pairs, np.int64)
    num_images, num_failed_images = is_kept.size, int(is_kept.size - is_kept.sum())
    if earlier is not None:
        pairs = pairs + np.array(earlier.pairs)
        num_images, num_failed_images = (
            num_images + earlier.num_failed_images,
            num_failed_images + earlier.num_failed_images,
        )
        if num_people is not None and num_failed is not None and earlier.num_failed_people is not None:
            num_people, num_failed = (
                num_people + earlier.num_failed_people,
                num_failed + earlier.num_failed_people,
            )
    return Failures(num_images, num_failed_images, num_people, num_failed, tuple(pairs.tolist()))


def failures_from(values: object, file: str) -> Failures | None:
    """What `asdict` made of failures. MetricError for anything else."""
    if values is None:
        return None
    try:
        told = dict(values)  # type: ignore[call-overload]
        pairs = tuple(int(count) for count in told.pop("pairs"))
        counts: dict[str, Any] = {name: None if count is None else int(count) for name, count in told.items()}
        found = Failures(pairs=pairs, **counts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MetricError(f"{file}: its entry 'failures' is damaged ({str(error)[:100]})") from error
    if len(pairs) != len(PairKind) or min(pairs) < 0 or not 0 <= found.num_failed_images <= found.num_images:
        raise MetricError(f"{file}: its entry 'failures' is damaged")
    return found


def number_of_pairs(people: ArrayLike, families: ArrayLike) -> Counts:
    """How many pairs of each PairKind all pairs of some images (N,) are."""
    num_images = np.asarray(people).size
    person, family = (_pairs(np.unique(labels, return_counts=True)[1]) for labels in (people, families))
    return np.array([person, family - person, num_images * (num_images - 1) // 2 - family, 0])


def failure_figures(failures: Failures | None, figures: Mapping[str, Any]) -> dict[str, Any]:
    """FTA, FTE, and GFAR and GFRR at the decision threshold, as plain values.

    A comparison that failed is rejected, whatever its kind. GFAR: false matches by all impostor pairs, failed ones
    among them; GFRR: false non-matches and failed genuine pairs by all genuine pairs. Source: ISO/IEC 19795-1,
    generalized false accept and false reject rate; here counted pair by pair rather than multiplied from FTA and FTE.

    Args: figures: those of the report, with `protocol` and the sections.
    """
    if failures is None:
        num_images, num_people = (figures["protocol"][name] for name in ("num_images", "num_people"))
        none_failed = None if num_people is None else 0
        failures = Failures(num_images, 0, num_people, none_failed, (0,) * len(PairKind))
    told = {name: _generalised(failures, name, figures[name]) for name in SECTIONS if figures[name]}
    return {
        "num_images": failures.num_images,
        "num_failed_images": failures.num_failed_images,
        "fta": failures.num_failed_images / failures.num_images,
        "num_people": failures.num_people,
        "num_failed_people": failures.num_failed_people,
        "fte": None
        if failures.num_failed_people is None
        else failures.num_failed_people / (failures.num_people or 1),
        "num_failed_pairs": sum(failures.pairs),
        **{name: told.get(name) for name in SECTIONS},
    }


def _generalised(failures: Failures, name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    at = section["confusion"]
    genuine, impostors = (
        failures.pairs[PairKind.GENUINE],
        sum(failures.pairs[kind] for kind in IMPOSTORS[name]),
    )
    return {
        "num_failed_genuine": genuine,
        "num_failed_impostors": impostors,
        "gfar": at["num_false_matches"] / (section["num_impostors"] + impostors),
        "gfrr": (at["num_false_non_matches"] + genuine) / (section["num_genuine"] + genuine),
    }


def _pairs(sizes: Counts) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def images_in(rows: Sequence[NDArray[np.int64]], num_images: int) -> NDArray[np.bool_]:
    """(N,) which images are in any of some pairs."""
    seen = np.zeros(num_images, bool)
    for side in rows:
        seen[side] = True
    return seen
