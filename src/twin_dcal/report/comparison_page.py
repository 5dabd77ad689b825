"""The page of a comparison: tables, curves, and pairs on which systems disagree. It needs nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from twin_dcal.evaluation.disagreement import DisagreedPair
from twin_dcal.evaluation.result import Figures
from twin_dcal.files import write_text

from .comparison import comparison_figure, systems_of
from .galleries import PairCard, pair_cards
from .html import page_style, template
from .rendering import inline, render
from .theme import drawing
from .wording import shown

PAGE_NAME = "comparison.html"
_NAME = "comparison_det"


def write_comparison_page(
    comparison: Figures, markdown: str, pairs: Sequence[DisagreedPair], folder: str | Path, *,
    images: bool = True, blur: bool = False, root: str | Path | None = None,
) -> Path:  # fmt: skip
    """Write `comparison.html`; its path.

    Args: markdown: the tables, of `evaluation.comparison_table`; pairs: shown as galleries; images, blur, root: as in
    `html.write_report`.
    """
    with drawing(_NAME):
        figure = comparison_figure(systems_of(comparison))
    names = ", ".join(run["name"] for run in comparison["runs"])
    label = f"Detection error trade-off curves of {names}"
    text = template("comparison.html.jinja").render(
        style=Markup(page_style()),
        blocks=blocks(markdown),
        curves=Markup(inline(render(figure, _NAME, "svg").decode(), shown(label))),
        galleries=galleries(pairs, None if root is None else Path(root), images=images, blur=blur),
        mode="blurred" if images and blur else "images" if images else "none",
    )
    path = Path(folder) / PAGE_NAME
    write_text(path, text)
    return path


def blocks(markdown: str) -> list[Mapping[str, Any]]:
    """The paragraphs and tables of a Markdown text of ours: {"text": …} or {"head": cells, "rows": [cells]}."""
    made: list[Mapping[str, Any]] = []
    for part in markdown.strip().split("\n\n"):
        lines = part.strip().splitlines()
        if lines and all(line.startswith("| ") or line.startswith("|-") for line in lines):
            head, _, *rows = (line.strip("|").split(" | ") for line in lines)
            made.append(
                {"head": [cell.strip() for cell in head], "rows": [[c.strip() for c in row] for row in rows]}
            )
        else:
            made += [{"text": line} for line in lines]
    return made


def galleries(
    pairs: Sequence[DisagreedPair], root: Path | None, *, images: bool, blur: bool
) -> list[tuple[str, list[PairCard]]]:
    """A gallery for each two systems of which one is right, kinds of pairs after one another."""
    made: dict[tuple[str, str], list[DisagreedPair]] = {}
    for each in pairs:
        made.setdefault((each.right, each.wrong), []).append(each)
    return [
        (
            f"{right} is right, {wrong} is wrong",
            pair_cards([each.pair for each in some], root, images=images, blur=blur),
        )
        for (right, wrong), some in made.items()
    ]
