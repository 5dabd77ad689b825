"""Doddington's zoo: people whose error rates stand out, and by more than their few images explain.

Sources: Doddington, Liggett, Martin, Przybocki, Reynolds, "Sheep, goats, lambs and wolves", ICSLP 1998; Yager and
Dunstone, "The biometric menagerie", IEEE TPAMI 32(2), 2010. Legend: N images, P people.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TAIL = 0.025
"""Share of people at an end of the population who may be an animal (Yager and Dunstone look at quarters)."""
ERROR_RATE = 0.05
"""Chance that anybody at all of a population without animals is called one (Bonferroni over people)."""
MIN_IMAGES = 5


@dataclass(frozen=True, eq=False)
class Means:
    """A mean per person (P,), its standard error, and how many images are behind it; NaN where there are no pairs."""

    mean: Floats
    error: Floats
    num_images: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Individual:
    """What makes an animal: mean genuine score, mean score and false match rate against unrelated people."""

    genuine: Means
    impostor: Means
    false_matches: Means


def animals(people: Individual) -> Sequence[str]:
    """For every person "goat", "wolf", "lamb" or "", the first that applies.

    A goat is hard to recognise: mean genuine score in the lowest 2.5 % of people. A lamb resembles everybody: mean
    score against unrelated people in the highest 2.5 %. A wolf is accepted as others: false match rate against
    unrelated people, at the decision threshold, in the highest 2.5 %. The score of a pair has no direction, so who
    impersonates and who is impersonated cannot be told apart (Yager and Dunstone); lamb and wolf are told apart by
    scores and decisions instead.

    At least one person is looked at per end, and each must differ from the others' mean by more than the images
    explain: one-sided t-test with the standard error over the person's images, 5 % for the whole population.
    """
    goat = _stands_out(people.genuine, -1.0)
    wolf, lamb = _stands_out(people.false_matches, 1.0), _stands_out(people.impostor, 1.0)
    named: list[str] = np.select([goat, wolf, lamb], ["goat", "wolf", "lamb"], "").tolist()
    return named


def image_jackknife(
    sums: NDArray[np.number], pairs: NDArray[np.int64], person: NDArray[np.intp], *, shared: bool
) -> Means:
    """Mean over each person's pairs, and its standard error by leaving out one image of the person at a time.

    Pairs of one person share images, so they are not independent; images are. Source: Arvesen, "Jackknifing
    U-statistics", Annals of Mathematical Statistics 40 (1969).

    Args: sums, pairs (N,): total and number of the pairs that touch an image; person (N,): number of each image's
        person, 0 … P - 1; shared: whether both images of a pair are the person's (genuine pairs).
    """
    num_people = int(person.max()) + 1
    halves = 2 if shared else 1
    total = np.bincount(person, sums, num_people) / halves
    count = np.bincount(person, pairs, num_people) / halves
    used = pairs > 0
    left = count[person] - pairs
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        without = np.where(
            left > 0, (total[person] - sums) / left, np.nan
        )  # rounding may leave a sum of no pairs
    num_images = np.bincount(person[used], minlength=num_people)
    safe = np.maximum(num_images, 1)
    centre = np.bincount(person[used], without[used], num_people) / safe
    spread = np.bincount(person[used], (without - centre[person])[used] ** 2, num_people)
    return Means(mean, np.sqrt((safe - 1) / safe * spread), num_images.astype(np.intp))


def _stands_out(of: Means, sign: float) -> NDArray[np.bool_]:
    """Who is at the high end (sign 1) or the low end (-1) and significantly off the others."""
    known = np.isfinite(of.mean) & np.isfinite(of.error) & (of.num_images >= MIN_IMAGES)
    chosen = np.zeros(of.mean.size, np.bool_)
    if np.count_nonzero(known) < 3:
        return chosen
    rows = np.flatnonzero(known)
    mean, error = sign * of.mean[rows], of.error[rows]
    others = (mean.sum() - mean) / (rows.size - 1)
    others_error = mean.std(ddof=1) / math.sqrt(rows.size - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = (mean - others) / np.hypot(error, others_error)
    z = normal_deviate(off, of.num_images[rows] - 1)
    critical = NormalDist().inv_cdf(1 - ERROR_RATE / rows.size)
    last = np.argsort(-mean, kind="stable")[: math.ceil(TAIL * rows.size)]
    chosen[rows[last]] = z[last] > critical
    return chosen


def normal_deviate(t: Floats, freedom: NDArray[np.intp]) -> Floats:
    """The normal deviate with the tail probability of Student's t: within 2 % for 4 degrees of freedom or more.

    Source: Wallace, "Bounds on normal approximations to Student's and the chi-square distributions", Annals of
    Mathematical Statistics 30 (1959).
    """
    scale = (8.0 * freedom + 1) / (8.0 * freedom + 3)
    return np.asarray(np.sign(t) * scale * np.sqrt(freedom * np.log1p(t * t / freedom)))
