"""What the page says, worked out before any markup: sentences, cards, rows of tables. Pure functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twin_dcal.evaluation import behind
from twin_dcal.evaluation.result import Evaluation, FamilyErrors, Figures, PersonErrors
from twin_dcal.evaluation.table import about_tuning
from twin_dcal.plural import plural

from .wording import (
    count,
    number,
    number_interval,
    percent,
    percent_interval,
    rate_name,
    unbroken,
)

SECTIONS = ("twin", "unrelated", "all")
MIN_ERRORS = 30
MAX_ROWS = 500
WORST_ROWS = 10
WORST_PAIRS = 12
ANIMALS = ("goat", "lamb", "wolf")


@dataclass(frozen=True)
class Cell:
    """A figure: its value, its interval ("" if none), and a remark that qualifies it ("" if none)."""

    value: str
    interval: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Row:
    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Card:
    """A figure to see first. `kind` gives its colour."""

    name: str
    kind: str
    cell: Cell


@dataclass(frozen=True)
class Errors:
    """Wrong decisions among comparisons; `rate` is "–" where there were none to make."""

    errors: str
    total: str
    rate: str


@dataclass(frozen=True)
class FamilyRow:
    family: str
    people: int
    num_images: str
    twin: Errors
    genuine: Errors
    twin_auc: str


@dataclass(frozen=True)
class PersonRow:
    person: str
    family: str
    animal: str
    num_images: str
    genuine: Errors
    twin: Errors
    unrelated: Errors
    mean_genuine: str
    mean_impostor: str


def headline(figures: Figures) -> str:
    """What to read first, without `further`; of figures that have no sentence, the rates at the decision threshold."""
    if figures.get("sentence"):
        return unbroken(str(figures["sentence"]).removesuffix(further(figures)).rstrip())
    for name, words in (("all", "impostor"), ("twin", "twin"), ("unrelated", "unrelated")):
        at = (figures.get(name) or {}).get("confusion")
        if at:
            return (
                f"At the decision threshold {percent(at.get('fmr'))} of {words} pairs are accepted as one person (FMR) "
                f"and {percent(at.get('fnmr'))} of genuine pairs are rejected (FNMR)."
            )
    return "There are no comparisons to report."


def further(figures: Figures) -> str:
    """The rates where few unrelated pairs match, which come second."""
    return str((figures.get("headline") or {}).get("sentence") or "")


def whose(figures: Figures) -> tuple[str, bool]:
    """How many people stand behind the pairs and errors ("" where nobody knows), and whether they are too few."""
    told = figures.get("behind")
    return unbroken(behind.sentence(told)), bool(behind.doubts(told, figures.get("weights") or "pairs"))


def cards(figures: Figures) -> list[Card]:
    """Rates at the decision threshold first, then those of the headline, then EER and AUC."""
    kinds = [name for name in ("twin", "unrelated") if figures.get(name)] or ["all"]
    words = {"twin": "twins", "unrelated": "unrelated people", "all": "all impostors"}
    kind, section = kinds[0], figures.get(kinds[0]) or {}
    made = []
    if section.get("confusion"):
        name = "Twin FMR" if kind == "twin" else "FMR"
        made = [
            Card(f"{name} at the decision threshold", kind, _cell(section, "fmr", percent, percent_interval)),
            Card(
                "FNMR at the decision threshold", "genuine", _cell(section, "fnmr", percent, percent_interval)
            ),
        ]
    told = figures.get("headline") or {}
    if told:
        at = percent(told.get("fmr_used") or told.get("fmr_requested") or 1e-4)
        made += [
            Card(
                f"Twin FMR where at most {at} of unrelated pairs match",
                "twin",
                _cell(told, "twin_fmr", percent, percent_interval),
            ),
            Card("FNMR there", "genuine", _cell(told, "fnmr", percent, percent_interval)),
        ]
    for key, name, form in (("eer", "EER", _PERCENT), ("roc_auc", "ROC AUC", _FOUR)):
        made += [
            Card(f"{name}, {words[kind]}", kind, _cell(figures.get(kind) or {}, key, *form)) for kind in kinds
        ]
    return made


def level_name(figures: Figures) -> str:
    """The intervals' level, "95 %"; empty where there are no intervals."""
    told = figures.get("intervals") or {}
    level = told.get("level")
    return percent(level, 0) if isinstance(level, float) else ""


def figure_rows(figures: Figures) -> list[tuple[str, list[Row]]]:
    """The table of figures, in groups: (heading, rows), a cell for each of `SECTIONS`."""
    sections = [figures.get(name) or {} for name in SECTIONS]

    def row(name: str, key: str, form: "_Form") -> Row:
        return Row(name, [_cell(section, key, *form) for section in sections])

    comparisons = [
        Row("Genuine pairs", [Cell(count(section.get("num_genuine"))) for section in sections]),
        Row("Impostor pairs", [Cell(count(section.get("num_impostors"))) for section in sections]),
    ]
    ranking = [
        row("EER", "eer", _PERCENT),
        row("ROC AUC", "roc_auc", _FOUR),
        row("PR AUC", "pr_auc", _FOUR),
        row("d′", "d_prime", _TWO),
        row("Best accuracy of any threshold", "best_accuracy", _PERCENT),
    ]
    at_threshold = [
        row("FMR", "fmr", _PERCENT),
        row("FNMR", "fnmr", _PERCENT),
        row("Accuracy", "accuracy", _PERCENT),
        row("F1", "f1", _FOUR),
        *_error_rows(figures),
    ]
    groups = [
        ("Comparisons", comparisons),
        ("Over all thresholds", ranking),
        ("At the decision threshold", at_threshold),
        ("TAR (1 − FNMR) where FMR is at most", _tar_rows(sections)),
    ]
    return [(name, rows) for name, rows in groups if rows]


def family_rows(families: Sequence[FamilyErrors]) -> list[FamilyRow]:
    """Worst first: highest twin FMR, then highest FNMR."""

    def badness(family: FamilyErrors) -> tuple[float, float, str]:
        twin = _share(family.num_twin_false_matches, family.num_twin)
        return -twin, -_share(family.num_false_non_matches, family.num_genuine), family.family

    return [
        FamilyRow(
            family.family,
            len(family.people),
            count(family.num_images),
            _errors(family.num_twin_false_matches, family.num_twin),
            _errors(family.num_false_non_matches, family.num_genuine),
            number(family.twin_auc, 4),
        )
        for family in sorted(families, key=badness)
    ]


def person_rows(people: Sequence[PersonErrors]) -> list[PersonRow]:
    """Goats, lambs and wolves first, then by how often decisions about the person are wrong."""

    def badness(person: PersonErrors) -> tuple[int, float, str]:
        animal = ANIMALS.index(person.animal) if person.animal in ANIMALS else len(ANIMALS)
        wrong = _share(person.num_false_non_matches, person.num_genuine)
        wrong += _share(person.num_twin_false_matches, person.num_twin)
        return animal, -wrong, person.person

    return [
        PersonRow(
            person.person,
            person.family,
            person.animal,
            count(person.num_images),
            _errors(person.num_false_non_matches, person.num_genuine),
            _errors(person.num_twin_false_matches, person.num_twin),
            _errors(person.num_unrelated_false_matches, person.num_unrelated),
            number(person.mean_genuine, 3),
            number(person.mean_impostor, 3),
        )
        for person in sorted(people, key=badness)
    ]


def compared(evaluation: Evaluation, name_of: Callable[[str], str]) -> list[tuple[str, str]]:
    """What was compared, as (term, description). `name_of` says how a path is written."""
    figures = evaluation.figures
    everyone = figures.get("all") or {}
    rows = [("Data", name_of(str(figures.get("test_data") or "")))]
    for term, key in (("Model", "model"), ("Embeddings", "embeddings"), ("Scores", "scores")):
        told = _mapping(figures.get(key))
        rows.append((term, name_of(str(told.get("path") or ""))))
        rows.append((f"{term} SHA-256", str(told.get("sha256") or "")))
    branches = _mapping(figures.get("model")).get("branches") or ()
    rows += [
        ("Branches", ", ".join(str(branch) for branch in branches)),
        ("Feature", str(figures.get("feature_type") or "")),
        ("Threshold", _threshold(figures, name_of)),
        ("Validation", about_tuning(figures.get("tuning"))),
        ("Achieved FMR", str(_mapping(figures.get("achieved_fmr")).get("sentence") or "")),
        ("Pairs", _pairs(everyone, figures)),
        ("Protocol", _protocol(figures)),
        ("Weights", _WEIGHTS.get(str(figures.get("weights")), "")),
        ("People", _people(evaluation)),
        ("Intervals", _intervals(figures)),
        ("Judged by", f"twin_dcal {figures['twin_dcal']}" if figures.get("twin_dcal") else ""),
    ]
    return [(term, text) for term, text in rows if text]


_Form = tuple[Callable[[Any], str], Callable[[Any], str]]
_PERCENT: _Form = (percent, percent_interval)
_FOUR: _Form = (lambda value: number(value, 4), lambda interval: number_interval(interval, 4))
_TWO: _Form = (lambda value: number(value, 2), lambda interval: number_interval(interval, 2))


def _cell(
    section: Mapping[str, Any], key: str, form: Callable[[Any], str], interval_form: Callable[[Any], str]
) -> Cell:
    """A figure of a section, or of its confusion at the threshold, with the interval of that name."""
    at_threshold = section.get("confusion") or {}
    value = section.get(key, at_threshold.get(key))
    interval = (section.get("intervals") or {}).get(key) or (at_threshold.get("intervals") or {}).get(key)
    return Cell(form(value), interval_form(interval) if value is not None else "")


def _tar_rows(sections: Sequence[Mapping[str, Any]]) -> list[Row]:
    levels = sorted(
        {point["fmr_requested"] for section in sections for point in section.get("tar_at_far") or ()}
    )
    rows = []
    for level in reversed(levels):
        cells = []
        for section in sections:
            points = [point for point in section.get("tar_at_far") or () if point["fmr_requested"] == level]
            cells.append(
                _tar_cell(points[0], section.get("intervals") or {}) if points else Cell(percent(None))
            )
        rows.append(Row(rate_name(level), cells))
    return rows


def _tar_cell(point: Mapping[str, Any], intervals: Mapping[str, Any]) -> Cell:
    if not point.get("supported", True):
        return Cell(percent(None), remark="too few pairs")
    errors = [point.get("num_false_matches"), point.get("num_false_non_matches")]
    few = [error for error in errors if error is not None and error < MIN_ERRORS]
    remark = plural(min(few), "error") if few else ""
    interval = intervals.get(f"tar_at_far_{point['fmr_requested']:g}")
    return Cell(percent(point.get("tar")), percent_interval(interval), remark)


def _error_rows(figures: Figures) -> list[Row]:
    """How many errors, and of how many people, the rates at the decision threshold rest on."""
    told = figures.get("behind") or {}
    rows = []
    for name, key in (("False matches", "num_false_matches"), ("False non-matches", "num_false_non_matches")):
        cells = []
        for section in SECTIONS:
            number = ((figures.get(section) or {}).get("confusion") or {}).get(key)
            kind = told.get(section if key == "num_false_matches" else "genuine")
            people = plural(kind["people"]["with_errors"], "person", "people") if kind and number else ""
            cells.append(Cell(count(number), remark=f"of {people}" if people else ""))
        rows.append(Row(name, cells))
    return rows


def _errors(errors: int, total: int) -> Errors:
    return Errors(count(errors), count(total), percent(errors / total if total else None, 1))


def _share(errors: int, total: int) -> float:
    return errors / total if total else 0.0


def _threshold(figures: Figures, name_of: Callable[[str], str]) -> str:
    value = figures.get("threshold")
    told = "none: every pair is rejected" if value is None or not math.isfinite(value) else number(value, 4)
    source = figures.get("threshold_source")
    return f"{told} ({name_of(str(source))})" if source else told


def _pairs(everyone: Mapping[str, Any], figures: Figures) -> str:
    parts: list[tuple[Any, ...]] = [(everyone.get("num_genuine"), "genuine", "genuine")]
    known = [(name, (figures.get(name) or {}).get("num_impostors")) for name in ("twin", "unrelated")]
    parts += [(value, f"{name} impostor") for name, value in known]
    total = everyone.get("num_impostors")
    other = None if total is None else total - sum(value or 0 for _, value in known)
    parts.append((other or None, "impostor of unknown relation", "impostors of unknown relation"))
    return ", ".join(plural(value, *names) for value, *names in parts if value is not None)


def _protocol(figures: Figures) -> str:
    told = figures.get("protocol") or {}
    parts = [str(told.get("name") or "")]
    if told.get("max_unrelated") and told.get("of_unrelated"):
        parts.append(
            f"at most {count(told['max_unrelated'])} of {count(told['of_unrelated'])} unrelated pairs"
        )
    if told.get("max_images_per_person"):
        parts.append(
            f"at most {plural(told['max_images_per_person'], 'image')} a person, {count(told['num_images'])} of "
            f"{count(told['of_images'])}"
        )
    return ", ".join(part for part in parts if part)


_WEIGHTS = {
    "pairs": "every pair counts the same",
    "people": "every person counts the same in each kind of pair; numbers of pairs and errors are plain counts",
}


def _mapping(value: object) -> Mapping[str, Any]:
    """What a system says of itself: a mapping, or of foreign embeddings perhaps a name alone."""
    if isinstance(value, Mapping):
        return value
    return {"path": value} if value else {}


def _people(evaluation: Evaluation) -> str:
    num_images = sum(person.num_images for person in evaluation.people)
    parts = [plural(len(evaluation.people), "person", "people")] if evaluation.people else []
    if evaluation.families:
        twins = sum(len(family.people) > 1 for family in evaluation.families)
        parts.append(f"{plural(len(evaluation.families), 'family', 'families')} ({twins:,} with twins)")
    if num_images:
        parts.append(plural(num_images, "image"))
    return ", ".join(parts)


def _intervals(figures: Figures) -> str:
    told = figures.get("intervals")
    if not told:
        return "none; the notes say why"
    parts = [level_name(figures), str(told.get("method") or "")]
    if told.get("num_families"):
        parts.append(plural(told["num_families"], "family", "families"))
    return ", ".join(part for part in parts if part)
