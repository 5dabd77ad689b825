"""Data sets as people, images and families, in splits that share no family (docs/data.md).

The only readers of data set descriptions are this module and those it calls. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twin_dcal.config import DataConfig
from twin_dcal.errors import ManifestError
from twin_dcal.files import UNFINISHED, unfinished_message
from twin_dcal.plural import plural

from .checks import check_images
from .faceset import FaceData, FaceSet
from .families import (
    PAIRS_NAME,
    SPLITS,
    TwinPairs,
    connected_families,
    find_twin_pairs,
    read_twin_pairs,
    split_siblings,
    with_siblings,
)
from .findings import Finding, first_few, left_out, note, refuse_if_strict, texts
from .jsonfile import read_json
from .listing import LAYOUTS, Listing, list_folder, list_info
from .splits import apply_split_file, draw_splits, refuse_shared_families, write_split
from .twin_ids import PairFit, fit_pairs

__all__ = [
    "FaceData",
    "FaceSet",
    "ReadSet",
    "load_face_data",
    "load_face_set",
    "read_face_set",
    "write_split",
]

Images = Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, eq=False)
class ReadSet:
    """People to evaluate on.

    family_of: person to family, of everybody in a twin pair. findings: as in FaceData. warnings: of these, what makes
    figures doubtful. files: names of the descriptions that were read.
    """

    faces: FaceSet
    family_of: Mapping[str, str]
    findings: tuple[str, ...]
    warnings: tuple[str, ...]
    files: tuple[str, ...]


def _refuse_unfinished(data: DataConfig) -> None:
    """ManifestError for a set that dcal-synth is making or was stopped at: its twin pairs are written last."""
    folder = data.data_dir
    if folder is not None and (Path(folder) / UNFINISHED).is_dir():
        raise ManifestError(unfinished_message(folder))


def load_face_data(data: DataConfig, seed: int) -> FaceData:
    """Read a data set: folders or JSON, twin pairs if there are any, and a split by family.

    The split is `data.split_file`, else what the data set defines (folders, JSON series, pairs by split);
    what it leaves open is drawn from `seed`. Unusable files are left out and listed in `findings`, or refused
    when `data.strict`. ManifestError for descriptions that cannot be used, each with what to do.
    """
    _refuse_unfinished(data)
    listing = _find_listing(data)
    files = _twin_files(data, listing)
    twins = read_twin_pairs(files)
    family_of = connected_families(twins.pairs)
    fit = fit_pairs(twins.pairs, listing.images)
    fit.refuse_misfits(_names(files))
    images, findings = check_images(listing.images, listing.source, thorough=data.strict)
    findings = [*listing.findings, *twins.findings, *findings, *about_twins(fit, _names(files))]
    kept_together = fit.kept_together()
    split_of, found = _splits(data, seed, listing, twins, images, kept_together)
    refuse_shared_families(split_of, kept_together, data.split_file or listing.source)
    small = sorted(p for p in images if split_of[p] == "train" and len(images[p]) < data.min_images)
    findings += found
    findings += left_out(
        "person", "people", f"fewer than {plural(data.min_images, 'image')} to train on", small
    )
    refuse_if_strict(findings, data.strict, listing.source)
    train, val, test = (
        FaceSet.build({p: images[p] for p in images if split_of[p] == split and p not in small}, family_of)
        for split in SPLITS
    )
    losses = [finding for finding in findings if finding.leaves_out]
    if not train.people:
        raise ManifestError(f"{listing.source}: no people to train on. {_reason(losses)}{LAYOUTS}")
    notes = [finding for finding in findings if not finding.leaves_out]
    read = _read_files(listing, files)
    return FaceData(train, val, test, texts([*losses, *notes]), len(losses), read)


def load_face_set(
    path_or_dir: str | Path,
    twin_pairs: str | Path | None = None,
    data_root: str | Path | None = None,
    strict: bool = False,
    split: str | None = None,
) -> tuple[FaceSet, tuple[str, ...]]:
    """People to evaluate on: a folder of person folders, a data set's folder, or one `dataset_infor.json`.

    Args: split: of a data set that defines splits, 'train', 'val', 'test' (the default) or 'all'; one that
        defines none, such as the folder of a split, is taken whole.
    Returns: the set, and findings as in FaceData. ManifestError as `load_face_data`, or for an empty split.
    """
    read = read_face_set(path_or_dir, twin_pairs, data_root, strict, split)
    return read.faces, read.findings


def read_face_set(
    path_or_dir: str | Path,
    twin_pairs: str | Path | None = None,
    data_root: str | Path | None = None,
    strict: bool = False,
    split: str | None = None,
    data_dir: str | Path | None = None,
) -> ReadSet:
    """As `load_face_set`, with all that was read.

    Args: data_dir: where twin pairs are looked for if there are none with the data set itself.
    """
    path, root = Path(path_or_dir).expanduser(), _folder(data_root)
    if path.is_dir() or path.suffix.lower() != ".json":
        listing = list_folder(path, root)
    else:
        listing = list_info(path, None, root, with_siblings=False)
    files = _twin_files_of_set(listing, twin_pairs, data_dir)
    twins = read_twin_pairs(files)
    others = _people_beside(listing)
    fit = fit_pairs(twins.pairs, [*listing.images, *others])
    whole = bool(listing.split_of or others) or not (twin_pairs or _is_one_split(listing))
    if whole or twin_pairs or fit.near:
        fit.refuse_misfits(_names(files), whole)
    refuse_shared_families(_given_splits(listing, twins, listing.images), fit.kept_together(), listing.source)
    people, found = _people_of_split(listing, twins, split)
    listed = {person: listing.images[person] for person in people}
    images, findings = check_images(listed, listing.source, thorough=strict)
    findings += about_twins(fit, _names(files), whole)
    findings = [*listing.findings, *twins.findings, *found, *findings]
    refuse_if_strict(findings, strict, listing.source)
    if not images:
        raise ManifestError(f"{listing.source}: no usable images. {_reason(findings)}{LAYOUTS}")
    family_of = connected_families(twins.pairs)
    doubtful = texts(finding for finding in findings if finding.doubtful)
    return ReadSet(
        FaceSet.build(images, family_of),
        family_of,
        texts(findings),
        doubtful,
        _read_files(listing, files),
    )


def _twin_files_of_set(
    listing: Listing, twin_pairs: str | Path | None, data_dir: str | Path | None
) -> list[Path]:
    if twin_pairs:
        return with_siblings(Path(twin_pairs).expanduser())
    folders = [listing.folder]
    if listing.folder.name in SPLITS:  # the folder of one split: twins are listed above it
        folders.append(listing.folder.parent)
    if data_dir:
        folders.append(Path(data_dir).expanduser())
    return next((files for files in map(find_twin_pairs, folders) if files), [])


def _is_one_split(listing: Listing) -> bool:
    """Whether this is one split of a larger data set, by its name."""
    return listing.folder.name in SPLITS or bool(split_siblings(listing.source))


def _people_beside(listing: Listing) -> list[str]:
    """Ids in the other splits of the data set that this is one split of; their images are not looked at."""
    people: list[str] = []
    series = split_siblings(listing.source) if listing.source.is_file() else {}
    for path in series.values():
        values = read_json(path) if path != listing.source else {}
        people += values if isinstance(values, dict) else ()
    if listing.source.is_dir() and listing.folder.name in SPLITS:
        others = [listing.folder.parent / split for split in SPLITS if split != listing.folder.name]
        people += [entry.name for folder in others if folder.is_dir() for entry in folder.iterdir()]
    return people


def _names(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files))


def _read_files(listing: Listing, twin_files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(path.name for path in (*listing.files, *twin_files))


def _find_listing(data: DataConfig) -> Listing:
    folder, root = _folder(data.data_dir), _folder(data.data_root)
    if root is not None and not root.is_dir():
        raise ManifestError(f"data.data_root {root}: no such folder. Name the folder that holds the images.")
    if data.dataset_info:
        return list_info(Path(data.dataset_info).expanduser(), folder, root)
    if folder is None:
        raise ManifestError(f"no data set is given: set data.data_dir or data.dataset_info. {LAYOUTS}")
    return list_folder(folder, root)


def _folder(written: str | Path | None) -> Path | None:
    return Path(written).expanduser() if written else None


def _twin_files(data: DataConfig, listing: Listing) -> list[Path]:
    if data.twin_pairs:
        return with_siblings(Path(data.twin_pairs).expanduser())
    return find_twin_pairs(listing.folder)


def about_twins(fit: PairFit, place: str, whole: bool = True) -> list[Finding]:
    """What was found about twins.

    Args: place: where the pairs stand; whole: whether everybody whom the pairs may name is known; of a part, pairs of
    others are rightly unknown.
    """
    if not fit.pairs:
        return [note(f"no twin pairs ({PAIRS_NAME}): every person is a family of one")]
    if not fit.unknown:
        return []
    if not whole and not fit.near:
        return [note(f"{plural(len(fit.unknown), 'id', 'ids')} of twin pairs mean nobody who is here")]
    shown = fit.described() if whole else fit.described()[: len(fit.near)]
    found = left_out("id", "ids", f"in a twin pair of {place} but not in the data set", shown)
    whom = ""
    if fit.alone:
        counted = plural(len(fit.alone), "person counts as a stranger", "people count as strangers")
        whom = f"; {counted} to their twins: {first_few(fit.alone)}"
    return [replace(finding, text=f"{finding.text}{whom}", doubtful=True) for finding in found]


def _splits(
    data: DataConfig,
    seed: int,
    listing: Listing,
    twins: TwinPairs,
    images: Images,
    family_of: Mapping[str, str],
) -> tuple[dict[str, str], list[Finding]]:
    """Split of every person, and how it came about."""
    if data.split_file:
        path = Path(data.split_file).expanduser()
        num_images = {person: len(paths) for person, paths in images.items()}
        return apply_split_file(path, num_images, data.min_images), [note(f"split read from {path.name}")]
    given = _given_splits(listing, twins, images)
    refuse_shared_families(given, family_of, listing.source)
    fractions = {"val": data.val_fraction, "test": data.test_fraction}
    fractions = {split: value for split, value in fractions.items() if value and split not in given.values()}
    free = [person for person in images if given.get(person, "train") == "train"]
    drawn = draw_splits(free, family_of, fractions, seed)
    whose = "the training families" if given else "the families"
    found = [
        note(f"no {split} split in the data set: {value:g} of {whose} drawn for it, seed {seed}")
        for split, value in fractions.items()
    ]
    return given | drawn, found


def _given_splits(listing: Listing, twins: TwinPairs, people: Sequence[str] | Images) -> dict[str, str]:
    """The split that the data set itself defines for `people`, {} if it defines none."""
    by_pairs = twins.split_of
    if not listing.split_of:
        return {person: by_pairs.get(person, "train") for person in people} if by_pairs else {}
    wrong = sorted(p for p in people if by_pairs.get(p, listing.split_of[p]) != listing.split_of[p])
    if wrong:
        cases = [f"'{p}' ({by_pairs[p]} in the pairs, {listing.split_of[p]} in the data)" for p in wrong]
        raise ManifestError(
            f"{listing.source}: twin pairs and data set name different splits: {first_few(cases)}. "
            "Correct one of them."
        )
    return {person: listing.split_of[person] for person in people}


def _people_of_split(
    listing: Listing, twins: TwinPairs, split: str | None
) -> tuple[list[str], list[Finding]]:
    if split not in (None, "all", *SPLITS):
        raise ManifestError(f"there is no split '{split}'. Use train, val, test or all.")
    given = _given_splits(listing, twins, listing.images)
    if not given or split == "all":
        return list(listing.images), []
    wanted = split or "test"
    people = [person for person in listing.images if given[person] == wanted]
    if not people:
        known = ", ".join(sorted(set(given.values())))
        raise ManifestError(
            f"{listing.source}: nobody is in split '{wanted}', only in {known}. Name another."
        )
    return people, [note(f"split '{wanted}' of {listing.source.name} is used")]


def _reason(findings: Sequence[Finding]) -> str:
    losses = [finding.text for finding in findings if finding.leaves_out]
    return f"Left out: {'; '.join(losses)}. " if losses else ""
