"""Do the ids of twin pairs mean people of the data set? Ids that nearly do are named, never taken for the same."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from twin_dcal.errors import ManifestError

from .families import connected_families
from .findings import first_few

Pair = tuple[str, str]


@dataclass(frozen=True)
class PairFit:
    """How twin pairs fit the people of a data set.

    unknown: ids of pairs that nobody has, sorted. near: of those, id -> people whose ids differ from it only in what
    writing changes (leading zeros, blanks around, case, Unicode form). alone: people in pairs, or nearly, of whose
    family nobody else is found.
    """

    pairs: tuple[Pair, ...]
    unknown: tuple[str, ...]
    near: Mapping[str, tuple[str, ...]]
    alone: tuple[str, ...]
    num_families: int
    """Of two people or more who are in the data set."""

    def described(self) -> list[str]:
        """The unknown ids, each with the people it may mean; those with a suggestion first."""
        ordered = sorted(self.unknown, key=lambda person: (person not in self.near, person))
        return [self._one(person) for person in ordered]

    def refuse_misfits(self, file: object, whole: bool = True) -> None:
        """ManifestError where there are pairs and not one makes two people of the data set a family.

        Args: whole: whether everybody whom the pairs may name is known. Of a part, twins of others may rightly be
        missing: it is refused where no id is known, or one is written otherwise.
        """
        known = {person for pair in self.pairs for person in pair}.difference(self.unknown)
        if self.pairs and not self.num_families and (whole or self.near or not known):
            raise ManifestError(
                f"{file}: no twin pair fits ({len(self.pairs):,} given), ids are not in the data set: "
                f"{first_few(self.described())}. Write ids as the data set does, or name the right file."
            )

    def bonds(self) -> list[Pair]:
        """The pairs, and each id that may mean somebody with that person: what no drawn split may separate."""
        return [*self.pairs, *((person, to) for person in self.near for to in self.near[person])]

    def kept_together(self) -> dict[str, str]:
        """Families by `bonds`."""
        return connected_families(self.bonds())

    def among(self, people: Iterable[str]) -> list[Pair]:
        """The pairs of which both are among `people`; those whose common twin is missing are paired, so that a family
        stays one."""
        there = set(people)
        kept = [pair for pair in self.pairs if there.issuperset(pair)]
        whole, known = connected_families(self.pairs), connected_families(kept)
        members: dict[str, list[str]] = {}
        for person in sorted(there.intersection(whole)):
            members.setdefault(whole[person], []).append(person)
        for family in members.values():
            parts = {known.get(person, person): person for person in family}
            kept += pairwise(sorted(parts.values()))
        return kept

    def _one(self, person: str) -> str:
        if person not in self.near:
            return person
        near = self.near[person]
        # Two spellings of one letter look the same on a screen: what they are called is said beside them.
        alike = any(unicodedata.normalize("NFC", to) == unicodedata.normalize("NFC", person) for to in near)
        quoted = _with_form if alike else repr
        return f"{quoted(person)} (the data set has {' and '.join(quoted(to) for to in near)})"


def fit_pairs(pairs: Sequence[Pair], known: Iterable[str]) -> PairFit:
    """Look up every id of twin pairs among the known people."""
    people = set(known)
    unknown = sorted({person for pair in pairs for person in pair} - people)
    near = near_people(unknown, people)
    found: dict[str, list[str]] = {}
    for person, family in connected_families(pairs).items():
        if person in people:
            found.setdefault(family, []).append(person)
    alone = {members[0] for members in found.values() if len(members) == 1}
    alone |= {person for those in near.values() for person in those} - {
        person for members in found.values() if len(members) > 1 for person in members
    }
    num_families = sum(len(members) > 1 for members in found.values())
    return PairFit(tuple(pairs), tuple(unknown), near, tuple(sorted(alone)), num_families)


def near_people(unknown: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Of ids that nobody has, those that somebody's id differs from only in what writing changes, and whose."""
    unknown = sorted(set(unknown))
    by_form: dict[str, list[str]] = {}
    for person in sorted(known) if unknown else ():
        by_form.setdefault(_form(person), []).append(person)
    return {person: tuple(by_form[_form(person)]) for person in unknown if _form(person) in by_form}


def _with_form(person: str) -> str:
    """A name with the Unicode form that its letters are written in."""
    forms = [form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, person)]
    return f"{person!r} in Unicode form {forms[0]}" if forms else f"{person!r} in a mixture of Unicode forms"


def _form(person: str) -> str:
    """What stays of an id whichever way it is written: int, strip, casefold, NFC."""
    form = unicodedata.normalize("NFC", person.strip().casefold())
    return form.lstrip("0") or "0" if form.isdecimal() else form
