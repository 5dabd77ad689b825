"""Who must stay together in a split: families, and people photographed in one session."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from twin_dcal.data.families import connected_families
from twin_dcal.data.splits import draw_splits
from twin_dcal.data.twin_ids import PairFit
from twin_dcal.plural import plural

from .judging import Crop


@dataclass(frozen=True)
class Sessions:
    """session_of: photo name to session, for photos whose time and camera are known; num_unknown: the others."""

    session_of: Mapping[str, str]
    num_unknown: int


def find_sessions(crops: Iterable[Crop], minutes: float) -> Sessions:
    """Photos of one camera, each at most `minutes` after the one before, are one session; 0 finds none."""
    timed: dict[str, list[tuple[datetime, str]]] = {}
    names: set[str] = set()
    for crop in crops:
        taken, camera = crop.record.get("taken"), crop.record.get("camera")
        if crop.photo.name in names:
            continue
        names.add(crop.photo.name)
        if taken and camera and minutes > 0:
            timed.setdefault(camera, []).append((datetime.fromisoformat(taken), crop.photo.name))
    session_of: dict[str, str] = {}
    for camera, photos in sorted(timed.items()):
        before, session = None, ""
        for taken, name in sorted(photos):
            if before is None or (taken - before).total_seconds() > 60 * minutes:
                session = f"{taken.isoformat()} {camera}"
            session_of[name], before = session, taken
    return Sessions(session_of, len(names) - len(session_of))


@dataclass(frozen=True)
class Split:
    """split_of: person to split, {} where none was asked for; notes: what a reader should know of it."""

    split_of: Mapping[str, str]
    notes: tuple[str, ...]


def draw(
    crops: Sequence[Crop], fit: PairFit, shares: tuple[float, float, float] | None,
    sessions: Sessions, seed: int,
) -> Split:  # fmt: skip
    """Families whole, and people who share a session together, if that leaves enough to share out.

    Args: shares: of families for train, val and test.
    """
    notes = []
    if sessions.num_unknown:
        notes.append(
            f"{plural(sessions.num_unknown, 'photo does', 'photos do')} not say when or with which camera: if "
            "people of two "
            "families were photographed in one session, that is not known and may fall into two splits."
        )
    if shares is None:
        return Split({}, tuple(notes))
    people = sorted({crop.photo.person for crop in crops})
    linked = _linked(crops, fit.bonds(), sessions)
    families = fit.kept_together()
    groups = connected_families([*fit.bonds(), *linked])
    sizes: dict[str, int] = {}
    for person in people:
        root = groups.get(person, person)
        sizes[root] = sizes.get(root, 0) + 1
    if linked and max(sizes.values()) > len(people) / 2:
        notes.append(
            f"Sessions link {max(sizes.values())} of {len(people)} people, too many to keep together; families are. "
            "A shorter duplicates.session_minutes may help."
        )
        groups = families
    elif linked:
        of = "of people of different families"
        share = plural(
            len(linked), f"pair {of} share a session and is", f"pairs {of} share a session and are"
        )
        notes.append(f"{share} in one split.")
    fractions = {"val": shares[1], "test": shares[2]}
    return Split(draw_splits(people, groups, fractions, seed), tuple(notes))


def _linked(
    crops: Sequence[Crop], pairs: Sequence[tuple[str, str]], sessions: Sessions
) -> list[tuple[str, str]]:
    """Pairs of people who follow each other in a session and are of different families."""
    family_of = connected_families(pairs)
    in_session: dict[str, set[str]] = {}
    for crop in crops:
        session = sessions.session_of.get(crop.photo.name)
        if session is not None:
            in_session.setdefault(session, set()).add(crop.photo.person)
    links = set()
    for members in in_session.values():
        ordered = sorted(members)
        for one, other in pairwise(ordered):
            if family_of.get(one, one) != family_of.get(other, other):
                links.add((one, other))
    return sorted(links)
