"""Embeddings to a file of look-alike families and a sheet to review them: the flow of `dcal-lookalikes`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twin_dcal.csvfile import csv_text
from twin_dcal.data.families import PAIRS_NAME, find_twin_pairs
from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.evaluation.embedding_files import read_embeddings
from twin_dcal.evaluation.inputs import DataFiles, join_embeddings, read_comparisons
from twin_dcal.files import write_text
from twin_dcal.metrics.pairs import normalize_rows
from twin_dcal.model_file.provenance import model_warnings
from twin_dcal.plural import plural
from twin_dcal.report.html import page_style
from twin_dcal.report.thumbnails import thumbnail
from twin_dcal.report.wording import shown

from .matching import Limits, LookAlikes, Pair, find_lookalikes, identity_means

TABLE_NAME, SHEET_NAME = "lookalikes.csv", "lookalikes.html"
_SHOWN = 3  # pictures of each person on the sheet
_MAX_SHOWN_PAIRS = 300


@dataclass(frozen=True)
class Suggested:
    """Pairs and the files that tell them. warnings: why the vectors may not tell who looks alike."""

    found: LookAlikes
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def suggest(
    embeddings: str, output: Path, limits: Limits, top: int | None = None, data: str | None = None,
    files: DataFiles | None = None, split: str = "all", overwrite: bool = False,
) -> Suggested:  # fmt: skip
    """Write twin_pairs_infor.json, lookalikes.csv and lookalikes.html.

    Args: embeddings: an .npz with whose each vector is, or `data`, the data set that says so. split: of `data`.
    ConfigError for a folder that has twin pairs already; MetricError for fewer than 2 people, or limits that
    leave no pair.
    """
    if (known := find_twin_pairs(output)) and not overwrite:
        raise ConfigError(f"{known[0]} exists: it may hold true twins. Name another folder, or --overwrite.")
    stored = read_embeddings(embeddings)
    if data is not None:
        what, vectors = join_embeddings(stored, read_comparisons(data, files or DataFiles(), split))
        names, people = what.names, what.people
    else:
        names, vectors, people = stored.names, stored.vectors, stored.people
    if people is None:
        raise MetricError(
            f"{embeddings}: it does not say whose its vectors are. Name the data set with --data_dir."
        )
    ids, means = identity_means(vectors, people.tolist())
    if len(ids) < 2:
        raise MetricError(
            f"{embeddings}: vectors of {plural(len(ids), 'person', 'people')}; look-alikes need 2 people or more"
        )
    found = find_lookalikes(ids, means, limits, top)
    if not found.pairs:
        raise MetricError(
            f"{embeddings}: no two of {len(ids)} people are mutual neighbours with a cosine from "
            f"{limits.min_cosine:g} to {limits.max_cosine:g}. Widen --min_cosine, --max_cosine or --neighbours."
        )
    typical = _typical_images(names, vectors, people, ids, means, found)
    written = tuple(output / name for name in (PAIRS_NAME, TABLE_NAME, SHEET_NAME))
    warnings = model_warnings(stored.metadata.get("model"))
    write_text(written[1], _table(found))
    write_text(written[2], _sheet(found, limits, typical, warnings))
    write_text(written[0], json.dumps([[pair.one, pair.other] for pair in found.pairs], indent=1) + "\n")
    return Suggested(found, written, warnings)


def _typical_images(
    names: Sequence[str], vectors: np.ndarray, people: np.ndarray, ids: Sequence[str], means: np.ndarray,
    found: LookAlikes,
) -> dict[str, list[str]]:  # fmt: skip
    """The images of each shown person that are nearest to the mean."""
    wanted = {person for pair in (*found.pairs, *found.suspects) for person in (pair.one, pair.other)}
    row_of = {person: row for row, person in enumerate(ids)}
    rows: dict[str, list[int]] = {}
    for row, person in enumerate(people.tolist()):
        if person in wanted:
            rows.setdefault(person, []).append(row)
    typical = {}
    for person, own in rows.items():
        units = normalize_rows(vectors[own])
        order = np.argsort(-(units @ means[row_of[person]]), kind="stable")[:_SHOWN]
        typical[person] = [names[own[at]] for at in order]
    return typical


def _table(found: LookAlikes) -> str:
    kinds = (("pair", found.pairs), ("suspect", found.suspects))
    rows = ((kind, pair.one, pair.other, f"{pair.cosine:.6f}") for kind, pairs in kinds for pair in pairs)
    return csv_text(("kind", "id1", "id2", "cosine"), rows)


def _sheet(
    found: LookAlikes, limits: Limits, typical: Mapping[str, Sequence[str]], warnings: Sequence[str]
) -> str:
    environment = Environment(
        loader=PackageLoader("twin_dcal.lookalikes"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )  # fmt: skip
    groups = [
        ("Look-alikes", "Families for training and evaluation, most alike first.", found.pairs),
        (
            "Perhaps one person under two ids",
            "At or above the largest cosine: not made families. Look at them first.",
            found.suspects,
        ),
    ]
    return environment.get_template("lookalikes.html.jinja").render(
        style=Markup(page_style()), num_people=found.num_people, limits=limits, warnings=warnings,
        pairs_told=plural(len(found.pairs), "pair"),
        groups=[
            (title, told, len(pairs), [_card(pair, typical) for pair in pairs[:_MAX_SHOWN_PAIRS]])
            for title, told, pairs in groups if pairs
        ],
    )  # fmt: skip


def _card(pair: Pair, typical: Mapping[str, Sequence[str]]) -> dict[str, object]:
    sides = [
        (person, [image for name in typical[person] if (image := thumbnail(Path(name))) is not None])
        for person in (pair.one, pair.other)
    ]
    return {"cosine": f"{pair.cosine:.3f}", "sides": sides}
