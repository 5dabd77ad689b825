"""A folder of photographs to a data set: the whole flow of `dcal-prepare`."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from twin_dcal.csvfile import csv_text
from twin_dcal.data.findings import first_few
from twin_dcal.data.tables import headings, read_rows
from twin_dcal.data.twin_ids import PairFit, fit_pairs
from twin_dcal.errors import ManifestError
from twin_dcal.files import write_text
from twin_dcal.locking import locked
from twin_dcal.plural import plural
from twin_dcal.progress import ProgressBar
from twin_dcal.synth.folder import DRAWN_NAME, are_drawn

from . import judging, placing
from .detector import FaceDetector
from .grouping import Split, draw, find_sessions
from .job import Job, Prepared
from .journal import CROPS, JOURNAL, STATE, append, compact, open_journal, read_journal
from .judging import Dropped, Embed
from .page import report_page
from .photo import Record
from .sources import Sources, find_photos, nested_folders, pairs_of
from .working import work

PAGE_NAME, REVIEW_NAME = "prepare_report.html", "review.csv"
_DROPPED_FIELDS = ("photo", "person", "reason", "detail")
_REVIEW_FIELDS = (*_DROPPED_FIELDS, "keep")


def prepare(job: Job, embed: Embed | None = None, threshold: float = 0.0) -> Prepared:
    """Prepare a data set; whatever was done before with the same bytes and settings is taken over.

    Args: embed: crops' files to unit vectors, to set aside what does not fit its person; threshold: the cosine it must
    reach. ConfigError and ManifestError for what cannot be used, and while another process prepares into the folder;
    ManifestError, after all but the description is written, for pictures under two people with conflicts="error".
    """
    sources = find_photos(job.source)
    pairs = pairs_of(job.source, job.twin_pairs)
    named = fit_pairs(pairs, {photo.person for photo in sources.photos})
    named.refuse_misfits(job.twin_pairs or job.source)
    placing.claim(job.output, job.source)
    with writing(job.output):
        return _prepare(job, sources, named, embed, threshold)


def writing(output: Path) -> AbstractContextManager[None]:
    """The lock of a data set in the making. ConfigError while another process holds it."""
    return locked(output / STATE / "lock", f"preparing into {output}", "--output", output)


def _prepare(job: Job, sources: Sources, named: PairFit, embed: Embed | None, threshold: float) -> Prepared:
    FaceDetector(job.detector)  # says at once what is missing
    state = job.output / STATE
    records = list(_records(job, sources, state))
    compact(state / JOURNAL, records)
    _remove_unused(state / CROPS, records)
    crops, dropped = _judge(job, sources, records, embed, threshold)
    sessions = find_sessions(crops, job.config.duplicates.session_minutes)
    people = {crop.photo.person for crop in crops}
    conflicts = [out for out in dropped if out.reason == judging.CONFLICT]
    stop = bool(conflicts) and job.conflicts == "error"
    split = Split({}, ()) if stop or not crops else draw(crops, named, job.split, sessions, job.seed)
    known = tuple(named.among(people))
    notes = (*_notes_of_folders(job.source, sources), *_notes(named, people, embed is not None))
    done = Prepared(
        job, len(sources.photos), placing.paths_of(crops, split.split_of), tuple(dropped), known, sessions, split,
        (*notes, *split.notes),
    )  # fmt: skip
    _write(done, stop)
    if stop:
        raise ManifestError(
            f"{plural(len(conflicts), 'photo shows', 'photos show')} a picture that is also under another "
            f"person, first: {conflicts[0].name} is "
            f"{conflicts[0].detail}. No data set is written. Mend the folders ({job.output / PAGE_NAME} shows all), or "
            "leave such pictures out with --conflicts drop."
        )
    if not crops:
        raise ManifestError(f"{job.source}: no usable face; {job.output / PAGE_NAME} says why for each photo")
    return done


def _records(job: Job, sources: Sources, state: Path) -> Iterator[Record]:
    """A record for each photo, noted as soon as it is there."""
    known = set(read_journal(state / JOURNAL))
    paths = [photo.path for photo in sources.photos]
    with (
        open_journal(state / JOURNAL) as journal,
        ProgressBar(len(paths), "preparing", "photographs") as bar,
    ):
        for record in work(paths, job.config, state, job.detector, job.workers):
            if record["key"] and record["key"] not in known:
                append(journal, record)
                known.add(record["key"])
            bar.update()
            yield record


def _judge(
    job: Job, sources: Sources, records: Sequence[Record], embed: Embed | None, threshold: float
) -> judging.Verdict:
    kept_anyway = _decisions(job.output / REVIEW_NAME) if job.review else frozenset()
    folder = job.output / STATE / CROPS
    crops, dropped = judging.readable(sources.photos, records)
    crops, out = judging.good_enough(crops, job.config.quality, kept_anyway)
    dropped += out
    crops, out = judging.without_copies(crops, folder, job.config.duplicates)
    dropped += out
    if embed is not None:
        crops, out = judging.consistent(crops, folder, embed, threshold, kept_anyway)
        dropped += out
    dropped += [Dropped(name, "", judging.OTHER, reason) for name, reason in sources.others]
    order = {reason: at for at, reason in enumerate(judging.REASONS)}
    return crops, sorted(dropped, key=lambda out: (order[out.reason], out.name, out.detail))


def _write(done: Prepared, stop: bool) -> None:
    job = done.job
    write_text(
        job.output / placing.DROPPED_NAME, csv_text(_DROPPED_FIELDS, _rows(done.dropped, _DROPPED_FIELDS))
    )
    if stop or not done.path_of:
        placing.withdraw(job.output)
    else:
        placing.place(job.output, done.path_of, done.dropped, job.review)
        placing.describe(job.output, done.path_of, done.pairs, done.sessions)
    _tell_drawn(done)
    if job.review:
        _write_review(job.output / REVIEW_NAME, done.dropped)
    write_text(job.output / PAGE_NAME, report_page(done))


def _tell_drawn(done: Prepared) -> None:
    """A model that is trained on the set will say that its faces were drawn, if they were."""
    mark = done.job.output / DRAWN_NAME
    if are_drawn(crop.photo.path for crop in done.path_of):
        write_text(mark, "made of faces that dcal-synth drew\n")
    else:
        mark.unlink(missing_ok=True)


def _notes_of_folders(root: str | Path, sources: Sources) -> tuple[str, ...]:
    nested = nested_folders(root, sources)
    if not nested:
        return ()
    people = sorted({photo.person for photo in sources.photos})
    return (
        f"{root} has a folder for each of {plural(len(people), 'person', 'people')}, and photos lie in folders below "
        f"them: {first_few(nested)}. If those are the people, prepare {Path(root) / people[0]}"
        f"{' and the others like it' if len(people) > 1 else ''} instead.",
    )


def _notes(fit: PairFit, people: set[str], judged: bool) -> tuple[str, ...]:
    notes = []
    lost = fit_pairs(fit.pairs, people | set(fit.unknown)).unknown
    if fit.unknown:
        notes.append(
            f"{plural(len(fit.unknown), 'id of a twin pair has', 'ids of twin pairs have')} no photos: "
            f"{first_few(fit.described())}"
        )
    if lost:
        whose = plural(len(lost), "person of a twin pair has", "people of twin pairs have")
        notes.append(f"{whose} no usable photo left: {first_few(lost)}")
    if not fit.pairs:
        notes.append("No twin pairs are named: everybody is a family of one.")
    if not judged:
        notes.append(
            "No model was given, so that nobody checked whether photos of a person show that person."
        )
    return tuple(notes)


def _decisions(path: Path) -> frozenset[str]:
    """Names, without blanks around them, of photos that a person marked in review.csv to be kept. ManifestError for a
    file that is no table with its columns, and for a decision that is neither yes nor no."""
    if not path.is_file():
        return frozenset()
    rows = read_rows(path, ManifestError)
    line, first = next(rows, (1, []))
    names = headings(first, f"{path}, line {line}", ManifestError)
    if not {"photo", "keep"} <= set(names):
        raise ManifestError(f"{path}: no columns photo and keep. Delete it to have it written anew.")
    kept = set()
    for line, cells in rows:
        row = dict(zip(names, cells, strict=False))  # a short row decides nothing
        decision = row.get("keep", "").lower()
        if decision not in _YES | _NO:
            raise ManifestError(f"{path}, line {line}: keep is '{row['keep']:.60}'; write yes or no")
        if decision in _YES:
            kept.add(row["photo"])
    return frozenset(kept)


_YES = frozenset({"yes", "y", "1", "true", "x"})
_NO = frozenset({"", "no", "n", "0", "false"})


def _write_review(path: Path, dropped: Sequence[Dropped]) -> None:
    """What a person may decide about; decisions to keep that were made before stay."""
    kept = sorted(_decisions(path))
    rows = _rows([out for out in dropped if out.reason in judging.REVIEWABLE], _REVIEW_FIELDS)
    rows += [[name, "", "kept by review", "", "yes"] for name in kept]
    write_text(path, csv_text(_REVIEW_FIELDS, rows))


def _rows(dropped: Sequence[Dropped], fields: Sequence[str]) -> list[list[str]]:
    told = (
        {"photo": out.name, "person": out.person, "reason": out.reason, "detail": out.detail, "keep": ""}
        for out in dropped
    )
    return [[row[field] for field in fields] for row in told]


def _remove_unused(folder: Path, records: Sequence[Record]) -> None:
    """Crops in the cache that no photo leads to any more, and files half written."""
    used = {face["crop"] for record in records for face in record["faces"]}
    for path in folder.glob("*/*"):
        if path.relative_to(folder).as_posix() not in used:
            path.unlink()
