"""`prepare_report.html`: what was kept, what was left out and why, on one page that needs nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twin_dcal.report.html import page_style
from twin_dcal.report.thumbnails import thumbnail
from twin_dcal.report.wording import shown

from . import judging
from .job import Prepared
from .journal import CROPS, STATE
from .judging import Dropped

MAX_ROWS = 5000
"""Rows of one reason on the page; dropped.csv has all."""
MAX_IMAGES = 300
_MEANT = {
    judging.CONFLICT: "One picture under two ids: at least one id is wrong, and it would spoil an evaluation.",
    judging.UNREADABLE: "Files that are no images, are damaged or may not be read.",
    judging.NO_FACE: "The detector found nothing that it takes for a face.",
    judging.SEVERAL: "More than one face, which the settings do not allow.",
    judging.POOR: "Measured values outside the limits of the settings.",
    judging.COPY: "One picture of a person is kept; the same file, or the same picture saved again, adds nothing.",
    judging.UNFIT: "A model finds these unlike the other photos of their person. Set aside, not deleted: see --review.",
    judging.OTHER: "Entries that were not read.",
}
_MEASURED = {
    "eyes_px": "between the eyes, in the photo's pixels",
    "score": "how sure the detector is, 0 to 1",
    "sharpness": "lower for blurred and for small faces",
    "brightness": "mean of the inner face, 0 to 1",
    "clipped": "share of its pixels that are black or white",
    "turn": "to the viewer's right; 0 from the front",
    "roll_deg": "how far the head was tilted, in degrees counter-clockwise",
    "outside": "share of the crop beyond the photo's edges",
}
"""Measures of `Quality` on the page, and what they are."""


def report_page(done: Prepared) -> str:
    """The page's text; the same result gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("twin_dcal.prepare"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )  # fmt: skip
    people: dict[str, int] = {}
    for crop in done.path_of:
        people[crop.photo.person] = people.get(crop.photo.person, 0) + 1
    listed = sorted({*people, *(out.person for out in done.dropped if out.person)})
    return environment.get_template("prepare_report.html.jinja").render(
        style=Markup(page_style()),
        cards=_cards(done, len(people)),
        notes=done.notes,
        groups=_groups(done),
        max_rows=MAX_ROWS,
        people=[(person, people.get(person, 0), done.split.split_of.get(person, "")) for person in listed],
        measured=_measured(done),
        settings=[
            (f"{section}.{name}", str(value))
            for section, values in done.job.config.model_dump().items() for name, value in values.items()
        ],
    )  # fmt: skip


def _cards(done: Prepared, num_people: int) -> list[tuple[str, str]]:
    conflicts = done.num_reasons.get(judging.CONFLICT, 0)
    return [
        ("photos", f"{done.num_photos:,}"), ("crops kept", f"{len(done.path_of):,}"), ("people", f"{num_people:,}"),
        ("twin pairs", f"{len(done.pairs):,}"), ("left out", f"{len(done.dropped):,}"),
        ("pictures under two people", f"{conflicts:,}"),
    ]  # fmt: skip


def _groups(done: Prepared) -> list[dict[str, Any]]:
    groups = []
    shown_images = 0
    for reason, count in done.num_reasons.items():
        rows = []
        for out in [out for out in done.dropped if out.reason == reason][:MAX_ROWS]:
            image = _image(done.job.output, out) if shown_images < MAX_IMAGES else None
            shown_images += image is not None
            rows.append({"name": out.name, "person": out.person, "detail": out.detail, "image": image})
        groups.append({"reason": reason, "meant": _MEANT[reason], "count": count, "rows": rows})
    return groups


def _image(output: Path, out: Dropped) -> str | None:
    return thumbnail(output / STATE / CROPS / out.crop.face["crop"]) if out.crop is not None else None


def _measured(done: Prepared) -> list[tuple[str, list[str], str]]:
    """Name, the 0, 5, 50, 95 and 100 % quantiles over the crops kept, and what it is."""
    if not done.path_of:
        return []
    values = {name: [crop.face["quality"][name] for crop in done.path_of] for name in _MEASURED}
    quantiles = (0, 0.05, 0.5, 0.95, 1)
    return [
        (name, [f"{value:.3g}" for value in np.quantile(values[name], quantiles)], meant)
        for name, meant in _MEASURED.items()
    ]
