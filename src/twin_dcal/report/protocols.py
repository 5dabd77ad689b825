"""What the page says of failures, costs of errors, folds and identification. Pure functions, as in `content`."""

from collections.abc import Mapping, Sequence
from typing import Any

from twin_dcal.evaluation.result import Figures
from twin_dcal.metrics.costs import TARGET_PRIORS
from twin_dcal.plural import plural

from .content import SECTIONS, Cell, Row
from .wording import DASH, count, number, percent

Groups = list[tuple[str, list[Row]]]


def groups(figures: Figures) -> Groups:
    """Rows of the table of figures, in groups, a cell for each of `SECTIONS`; those that there are figures for."""
    made = [
        ("Costs of errors", _cost_rows(figures)),
        ("At the decision threshold, failures counted as rejected", _failure_rows(figures)),
        (_folds_name(figures.get("folds") or {}), _fold_rows(figures.get("folds") or {})),
        ("Searching a gallery of everybody (identification)", _identification_rows(figures)),
    ]
    return [(name, rows) for name, rows in made if rows]


def failures(figures: Figures) -> list[tuple[str, str]]:
    """Failures to acquire and to enrol, as (term, description); empty where the report does not say."""
    told = figures.get("failures")
    if not told:
        return []
    parts = [
        f"{count(told['num_failed_images'])} of {plural(told['num_images'], 'image')} not acquired "
        f"(FTA {percent(told['fta'])})"
    ]
    if told["fte"] is not None:
        parts.append(
            f"{count(told['num_failed_people'])} of {plural(told['num_people'], 'person', 'people')} not enrolled "
            f"(FTE {percent(told['fte'])})"
        )
    if told["num_failed_pairs"]:
        parts.append(f"{plural(told['num_failed_pairs'], 'pair')} without a score")
    return [("Failures", ", ".join(parts))]


def _cost_rows(figures: Figures) -> list[Row]:
    sections = [figures.get(name) or {} for name in SECTIONS]
    if not any("min_cllr" in section for section in sections):
        return []
    wanted = [("minCllr", "min_cllr")]
    for prior in TARGET_PRIORS:
        wanted += [
            (f"minDCF, {100 * prior:g} % genuine", f"min_dcf_{prior:g}"),
            (f"DCF at the threshold, {100 * prior:g} % genuine", f"dcf_{prior:g}"),
        ]
    hull = Row("EER of the convex hull", [Cell(percent(section.get("eer_hull"))) for section in sections])
    rows = [Row(name, [Cell(number(section.get(key), 4)) for section in sections]) for name, key in wanted]
    calibrated = (figures.get("calibration") or {}).get("cllr")
    if calibrated:
        rows.insert(
            1, Row("Cllr of the calibration", [Cell(number(calibrated.get(name), 4)) for name in SECTIONS])
        )
    return [hull, *rows]


def _failure_rows(figures: Figures) -> list[Row]:
    told = figures.get("failures") or {}
    if not told.get("num_failed_pairs"):
        return []
    sections = [told.get(name) or {} for name in SECTIONS]
    return [
        Row(name, [Cell(percent(section.get(key))) for section in sections])
        for name, key in (("GFAR", "gfar"), ("GFRR", "gfrr"))
    ]


def _folds_name(folds: Mapping[str, Any]) -> str:
    if folds.get("by") == "list":
        return f"Mean of the list's own {folds.get('num_folds')} folds ± standard error"
    return f"Mean of {folds.get('num_folds')} folds by family ± standard deviation"


def _fold_rows(folds: Mapping[str, Any]) -> list[Row]:
    """Held-out pairs: the mean over folds, with the standard deviation or error where an interval would stand."""
    spread = "se" if folds.get("by") == "list" else "sd"
    sections: Sequence[Mapping[str, Any]] = [
        (folds.get("sections") or {}).get(name) or {} for name in SECTIONS
    ]
    if not any(sections):
        return []
    used = [
        Cell(f"{count(sum(section['num_impostors']))} of {count(section['of_impostors'])}")
        if section
        else Cell(DASH)
        for section in sections
    ]
    rows = [Row("Impostor pairs used", used)]
    for name, key in (("FMR", "fmr"), ("FNMR", "fnmr"), ("Accuracy", "accuracy")):
        told = [section.get(key) for section in sections]
        cells = [
            Cell(percent(each["mean"]), f"± {percent(each[spread])}") if each else Cell(DASH) for each in told
        ]
        rows.append(Row(name, cells))
    return rows


def _identification_rows(figures: Figures) -> list[Row]:
    told = figures.get("identification")
    if not told:
        return []
    at = told["at_threshold"]
    rows = [
        ("The right person is at rank 1", told["rank_1_with_twin"], None, told["rank_1"]),
        ("The twin is at rank 1", told["twin_at_rank_1"], None, None),
        ("The twin is first, the person not enrolled", told["twin_first_without_person"], None, None),
        ("FNIR at the threshold", None, None, at["fnir"]),
        ("FPIR at the threshold", at["fpir_twin_enrolled"], at["fpir_no_twin"], at["fpir"]),
    ]
    rows += [
        (f"FNIR where FPIR is at most {percent(point['fpir_requested'])}", None, None, point["fnir"])
        for point in told["fnir_at_fpir"]
        if point["supported"]
    ]
    return [Row(name, [Cell(percent(value)) for value in values]) for name, *values in rows]
