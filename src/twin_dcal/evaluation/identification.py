"""Searching a gallery: who is found for each image, and whether it is the twin (docs/metrics.md).

Everybody is enrolled with one template. Every other image is a probe, used for two searches: a mated one, in the whole
gallery, and a non-mated one, in the gallery without its own person. Terms of ISO/IEC 19795-1 and of NIST's FRTE 1:N. A
tie of scores counts against the system. Legend: G people in the gallery, Q probes, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import MetricError
from twin_dcal.metrics.fusion import Fusion, similarity_matrix
from twin_dcal.metrics.pairs import image_labels, normalize_rows
from twin_dcal.plural import plural

from .result import Figures

Template = Literal["first", "mean"]
RANKS = (1, 2, 5, 10, 20, 50)
FPIR_LEVELS = (1e-1, 1e-2, 1e-3)
AT_ONCE = 1 << 25
"""Scores in memory at a time."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Searches:
    """What the searches of Q probes found, (Q,) each.

    rank: of the own person, 1 where nobody scores as high; mate: score of the own person; stranger, twin: highest
    scores of other families and of the own family's other people, -inf where there are none.
    """

    rank: NDArray[np.int64]
    mate: Floats
    stranger: Floats
    twin: Floats
    num_people: int

    @property
    def has_twin(self) -> NDArray[np.bool_]:
        return np.isfinite(self.twin)

    @property
    def other(self) -> Floats:
        """The highest score of a non-mated search."""
        return np.maximum(self.stranger, self.twin)


def search(
    vectors: NDArray[np.float32], people: Sequence[Any] | NDArray[Any], families: Sequence[Any] | NDArray[Any],
    template: Template = "first", fusion: Fusion | None = None,
) -> Searches:  # fmt: skip
    """Search every probe in the gallery.

    Args: vectors (N, D), people, families (N,); template: "first" enrols each person's first image and probes with the
    others; "mean" enrols the mean of all images of unit length, of the probe's own person without the probe.
    MetricError for one person or no probe, and for a mean of vectors whose scores are fused.
    """
    if template not in get_args(Template):
        raise MetricError(f"template '{template}' is unknown. Use {' or '.join(get_args(Template))}.")
    if template == "mean" and fusion is not None:
        raise MetricError(
            "a mean of features has no fused score; enrol the first image (--identification first)."
        )
    unit, (person, family) = normalize_rows(vectors), image_labels(people, families)
    first = np.unique(person, return_index=True)[1]
    counts = np.bincount(person)
    probes = np.flatnonzero(counts[person] > 1)
    if template == "first":
        probes = np.setdiff1d(probes, first)
    if first.size < 2 or not probes.size:
        raise MetricError("identification needs two people or more, and one with two images or more.")
    sums = np.zeros((first.size, unit.shape[1]))
    np.add.at(sums, person, unit)
    gallery = unit[first] if template == "first" else normalize_rows(sums)
    parts = []
    for start in range(0, probes.size, max(AT_ONCE // first.size, 1)):
        rows = probes[start : start + max(AT_ONCE // first.size, 1)]
        scores = np.asarray(similarity_matrix(unit[rows], gallery, fusion), np.float64)
        own = person[rows]
        if template == "mean":
            without = normalize_rows(sums[own] - unit[rows])
            scores[np.arange(rows.size), own] = np.einsum("qd,qd->q", unit[rows], without)
        parts.append(_found(scores, own, family[rows], family[first]))
    rank, mate, stranger, twin = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Searches(rank, mate, stranger, twin, first.size)


def _found(
    scores: Floats, own: NDArray[np.intp], family: NDArray[np.intp], of_gallery: NDArray[np.intp]
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    rows = np.arange(own.size)
    mate = scores[rows, own].copy()
    scores[rows, own] = -np.inf
    rank = 1 + (scores >= mate[:, None]).sum(axis=1)
    related = family[:, None] == of_gallery[None]
    twin = np.where(related, scores, -np.inf).max(axis=1)
    return rank, mate, np.where(related, -np.inf, scores).max(axis=1), twin


def identification_figures(found: Searches, template: str, threshold: float | None) -> Figures:
    """CMC, the share of searches with the twin on top, FPIR and FNIR, as plain values.

    Args: threshold: the decision threshold; None rejects every candidate.
    """
    at = np.inf if threshold is None else threshold
    with_twin = found.has_twin
    ranks = [rank for rank in RANKS if rank <= found.num_people]
    first = found.rank == 1
    twin_first = found.twin >= np.maximum(found.mate, found.stranger)
    return {
        "template": template,
        "num_people": found.num_people,
        "num_probes": int(found.rank.size),
        "num_probes_with_twin": int(with_twin.sum()),
        "cmc": {str(rank): float((found.rank <= rank).mean()) for rank in ranks},
        "rank_1": float(first.mean()),
        "rank_1_with_twin": _share(first, with_twin),
        "twin_at_rank_1": _share(twin_first, with_twin),
        "twin_first_without_person": _share(found.twin >= found.stranger, with_twin),
        "at_threshold": {
            "threshold": threshold,
            "fnir": float((found.mate < at).mean()),
            "fnir_rank_1": float((~first | (found.mate < at)).mean()),
            "fpir": float((found.other >= at).mean()),
            "fpir_twin_enrolled": _share(found.other >= at, with_twin),
            "fpir_no_twin": float((found.stranger >= at).mean()),
        },
        "fnir_at_fpir": [_at_fpir(found, level) for level in FPIR_LEVELS],
    }


def _at_fpir(found: Searches, level: float) -> Figures:
    """FNIR at the lowest observed score whose FPIR does not exceed the asked one, ties counted."""
    highest = np.sort(found.other)[::-1]
    allowed = int(np.floor(level * highest.size + 1e-9))
    scores = np.sort(np.concatenate([found.other, found.mate]))
    above = scores[scores > highest[allowed]] if allowed < highest.size else scores
    threshold = float(above[0]) if above.size else np.inf
    return {
        "fpir_requested": level,
        "fpir_achieved": float((highest >= threshold).mean()),
        "fnir": float((found.mate < threshold).mean()),
        "threshold": threshold if np.isfinite(threshold) else None,
        "supported": allowed >= 1,
    }


def _share(true: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(true[among].mean()) if among.any() else None


def identification_lines(figures: Figures | None) -> list[str]:
    """The figures as text for a terminal."""
    if not figures:
        return []
    at = figures["at_threshold"]
    cmc = ", ".join(f"rank {rank}: {100 * share:.2f} %" for rank, share in figures["cmc"].items())
    template = "their first image" if figures["template"] == "first" else "the mean of their images"
    lines = [
        "",
        f"Identification: {plural(figures['num_probes'], 'probe')} searched among "
        f"{plural(figures['num_people'], 'person', 'people')} enrolled with {template}.",
        f"The right person is among the first candidates (CMC): {cmc}.",
    ]
    if figures["num_probes_with_twin"]:
        lines.append(
            f"Of {plural(figures['num_probes_with_twin'], 'probe')} of people with a twin enrolled, the twin is at "
            f"rank 1 for {figures['twin_at_rank_1']:.2%}; with the person not enrolled, for "
            f"{figures['twin_first_without_person']:.2%}."
        )
    told = f"At the threshold: FNIR {at['fnir']:.2%}, FPIR {at['fpir']:.2%}"
    if at["fpir_twin_enrolled"] is not None:
        told += f" ({at['fpir_twin_enrolled']:.2%} with the twin enrolled, {at['fpir_no_twin']:.2%} without the family)"
    return [*lines, f"{told}."]
