"""Templates in place of images: several images of a person as one, dealt by a seed or named by a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.config_text import whole_number
from twin_dcal.data.findings import first_few
from twin_dcal.data.tables import headings, read_rows
from twin_dcal.errors import ConfigError, ManifestError, MetricError
from twin_dcal.files import is_file
from twin_dcal.metrics.pairs import normalize_rows
from twin_dcal.metrics.templates import decision_for, fused_features
from twin_dcal.plural import plural

from .evaluate import Decision
from .inputs import DataFiles
from .match_names import rows_of_names
from .protocol import pair_source
from .systems import ModelSystem, Scored, System

_COLUMNS = ("template", "person", "image")
_MAX_SIZE = 1000


@dataclass(frozen=True)
class Templates:
    """Which images are taken together: `fewest` to `most` of a person, dealt by the seed, or as a table says."""

    fewest: int = 1
    most: int = 1
    file: Path | None = None
    seed: int = 0

    @classmethod
    def of(cls, text: str, seed: int) -> "Templates":
        """From `3`, `2-5`, or the name of a table. ConfigError for anything else."""
        low, dash, high = text.partition("-")
        fewest, most = whole_number(low), whole_number(high if dash else low)
        if fewest is not None and most is not None:
            if not 1 <= fewest <= most <= _MAX_SIZE:
                raise ConfigError(
                    f"--templates {text}: give numbers from 1 to {_MAX_SIZE}, the smaller first"
                )
            return cls(fewest, most, None, seed)
        if not is_file(text):
            raise ConfigError(
                f"--templates {text}: give a number, two such as 2-5, or a table template,person,image"
            )
        return cls(file=Path(text), seed=seed)

    def told(self) -> dict[str, Any]:
        """Plain values, for the report."""
        if self.file is not None:
            return {"file": str(self.file)}
        return {"fewest": self.fewest, "most": self.most, "seed": self.seed}


@dataclass(frozen=True, eq=False)
class TemplateSystem:
    """A system whose embeddings are fused: what is compared are templates, called by the first of their images."""

    system: System
    templates: Templates

    @property
    def files(self) -> DataFiles:
        return self.system.files

    def scored(self, data: str | None, split: str) -> Scored:
        return as_templates(self.system.scored(data, split), self.templates)

    def stored(self) -> Decision:
        """The threshold for so many photographs, where the model has it; else that of single ones, with a warning."""
        single, wanted = self.system.stored(), self.templates
        if wanted.file is None and wanted.fewest == wanted.most and isinstance(self.system, ModelSystem):
            sizes = (wanted.fewest, wanted.fewest)
            found = decision_for(self.system.loaded.templates, "mean", sizes)
            if found is not None and found.sizes == sizes and single.threshold is not None:
                doubts = [found.threshold.origin["warning"]] if found.threshold.origin.get("warning") else []
                return Decision(
                    found.threshold.value,
                    found.threshold.chosen_by(),
                    found.calibration,
                    tuple(map(str, doubts)),
                )
        if single.threshold is None or (wanted.file is None and wanted.most == 1):
            return single
        warning = "it was set for single photographs, and templates are more alike: of one person and of two"
        return replace(single, warnings=(*single.warnings, warning))

    def about(self) -> Mapping[str, Any]:
        return {**self.system.about(), "templates": self.templates.told()}


def as_templates(scored: Scored, wanted: Templates) -> Scored:
    """Fused features of images, and all pairs of them. ConfigError where there are no features or no people."""
    comparisons = scored.comparisons
    if (
        scored.vectors is None
        or comparisons.people is None
        or comparisons.families is None
        or comparisons.pairs is not None
    ):
        raise ConfigError(
            "--templates needs embeddings of people's images, all compared with all: --model or --embeddings with a "
            "data set, neither scores nor a list of pairs"
        )
    groups = list(
        _dealt(comparisons.people, wanted)
        if wanted.file is None
        else _listed(comparisons.people, comparisons.names, wanted.file)
    )
    if not groups:
        raise MetricError(f"--templates: nobody has {plural(wanted.fewest, 'image')}")
    unit = normalize_rows(scored.vectors)
    vectors = np.stack([fused_features(unit[rows], fusion=scored.fusion) for rows in groups])
    first = np.array([rows[0] for rows in groups])
    counts = [len(rows) for rows in groups]
    missing = sorted(comparisons.known_people() - set(comparisons.people[first].tolist()))
    warnings = comparisons.warnings
    if missing:
        left = f"{plural(len(missing), 'person has', 'people have')} too few images for a template"
        warnings = (*warnings, f"{left}: {first_few(missing)}")
    protocol = {
        **comparisons.protocol,
        "name": f"{comparisons.protocol.get('name', 'all pairs')} of templates",
        "num_templates": len(groups),
        "images_per_template": [min(counts), max(counts)],
    }
    fused = replace(
        comparisons,
        names=[comparisons.names[row] for row in first],
        people=comparisons.people[first],
        families=comparisons.families[first],
        protocol=protocol,
        warnings=warnings,
        failures=None,
    )
    return Scored(fused, pair_source(fused, vectors, scored.fusion), vectors, scored.fusion)


def _dealt(people: NDArray[np.str_], wanted: Templates) -> Iterator[NDArray[np.intp]]:
    """Rows of each template: each person's images in a random order, cut into sizes that are drawn."""
    for number, person in enumerate(np.unique(people)):
        rng = np.random.default_rng((wanted.seed, number))
        rows = rng.permutation(np.flatnonzero(people == person))
        while len(rows) >= wanted.fewest:
            size = int(rng.integers(wanted.fewest, wanted.most + 1))
            yield rows[:size]
            rows = rows[size:]


def _listed(people: NDArray[np.str_], names: Any, file: Path) -> Iterator[NDArray[np.intp]]:
    """Rows of each template of a table, in its order. ManifestError for a template of two people, an image of two
    templates."""
    table = read_rows(file, ManifestError)
    line, cells = next(table, (1, []))
    columns = headings(cells, f"{file}, line {line}", ManifestError)
    if not set(_COLUMNS) <= set(columns):
        raise ManifestError(f"{file}: the first line must name the columns {','.join(_COLUMNS)}")
    at = [columns.index(name) for name in _COLUMNS]
    members: dict[str, list[str]] = {}
    person_of: dict[str, str] = {}
    for line, cells in table:
        if len(cells) != len(columns):
            raise ManifestError(f"{file}, line {line}: {plural(len(cells), 'column')}, not {len(columns)}")
        template, person, image = (cells[column] for column in at)
        if person_of.setdefault(template, person) != person:
            raise ManifestError(
                f"{file}, line {line}: template '{template}' is of '{person_of[template]}' and of '{person}'"
            )
        members.setdefault(template, []).append(image)
    template_of: dict[int, str] = {}
    for template, images in members.items():
        rows = rows_of_names(images, names, str(file), "the data set")
        astray = [
            image for image, row in zip(images, rows, strict=True) if people[row] != person_of[template]
        ]
        if astray:
            whose = f"not of '{person_of[template]}' in the data set"
            raise ManifestError(f"{file}: template '{template}': {astray[0]} is {whose}")
        for image, row in zip(images, rows, strict=True):
            if template_of.setdefault(int(row), template) != template:
                raise ManifestError(
                    f"{file}: templates '{template_of[int(row)]}' and '{template}' share {image}: comparing them would "
                    "compare an image with itself"
                )
        yield np.unique(rows)
