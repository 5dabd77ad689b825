"""A run's curves, drawn from its metrics.jsonl."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from twin_dcal.files import replacing

CURVES_NAME = "training_curves.png"
_PANELS = (
    ("loss", ("train/loss", "train/sa", "train/glca", "train/pwca")),
    ("validation EER", ("val/twin_eer", "val/unrelated_eer")),
    ("learning rate", ("train/learning_rate", "train/learning_rate_backbone")),
)


def write_curves(folder: Path) -> Path | None:
    """Draw `training_curves.png` of the figures in `folder`/metrics.jsonl; None if there are none to draw."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    figure = curves_figure(lines)
    if figure is None:
        return None
    data = BytesIO()
    figure.savefig(data, format="png", dpi=150)
    with replacing(folder / CURVES_NAME) as file:
        file.write(data.getvalue())
    return folder / CURVES_NAME


def curves_figure(lines: list[Mapping[str, float]]) -> Figure | None:
    """A panel for each kind of figure that was logged, over epochs."""
    panels = [(title, [n for n in names if any(n in line for line in lines)]) for title, names in _PANELS]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        return None
    figure = Figure((6.0, 2.2 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(rows, panels, strict=True):
        for name in names:
            points = [(line["epoch"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker=".", markersize=4, label=name.partition("/")[2])
        if title.endswith("EER"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title(title, loc="left", fontsize=9)
        if len(names) > 1:
            axes.legend(fontsize=7, frameon=False)
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("epoch")
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))  # there are no half epochs
    return figure
