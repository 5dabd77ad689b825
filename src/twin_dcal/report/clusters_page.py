"""The page of photographs grouped into people: every group with its photographs, and where twins may be mixed up."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from twin_dcal.evaluation.match_names import short_ids
from twin_dcal.files import write_text
from twin_dcal.inference.clusters import Clusters
from twin_dcal.plural import plural

from .html import page_style, template
from .thumbnails import thumbnail

MAX_IMAGES = 1000
"""Thumbnails on a page, 5 MB or so; of larger groups the first ones are shown, and clusters.csv has all."""
_PER_GROUP = 24
_LOOKED_AT = 10


def write_clusters_page(
    found: Clusters, path: str | Path, *, images: bool = True, blur: bool = False
) -> Path:
    """Write one HTML file that needs nothing else; its path.

    Args: found: of `engine.cluster`; images: thumbnails of the photographs that have a path, blurred with `blur`. The
    file is readable by its owner only.
    """
    path = Path(path)
    groups = found.groups
    write_text(
        path,
        template("clusters.html.jinja").render(
            style=Markup(page_style()),
            cards=[
                ("photographs", f"{len(found.paths):,}"), ("groups", f"{len(groups):,}"),
                ("of one photograph", f"{sum(len(rows) == 1 for rows in groups):,}"),
                ("threshold", _number(found.threshold)), ("left out", f"{len(found.left_out):,}"),
            ],
            groups=_groups(found, images, blur),
            nearest=_nearest(found),
            loosest=_loosest(found),
            left_out=found.left_out,
            mode="blurred" if images and blur else "images" if images else "none",
        ),
    )  # fmt: skip
    return path


def _groups(found: Clusters, images: bool, blur: bool) -> list[dict[str, Any]]:
    told, room = [], MAX_IMAGES if images else 0
    paths = [path for path in found.paths if path is not None]
    names = dict(zip(paths, short_ids(paths), strict=True))  # without the folders that all have in common
    for number, rows in enumerate(found.groups):
        photos = []
        for row in rows[:_PER_GROUP]:
            name = found.paths[row]
            picture = thumbnail(Path(name), blur=blur) if room and name is not None else None
            room -= picture is not None
            photos.append((f"photograph {row + 1}" if name is None else names[name], picture))
        told.append(
            {
                "number": number + 1, "size": plural(len(rows), "photograph"), "photos": photos,
                "more": max(0, len(rows) - _PER_GROUP), "similarity": _number(found.similarity[number]),
                "nearest": _number(found.nearest[number]), "nearest_group": _named(found.nearest_group[number]),
            }
        )  # fmt: skip
    return told


def _nearest(found: Clusters) -> list[tuple[int, int, str | None, str | None]]:
    """Two groups each, the most alike first, with their similarity and how much is missing to the threshold."""
    pairs: dict[tuple[int, int], float] = {}
    for one, (other, score) in enumerate(zip(found.nearest_group, found.nearest, strict=True)):
        if other is not None and score is not None:
            pairs[min(one, other), max(one, other)] = score
    order = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:_LOOKED_AT]
    return [
        (one + 1, other + 1, _number(pairs[one, other]), _number(found.threshold - pairs[one, other]))
        for one, other in order
    ]


def _loosest(found: Clusters) -> list[tuple[int, str, str | None]]:
    """Groups of several photographs that are least like each other, with their size and similarity."""
    known = {number: score for number, score in enumerate(found.similarity) if score is not None}
    order = sorted(known, key=lambda number: (known[number], number))[:_LOOKED_AT]
    sizes = [len(rows) for rows in found.groups]
    return [(number + 1, f"{sizes[number]:,}", _number(known[number])) for number in order]


def _named(number: int | None) -> int | None:
    return None if number is None else number + 1


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}".replace("-", "\u2212")
