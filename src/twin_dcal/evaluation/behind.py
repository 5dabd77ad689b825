"""How many people and families stand behind the figures, and behind the errors.

Pairs of one person are no independent observations, so a rate of many pairs may be that of very few people. What counts
then is not how many people there are but how evenly the pairs are theirs: Kish's effective number (Σn)² / Σn², n being
each one's share of the pairs (Kish, *Survey Sampling*, 1965, 11.7: the loss by unequal weights). It is the number of
people where all have equally many pairs, and near 1 where one has nearly all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from twin_dcal.metrics.error_rates import MIN_ERRORS
from twin_dcal.percent import percent
from twin_dcal.plural import plural

from .result import Figures, PersonErrors

MIN_EFFECTIVE = 20
"""Fewer effective people or families are warned of: the pairs tell of few people, however many pairs there are."""

KINDS = ("genuine", "twin", "unrelated")
_PEOPLE = ("person", "people")
_FAMILIES = ("family", "families")


def behind(people: Sequence[PersonErrors]) -> Figures | None:
    """Plain values for each kind of pair that there is; None where people are unknown.

    Of each kind: `num_pairs` and `num_errors` at the decision threshold; of people and of families (null where unknown)
    how many have such pairs (`num`), their `effective` number, the `largest` of them (`id`, `share` of the pairs that
    it is in) and how many have errors (`with_errors`). A pair of two people counts for both.
    """
    if not people:
        return None
    return {kind: told for kind in KINDS if (told := _of_kind(kind, people))["num_pairs"]}


def effective_number(shares: Sequence[int]) -> float:
    """Kish's (Σn)² / Σn²; 0 where nobody has any."""
    squares = sum(n * n for n in shares)
    return sum(shares) ** 2 / squares if squares else 0.0


def doubts(told: Figures | None, weights: str = "pairs") -> list[str]:
    """A warning for each kind of pair that comes from fewer than 20 effective people or families; where every person
    weighs the same, from fewer than 20 people or families."""
    return [
        f"{_evenly(kind, told[kind])} Read figures of these pairs as those of few people."
        for kind in ("genuine", "twin")
        if told and kind in told and _is_narrow(told[kind], "num" if weights == "people" else "effective")
    ]


def sentence(told: Figures | None) -> str:
    """Whose pairs and errors these are, for the first screen; "" where nobody knows."""
    if not told:
        return ""
    parts = [_evenly(kind, told[kind]) for kind in ("genuine", "twin") if kind in told]
    errors = {"genuine": "false non-match", "twin": "twin false match", "unrelated": "unrelated false match"}
    counted = [
        f"{plural(told[kind]['num_errors'], name, f'{name}es')} of {_people_with_errors(told[kind])}"
        for kind, name in errors.items()
        if kind in told and told[kind]["num_errors"]
    ]
    return " ".join([*parts, *([f"Errors: {', '.join(counted)}."] if counted else [])])


def few_errors(told: Figures | None, kind: str, num_false_matches: int, num_false_non_matches: int) -> str:
    """Which counts at the decision threshold are below 30 errors, with the people behind them, as in "1 false match (of
    2 people)"; "" if none is. Args: kind: of the impostors."""
    counts = (
        (num_false_matches, "false match", kind),
        (num_false_non_matches, "false non-match", "genuine"),
    )
    return " and ".join(
        f"{plural(number, name, f'{name}es')}{_of_whom(told, whose, number)}"
        for number, name, whose in counts
        if number < MIN_ERRORS
    )


def _of_kind(kind: str, people: Sequence[PersonErrors]) -> Figures:
    pairs, errors = _counts(kind, people)
    sides = 1 if kind == "genuine" else 2
    num_pairs, num_errors = sum(pairs.values()) // sides, sum(errors.values()) // sides
    families: Figures | None = None
    if all(person.family for person in people):
        family_of = {person.person: person.family for person in people}
        # A twin pair is within one family, where it is counted at both people; an unrelated one is in two.
        times = 2 if kind == "twin" else 1
        families = _shares(_summed(pairs, family_of), _summed(errors, family_of), num_pairs * times)
    return {
        "num_pairs": num_pairs,
        "num_errors": num_errors,
        "people": _shares(pairs, errors, num_pairs),
        "families": families,
    }


def _counts(kind: str, people: Sequence[PersonErrors]) -> tuple[Counter[str], Counter[str]]:
    names = {
        "genuine": ("num_genuine", "num_false_non_matches"),
        "twin": ("num_twin", "num_twin_false_matches"),
        "unrelated": ("num_unrelated", "num_unrelated_false_matches"),
    }[kind]
    pairs, errors = (Counter({person.person: getattr(person, name) for person in people}) for name in names)
    return pairs, errors


def _summed(counts: Mapping[str, int], family_of: Mapping[str, str]) -> Counter[str]:
    summed: Counter[str] = Counter()
    for person, number in counts.items():
        summed[family_of[person]] += number
    return summed


def _shares(pairs: Mapping[str, int], errors: Mapping[str, int], total: int) -> Figures:
    largest = max(sorted(pairs), key=lambda name: pairs[name])
    return {
        "num": sum(number > 0 for number in pairs.values()),
        "effective": effective_number(list(pairs.values())),
        "largest": {"id": largest, "share": pairs[largest] / total} if total else None,
        "with_errors": sum(number > 0 for number in errors.values()),
    }


def _is_narrow(of: Figures, key: str) -> bool:
    each = [of["people"], *([of["families"]] if of["families"] else [])]
    return any(float(whose[key]) < MIN_EFFECTIVE for whose in each)


def _evenly(kind: str, of: Figures) -> str:
    """`Genuine pairs: 1,680 people (like 2.8 with equally many pairs); George_W_Bush has 58 % of them.`"""
    people, families = of["people"], of["families"]
    told = _like(people, *_PEOPLE)
    if families and (kind == "twin" or families["num"] != people["num"]):
        told += f", {_like(families, *_FAMILIES)}"
    largest = (families if kind == "twin" and families else people)["largest"]
    whose = "family " if kind == "twin" and families else ""
    return (
        f"{kind.capitalize()} pairs: {told}; {whose}{largest['id']} has {percent(largest['share'])} of them."
    )


def _like(whose: Figures, one: str, several: str) -> str:
    number, effective = whose["num"], whose["effective"]
    told = plural(number, one, several)
    if number - effective < 0.05 * number:  # as good as even
        return told
    return f"{told} (like {effective:,.{0 if effective >= 100 else 1}f} with equally many pairs)"


def _people_with_errors(of: Figures) -> str:
    return plural(of["people"]["with_errors"], *_PEOPLE)


def _of_whom(told: Figures | None, kind: str, number: int) -> str:
    """The people behind errors, in brackets; empty where nobody knows, or there are no errors."""
    if not told or kind not in told or not number:
        return ""
    return f" (of {_people_with_errors(told[kind])})"
