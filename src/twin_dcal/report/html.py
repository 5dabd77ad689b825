"""The report: one page that needs nothing else, and its plots as files.

The page holds no script and asks for nothing: style, plots and images are inside, and its content security policy
forbids the rest. Whatever comes from data is escaped by the template engine or drawn as text.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from twin_dcal.errors import ConfigError
from twin_dcal.evaluation.result import Evaluation
from twin_dcal.files import replacing, write_text
from twin_dcal.progress import track

from . import content, protocols
from .breakdowns import breakdown_figure, breakdown_rows
from .captions import Caption, caption
from .curves import det_figure, roc_figure
from .galleries import Overlays, PathEraser, galleries
from .plots import confusion_figure, family_figure, histogram_figure, reliability_figure
from .projection import embedding_figure, project
from .rendering import FORMATS, inline, render
from .theme import DARK, LIGHT, css_variables, drawing
from .wording import shown, unbroken

logger = logging.getLogger(__name__)

PAGE_NAME = "report.html"
PLOTS_FOLDER = "visualizations"
_TEMPLATES = Path(__file__).parent / "templates"
_DRAWN: Mapping[str, Callable[[Evaluation], Figure | None]] = {
    "roc": lambda evaluation: roc_figure(evaluation) if evaluation.curves else None,
    "det": lambda evaluation: det_figure(evaluation) if evaluation.curves else None,
    "histograms": histogram_figure,
    "confusion": confusion_figure,
    "reliability": reliability_figure,
    "families": family_figure,
    "breakdowns": breakdown_figure,
}


@dataclass(frozen=True, eq=False)
class Plot:
    """A plot of the report. `svg` is the file's content; `figure` is there for other formats."""

    name: str
    figure: Figure
    caption: Caption
    svg: bytes


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    *,
    images: bool = True,
    blur: bool = False,
    formats: Sequence[str] = FORMATS,
    title: str = "Verification report",
    root: str | Path | None = None,
    seed: int = 0,
    overlays: Overlays | None = None,
    made: str = "",
) -> Path:
    """Write `report.html` and the plots under `visualizations/`; the page's path.

    The same evaluation gives the same bytes with the same versions of matplotlib and scikit-learn.

    Args: images: False leaves out images and file paths. blur: pixelates and blurs images for good, and leaves out
        file paths. formats: of the plot files, any of "png", "pdf", "svg". root: where relative image paths begin;
        paths below it are shown relative to it. seed: of the projection and of which images it shows. overlays:
        explanations of some of the worst pairs, shown beside images that are not blurred. made: when and by which
        command, told as it is but for paths.
    ConfigError for an unknown format. Files appear whole or not at all, readable by their owner only.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown:
        raise ConfigError(f"plot format '{unknown[0]}' is unknown. Use any of {', '.join(FORMATS)}.")
    home = Path(folder)
    plots = draw_plots(evaluation, seed)
    for plot in track(plots, "writing plots", "plots"):
        for form in formats:
            data = plot.svg if form == "svg" else render(plot.figure, plot.name, form)
            with replacing(home / PLOTS_FOLDER / f"{plot.name}.{form}") as file:
                file.write(data)
    base = None if root is None else Path(root)
    page = home / PAGE_NAME
    text = report_page(
        evaluation, plots, images=images, blur=blur, title=title, root=base, overlays=overlays, made=made
    )
    write_text(page, text)
    return page


def draw_plots(evaluation: Evaluation, seed: int = 0) -> list[Plot]:
    """Every plot that the evaluation has data for, in the order of the page."""
    level = content.level_name(evaluation.figures)
    plots = []
    for name, draw in track(list(_DRAWN.items()), "drawing plots", "plots"):
        with drawing(name):
            figure = draw(evaluation)
        if figure is not None:
            told = caption(name, evaluation, level=level)
            plots.append(Plot(name, figure, told, render(figure, name, "svg")))
    projection = project(evaluation.points, seed) if evaluation.points is not None else None
    if projection is not None:
        with drawing("embedding"):
            figure = embedding_figure(evaluation, projection)
        told = caption("embedding", evaluation, level=level, method=projection.method)
        plots.append(Plot("embedding", figure, told, render(figure, "embedding", "svg")))
    return plots


def report_page(
    evaluation: Evaluation,
    plots: Sequence[Plot] = (),
    *,
    images: bool = True,
    blur: bool = False,
    title: str = "Verification report",
    root: Path | None = None,
    overlays: Overlays | None = None,
    made: str = "",
) -> str:
    """The page's text. Arguments as in `write_report`."""
    figures = evaluation.figures
    name_of = PathEraser(evaluation, keep_relative=images and not blur)
    whose, is_narrow = content.whose(figures)
    families, people = content.family_rows(evaluation.families), content.person_rows(evaluation.people)
    return template("report.html.jinja").render(
        title=name_of(title),
        style=Markup(page_style()),
        headline=name_of(content.headline(figures)),
        further=name_of(unbroken(content.further(figures))),
        whose=name_of(whose),
        is_narrow=is_narrow,
        cards=content.cards(figures),
        level=content.level_name(figures),
        compared=[
            *content.compared(evaluation, name_of),
            *protocols.failures(figures),
            *([("Made", name_of(made))] if made else []),
        ],
        warnings=[name_of(str(text)) for text in figures.get("warnings") or ()],
        notes=[name_of(str(text)) for text in figures.get("notes") or ()],
        groups=[*content.figure_rows(figures), *protocols.groups(figures)],
        breakdowns=breakdown_rows(figures),
        plots=[_placed(plot) for plot in plots],
        families=families[: content.MAX_ROWS],
        num_families=len(families),
        people=people[: content.MAX_ROWS],
        num_people=len(people),
        num_worst=content.WORST_ROWS,
        num_pairs=content.WORST_PAIRS,
        galleries=galleries(evaluation, root, images=images, blur=blur, overlays=overlays),
        explained=bool(overlays) and images and not blur,
        mode="blurred" if images and blur else "images" if images else "none",
    )  # fmt: skip


def _placed(plot: Plot) -> dict[str, Any]:
    """A plot as the template takes it. The SVG is matplotlib's, which escapes the text it draws."""
    svg = inline(plot.svg.decode(), shown(plot.caption.alternative))
    return {"name": plot.name, "caption": plot.caption, "svg": Markup(svg)}


def template(name: str) -> Template:
    """A template of ours; text is escaped where it is put in."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    made.filters["breakable"] = breakable
    return made.get_template(name)


def breakable(path: str) -> Markup:
    """A path that a narrow column breaks behind its separators rather than within a word."""
    parts = re.split(r"(?<=[/\\_-])", shown(path))
    return Markup("<wbr>").join(escape(part) for part in parts)


def page_style() -> str:
    """The style sheet of a page, with colours for light and dark."""
    sheet = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    light, dark = css_variables(LIGHT), css_variables(DARK)
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{sheet}"
    )
