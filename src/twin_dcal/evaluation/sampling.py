"""Comparing a part of what there is: at most so many images of each person, so many unrelated pairs."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from twin_dcal.errors import MetricError

from .match_names import short_ids
from .protocol import Comparisons, Rows, keep_images, sample_unrelated


@dataclass(frozen=True)
class Sampling:
    """How many unrelated pairs, and images of each person, to compare; None compares all."""

    max_unrelated: int | None = None
    seed: int = 0
    max_images_per_person: int | None = None

    def of(self, comparisons: Comparisons) -> tuple[Comparisons, Rows]:
        """The part to compare, and the rows of its images (ascending)."""
        rows = np.arange(len(comparisons.names))
        if self.max_images_per_person is not None:
            comparisons, rows = limit_images(comparisons, self.max_images_per_person, self.seed)
        if self.max_unrelated is not None:
            comparisons = sample_unrelated(comparisons, self.max_unrelated, self.seed)
        return comparisons, rows


def limit_images(comparisons: Comparisons, most: int, seed: int) -> tuple[Comparisons, Rows]:
    """At most so many images of each person, and their rows.

    The choice is by a hash of seed and name below the folder that all images share, so it does not depend on the order
    of images or on who else is compared. MetricError where people are not known, or no pair is left.
    """
    if comparisons.people is None:
        raise MetricError(
            f"--max_images_per_person: {comparisons.source} does not say whose images are compared"
        )
    names = short_ids(comparisons.names)
    keys = [hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest() for name in names]
    chosen: dict[str, list[int]] = {}
    for row in sorted(range(len(names)), key=lambda row: (keys[row], names[row])):
        rows_of_person = chosen.setdefault(str(comparisons.people[row]), [])
        if len(rows_of_person) < most:
            rows_of_person.append(row)
    rows = np.array(sorted(row for each in chosen.values() for row in each), np.int64)
    kept = keep_images(comparisons, rows)
    if kept.pairs is not None and not len(kept.pairs.kinds):
        raise MetricError(f"{comparisons.source}: no pair is left with --max_images_per_person {most}")
    told = {"max_images_per_person": most, "of_images": len(names), "seed": seed}
    return replace(kept, protocol={**kept.protocol, **told}), rows
