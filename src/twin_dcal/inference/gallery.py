"""People and their photographs, to be searched: who is this, and would it be the twin? No torch here.

Legend: N photographs, P people, E feature width.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, ImageError, ModelError
from twin_dcal.model_file.provenance import training_warnings
from twin_dcal.plural import plural
from twin_dcal.prepare.align import FaceChoice
from twin_dcal.progress import ProgressBar

from .aligning import FaceInfo
from .gallery_file import (
    GalleryFile,
    Photograph,
    Stored,
    check_new_person,
    check_twins,
    refuse_shared,
    told_align,
)
from .given import as_pairs
from .images import ImageInput
from .people import People, most_alike
from .pictures import Picture, digests_of, path_of
from .result import Hit, SearchResult, TemplateResult
from .templates import Fuse, check_fuse, rule_of

if TYPE_CHECKING:
    from .engine import TwinInferenceEngine

_AT_ONCE = 32
_GROWTH = 0.1  # written when so much more is there, so that enrolling many writes each row a few times only


@dataclass(frozen=True)
class Added:
    """What came of adding: how many photographs are new, how many were there already, and those left out, with the
    reason of each."""

    num_added: int
    num_known: int
    left_out: tuple[str, ...] = ()


class Gallery:
    """Photographs of people, embedded by one model. Made by `TwinInferenceEngine.enroll`.

    One that was saved or opened keeps to its file: `add` and `remove` have written it when they return, and take in
    first what another process has written. Only one process writes at a time (ConfigError for the other).
    """

    def __init__(self, engine: "TwinInferenceEngine", twins: Iterable[tuple[str, str]] = ()) -> None:
        self._engine = engine
        self._align = engine.align
        self._stored = self._saved = Stored().with_twins(check_twins(twins))
        self._file: GalleryFile | None = None
        self.left_out: tuple[str, ...] = ()
        """Photographs that could not be enrolled, with their reasons."""
        self.added = Added(0, 0)
        """What came of the last adding."""

    @classmethod
    def load(cls, engine: "TwinInferenceEngine", path: str | Path) -> "Gallery":
        """Open a file. ModelError for what is no gallery, and for one of another model."""
        gallery = cls(engine)
        gallery._file = GalleryFile(path)
        gallery._read()
        return gallery

    @classmethod
    def at(cls, engine: "TwinInferenceEngine", path: str | Path) -> "Gallery":
        """`load` where there is a file; else a gallery that makes it with the first photograph that can be used."""
        gallery = cls(engine)
        gallery._file = GalleryFile(path)
        if gallery._file.is_there:
            gallery._read()
        return gallery

    def __len__(self) -> int:
        """Number of people."""
        return len(self.people)

    def __repr__(self) -> str:
        return (
            f"Gallery({plural(len(self), 'person', 'people')}, {plural(len(self.photographs), 'photograph')})"
        )

    @property
    def people(self) -> list[str]:
        return self._people.names

    @property
    def photographs(self) -> tuple[Photograph, ...]:
        return self._stored.photographs

    def counts(self) -> dict[str, int]:
        """Photographs of each person."""
        return {name: len(rows) for name, rows in zip(self.people, self._people.rows, strict=True)}

    @property
    def twins(self) -> tuple[tuple[str, str], ...]:
        """Known twins, as pairs of people; they need not be enrolled."""
        return self._stored.twins

    def save(self, path: str | Path) -> None:
        """Write the gallery, and keep to this file from now on. Only its owner can read it: features are biometric."""
        self._check_align()
        file = GalleryFile(path)
        with file.locked():
            file.refuse_other()
            self._file = file
            self._write()

    def add(self, person: str, photographs: ImageInput | Sequence[ImageInput]) -> Added:
        """Enroll photographs of a person, who may be there already. One that cannot be used is left out with its
        reason; one that is there already stays as it is."""
        given: list[Any] = list(photographs) if isinstance(photographs, list | tuple) else [photographs]
        return self.add_all([(person, photograph) for photograph in given])

    def add_all(
        self, listed: Sequence[tuple[str, ImageInput]], *, twins: Iterable[tuple[str, str]] = (), progress: bool = False
    ) -> Added:  # fmt: skip
        """`add` of many people: pairs of person and photograph. Args: twins: made known with the first photograph that
        can be used. ManifestError, and nothing is added, for a photograph of two people."""
        listed = as_pairs(listed, "listed", "a person and a photograph")
        for person, _ in listed:
            check_new_person(person)
        pairs = check_twins(twins)
        digests = digests_of([photograph for _, photograph in listed], progress)
        num_added, num_known, left_out = 0, 0, list[str]()
        with self._changing(), ProgressBar(len(listed), "enrolling", "photographs", shown=progress) as bar:
            refuse_shared(listed, digests, self.photographs)
            for start in range(0, len(listed), _AT_ONCE):
                part = listed[start : start + _AT_ONCE]
                added, known, reasons = self._add_some(part, digests[start : start + _AT_ONCE], start)
                num_added, num_known, left_out = num_added + added, num_known + known, left_out + reasons
                if num_added + num_known:
                    self._take(self._stored.with_twins(pairs))
                bar.update(len(part))
                self._write_if_grown()
        self.left_out = (*self.left_out, *left_out)
        self.added = Added(num_added, num_known, tuple(left_out))
        return self.added

    def add_twins(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Make known who is whose twin; they need not be enrolled."""
        listed = check_twins(pairs)
        with self._changing():
            self._take(self._stored.with_twins(listed))

    def remove(self, person: str, photographs: ImageInput | Sequence[ImageInput] | None = None) -> int:
        """Delete a person, or photographs; the number of photographs that are gone, from memory and from the file.

        Args: photographs: one or several, by content or by the path that each was enrolled from. ConfigError, and
        nothing is deleted, where one of them is not there.
        """
        several: list[Any] = list(photographs) if isinstance(photographs, list | tuple) else [photographs]
        if not several:
            raise ConfigError("no photograph to delete is named")
        with self._changing():
            self._people.number(person)
            own = [row for row, each in enumerate(self.photographs) if each.person == person]
            gone = set(own) if photographs is None else set[int]()
            for photograph in several if photographs is not None else ():
                found = {row for row in own if self.photographs[row].is_of(photograph)}
                if not found:
                    named = f": {photograph}" if isinstance(photograph, str | Path | None) else ""
                    raise ConfigError(f"person '{person}' has no such photograph{named}")
                gone |= found
            self._take(self._stored.without(gone))
        return len(gone)

    def search(
        self, photographs: ImageInput | Sequence[ImageInput], top: int = 10, *, fuse: Fuse = "quality",
        face: FaceChoice = "largest", exact: bool = False,
    ) -> SearchResult:  # fmt: skip
        """The people most alike; of equal ones the first by name.

        Args: photographs: one or several of the person who is looked for; fuse: as in `TwinInferenceEngine.verify`;
        exact: compare with everybody, also where FAISS is installed and there are 100,000 people or more, of whom a
        shortlist is compared else (docs/people.md). Similarities are the same. ConfigError for an empty gallery.
        """
        began = time.perf_counter()
        self._check_align()
        check_fuse(fuse)
        if not isinstance(top, int) or isinstance(top, bool) or top < 1:
            raise ConfigError(f"top {top!r:.60}: give a whole number of at least 1")
        if not self.people:
            raise ConfigError("the gallery is empty; enroll somebody")
        [side] = self._engine.sides([(photographs, "query", face)])
        shortlist = None if exact else self._people.shortlist(side, fuse, top)
        scores = self._people.scores(side, fuse, shortlist)
        order = most_alike(scores, max(top, 2))
        hits = tuple(
            self._hit(rank, int(at), scores, len(side.paths), fuse)
            for rank, at in enumerate(order[:top], start=1)
        )
        warnings = (
            *training_warnings(self._engine.source.training), *self._doubts(hits, order, scores, len(side.paths), fuse),
            *side.warnings(),
        )  # fmt: skip
        elapsed_ms = 1000 * (time.perf_counter() - began)
        return SearchResult(hits, warnings, len(self), shortlist is None, elapsed_ms)

    def verify(
        self, photographs: ImageInput | Sequence[ImageInput], person: str, *, fuse: Fuse = "quality",
        face: FaceChoice = "largest",
    ) -> TemplateResult:  # fmt: skip
        """Whether photographs show an enrolled person: `TwinInferenceEngine.verify` with the stored features."""
        began = time.perf_counter()
        self._check_align()
        check_fuse(fuse)
        people = self._people
        number = people.number(person)
        [one] = self._engine.sides([(photographs, "img1", face)])
        result = self._engine.decide_sides(one, people.side("img2", number), fuse, began)
        twins = people.twins_of(number)
        if not twins:
            return result
        scores = people.scores(one, fuse, twins)
        nearest = max(twins, key=lambda twin: scores[twin])
        margin = result.similarity - float(scores[nearest])
        told = (
            f"{person} is a twin: {people.names[nearest]} is {abs(margin):.3f} "
            f"{'less' if margin >= 0 else 'more'} alike"
        )
        return replace(result, warnings=(*result.warnings, told))

    @cached_property
    def _people(self) -> People:
        return People(self._stored, self._engine.source.fusion)

    def _hit(self, rank: int, at: int, scores: NDArray[np.float32], count: int, fuse: Fuse) -> Hit:
        person, similarity = self.people[at], float(scores[at])
        deciding = self._engine.deciding.of_templates(rule_of(fuse), (count, len(self._people.rows[at])))
        rates, calibration = deciding.rates(similarity), deciding.calibration
        twins = {self.people[twin]: float(scores[twin]) for twin in self._people.twins_of(at)}
        return Hit(
            rank, person, similarity, similarity >= deciding.required(),
            None if calibration is None else float(calibration(similarity)), deciding.required(),
            None if rates is None else rates.fmr, None if rates is None else rates.fnmr, len(self._people.rows[at]),
            twins, similarity - max(twins.values()) if twins else None,
        )  # fmt: skip

    def _doubts(
        self, hits: Sequence[Hit], order: NDArray[np.intp], scores: NDArray[np.float32], count: int, fuse: Fuse
    ) -> tuple[str, ...]:  # fmt: skip
        """About the first hit: its threshold and rates, and whether its twin comes next."""
        first = hits[0]
        deciding = self._engine.deciding.of_templates(rule_of(fuse), (count, first.num_photographs))
        told = deciding.warnings(deciding.rates(first.similarity))
        second = self.people[int(order[1])] if len(order) > 1 else None
        if second not in first.twins:
            return told
        return (
            *told,
            f"rank 1 is {first.person} and rank 2 the twin {second}, {first.margin:.3f} less alike: which of the two "
            "it is rests on this margin alone",
        )

    def _add_some(
        self, listed: Sequence[tuple[str, ImageInput]], digests: Sequence[str | ImageError], start: int
    ) -> tuple[int, int, list[str]]:  # fmt: skip
        known = {(each.person, each.sha256) for each in self.photographs}
        new: list[tuple[str, str, Picture]] = []
        num_known = 0
        left_out: list[str] = []
        for at, ((person, image), digest) in enumerate(zip(listed, digests, strict=True), start=start):
            if isinstance(digest, ImageError):
                left_out.append(f"{person}: {digest}")
                continue
            if (person, digest) in known:
                num_known += 1
                continue
            known.add((person, digest))
            new.append((person, digest, Picture(image, called=f"photograph {at + 1}")))
        features, seen = self._engine.embedder([picture for *_, picture in new], on_error="entry")
        used = [row for row, info in enumerate(seen) if isinstance(info, FaceInfo)]
        left_out += [
            f"{person}: {info}" for (person, *_), info in zip(new, seen, strict=True) if isinstance(info, str)
        ]
        photographs = [_photograph(*new[row], seen[row]) for row in used]
        if photographs:
            self._take(self._stored.with_photographs(photographs, features[used]))
        return len(photographs), num_known, left_out

    def _take(self, stored: Stored) -> None:
        if stored is not self._stored:
            self._stored = stored
            self.__dict__.pop("_people", None)

    def _check_align(self) -> None:
        """ModelError where the engine has aligned faces in another way since the gallery was made or opened."""
        if self._engine.align != self._align:
            raise ModelError(told_align("the gallery", self._align, self._engine.align))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """What is changed in the block is in the file at its end; of a failed change what was written stays."""
        self._check_align()
        with nullcontext() if self._file is None else self._file.locked():
            if self._file is not None and self._file.is_news:
                self._read()
            try:
                yield
            finally:
                file, changed = self._file, self._stored is not self._saved
                if file is not None and changed and (self.photographs or file.is_there):
                    self._write()

    def _write_if_grown(self) -> None:
        before = len(self._saved.photographs)
        if self._file is not None and len(self.photographs) - before >= max(8 * _AT_ONCE, _GROWTH * before):
            self._write()

    def _write(self) -> None:
        assert self._file is not None
        self._file.write(self._stored, self._engine.source.described(), self._align)
        self._saved = self._stored

    def _read(self) -> None:
        assert self._file is not None
        self._take(self._file.read(self._engine.source.sha256, self._align, self._width))
        self._saved = self._stored

    @cached_property
    def _width(self) -> int:
        """E, of no picture's features."""
        return int(self._engine.embedder([])[0].shape[1])


def _photograph(person: str, digest: str, picture: Picture, info: FaceInfo | str) -> Photograph:
    face = info.face if isinstance(info, FaceInfo) else None
    return Photograph(
        person=person, path=path_of(picture.image), sha256=digest, quality=None if face is None else face.get("quality")
    )  # fmt: skip
