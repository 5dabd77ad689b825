"""Galleries of wrong decisions, and how file paths are written in a report that may travel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.evaluation.result import Evaluation, WorstPair
from twin_dcal.files import is_file

from .plots import confusion_rows
from .thumbnails import as_address, thumbnail
from .wording import number

MAX_PAIRS = 24

Overlays = Mapping[tuple[str, str], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Of some pairs, by the two paths: each picture with what made the pair alike or different, (S, S, 3) uint8."""

_KINDS: Mapping[str, tuple[str, str, str]] = {
    "twin": ("False matches: twins", "Twins with the highest scores", "twins"),
    "unrelated": (
        "False matches: unrelated people",
        "People of two families with the highest scores",
        "unrelated",
    ),
    "other": ("False matches", "Pairs of different people with the highest scores", "different people"),
    "genuine": ("False non-matches", "Pairs of one person with the lowest scores", "same person"),
}
"""Of each kind of wrong decision: the gallery's title, what is in it, and what a pair is."""


@dataclass(frozen=True)
class Shot:
    """One side of a pair. `source` is a data: address, "" where images are left out, None where none could be read."""

    source: str | None
    person: str
    path: str
    overlay: str | None = None
    """The same with its explanation drawn over it, where there is one."""


@dataclass(frozen=True)
class PairCard:
    first: Shot
    second: Shot
    kind: str
    words: str
    score: str


@dataclass(frozen=True)
class Gallery:
    """Wrong decisions of one kind: the worst ones, and how many there are in all."""

    title: str
    told: str
    cards: Sequence[PairCard]
    total: int


def galleries(
    evaluation: Evaluation, root: Path | None, *, images: bool = True, blur: bool = False,
    overlays: Overlays | None = None,
) -> list[Gallery]:  # fmt: skip
    """A gallery for each kind of wrong decision there is, kinds never mixed."""
    pairs = (*evaluation.false_matches, *evaluation.false_non_matches)
    totals = {
        kind: misses if kind == "genuine" else hits
        for kind, hits, misses in confusion_rows(evaluation.figures)
    }
    made = []
    for kind, (title, told, _) in _KINDS.items():
        cards = pair_cards(
            [pair for pair in pairs if pair.kind == kind], root, images=images, blur=blur, overlays=overlays
        )
        if cards:
            made.append(Gallery(title, told, cards, max(totals.get(kind, 0), len(cards))))
    return made


def pair_cards(
    pairs: Sequence[WorstPair], root: Path | None, *, images: bool = True, blur: bool = False,
    overlays: Overlays | None = None,
) -> list[PairCard]:  # fmt: skip
    """The first `MAX_PAIRS` pairs. Paths and overlays are shown only with images that are not blurred."""
    shown = images and not blur

    def shot(pair: WorstPair, side: int) -> Shot:
        path, person = (pair.first, pair.first_person) if side == 0 else (pair.second, pair.second_person)
        source = thumbnail(_found(path, root), blur=blur) if images else ""
        drawn = (overlays or {}).get((pair.first, pair.second)) if shown else None
        overlay = None if drawn is None else as_address(Image.fromarray(drawn[side]))
        return Shot(source, person, short_path(path, root) if shown else "", overlay)

    return [
        PairCard(
            shot(pair, 0),
            shot(pair, 1),
            pair.kind,
            _KINDS[pair.kind][2],
            number(pair.score, 4),
        )
        for pair in pairs[:MAX_PAIRS]
    ]


def short_path(path: str, root: Path | None) -> str:
    """Enough of a path to find the file: relative to `root`, else its last folder and name. Never absolute."""
    pure = PurePath(path)
    if root is not None and pure.is_relative_to(root):
        return str(pure.relative_to(root))
    names = pure.parts[1:] if pure.anchor else pure.parts
    return str(PurePath(*names[-2:])) if pure.anchor or len(names) > 2 else path


class PathEraser:
    """Texts without file paths: of each path only the last name stays; relative ones stay whole where they may."""

    def __init__(self, evaluation: Evaluation, *, keep_relative: bool = False) -> None:
        figures = evaluation.figures
        known = {str(figures.get("test_data") or "")}
        for told in (figures.get(name) for name in ("model", "embeddings", "scores")):
            known.add(str(told.get("path") or "") if isinstance(told, Mapping) else str(told or ""))
        for pair in (*evaluation.false_matches, *evaluation.false_non_matches):
            known |= {pair.first, pair.second}
        self._keep_relative = keep_relative
        paths = (path for path in known if ("/" in path or "\\" in path) and not self._stays(path))
        self._known = sorted(paths, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for path in self._known:  # whole, since there may be spaces in them
            text = text.replace(path, _last(path))
        return re.sub(
            r"[^\s\"'(),;=]*[/\\][^\s\"'(),;]*",
            lambda found: found[0] if self._stays(found[0]) else _last(found[0]),
            text,
        )

    def _stays(self, path: str) -> bool:
        return (
            self._keep_relative and not PurePosixPath(path).is_absolute() and not PureWindowsPath(path).anchor
        )


def _last(path: str) -> str:
    names = [name for name in re.split(r"[/\\]", path) if name]
    return names[-1] if names else ""


def _found(path: str, root: Path | None) -> Path:
    """As it stands, else below `root`: readers of data sets join the two already, other systems' files do not."""
    as_told = Path(path)
    return as_told if root is None or is_file(as_told) else root / path
