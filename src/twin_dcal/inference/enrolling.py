"""Who is to be enrolled: the people of a folder, of a table or of a mapping, and who is whose twin."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_dcal.data.families import find_twin_pairs, read_twin_pairs, with_siblings
from twin_dcal.data.findings import Finding, note
from twin_dcal.data.jsonfile import as_id
from twin_dcal.data.listing import list_folder
from twin_dcal.data.manifest import about_twins
from twin_dcal.data.paths import found_from
from twin_dcal.data.twin_ids import fit_pairs
from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

from .gallery import Gallery
from .gallery_file import check_twins
from .given import as_list, as_path, as_pictures, is_picture
from .images import ImageInput
from .records import path_in, read_table

if TYPE_CHECKING:
    from .engine import TwinInferenceEngine

logger = logging.getLogger(__name__)

Listed = list[tuple[str, ImageInput]]


def enroll(
    engine: "TwinInferenceEngine", source: Any, path: str | Path | None = None, *, twins: Any = None,
    progress: bool = False,
) -> Gallery:  # fmt: skip
    """A gallery of a folder, a table or a mapping (see `TwinInferenceEngine.enroll`)."""
    listed, beside, findings = _listed(source)
    if not listed:
        raise ManifestError("nobody to enroll: no photograph is named")
    gallery = Gallery(engine) if path is None else Gallery.at(engine, path)
    people = {*gallery.people, *(person for person, _ in listed)}
    named = with_siblings(as_path(twins, "twins")) if isinstance(twins, str | Path) else twins
    pairs, found = _twins(beside if named is None else named, people)
    _tell([*findings, *found])
    added = gallery.add_all(listed, twins=pairs, progress=progress)
    if not added.num_added + added.num_known:
        wanted = plural(len(listed), "photograph")
        raise ManifestError(f"nobody is enrolled: none of {wanted} can be used; first: {added.left_out[0]}")
    return gallery


def _listed(source: Any) -> tuple[Listed, Sequence[Path], Sequence[Finding]]:
    """People and photographs of what a user names; of a data set's folder, its files of twin pairs and what was found
    as it was read."""
    if isinstance(source, Mapping):
        return (
            [(person, each) for person, several in source.items() for each in _each(person, several)],
            [],
            [],
        )
    if isinstance(source, str | Path) and as_path(source, "source").is_dir():
        found = list_folder(Path(source))
        listed: Listed = [(person, str(path)) for person, paths in found.images.items() for path in paths]
        return listed, find_twin_pairs(found.folder), found.findings
    folder = Path(source).parent if isinstance(source, str | Path) else Path()
    rows = read_table(source, ("person", "image"))
    named = [
        (as_id(row["person"], place), path_in(row, "image", place))
        for place, row in zip(rows.places, rows, strict=True)
    ]
    return [(person, found_from(image, folder)) for person, image in named], [], []


def _each(person: str, several: Any) -> Iterable[ImageInput]:
    """The photographs of a person, who may have a single one, not in a list."""
    return [several] if is_picture(several) else as_pictures(several, f"photographs of {person}")


def _twins(given: Any, people: Iterable[str]) -> tuple[list[tuple[str, str]], list[Finding]]:
    """Pairs of twins as they are, or of a file or some of them, and what was found of them. ManifestError where none of
    them fits."""
    files = as_list(given, "twins", "pairs of two people")
    if all(isinstance(each, Path) for each in files):
        read = read_twin_pairs(files)
        pairs, findings, place = list(read.pairs), list(read.findings), ", ".join(map(str, files))
    else:
        pairs, findings, place = _pairs(files), [], "twins"
    if not pairs:
        return [], [*findings, *([note(f"no twin pairs in {place}")] if files else [])]
    fit = fit_pairs(pairs, people)
    fit.refuse_misfits(place)
    return pairs, [*findings, *about_twins(fit, place)]


def _pairs(given: Iterable[Any]) -> list[tuple[str, str]]:
    whole = (
        tuple(as_id(person, "twins") for person in pair) if isinstance(pair, tuple | list) else pair
        for pair in given
    )
    return check_twins(whole)


def _tell(findings: Iterable[Finding]) -> None:
    for finding in findings:
        logger.log(logging.WARNING if finding.leaves_out else logging.INFO, "%s", finding.text)
