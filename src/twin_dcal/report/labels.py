"""Names written beside what they name, wherever the curves of this figure leave room."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .layout import place_labels

_LETTER_POINTS, _LINE_POINTS = 5.4, 9.5  # of the plots' font, on the wide side


def write_beside(
    figure: Figure,
    axes: Axes,
    names: Sequence[str],
    colours: Sequence[str],
    lines: Sequence[NDArray[np.float64]],
) -> None:
    """Write each name beside its line.

    Args: lines: (K, 2) in data coordinates, one for each name; further ones are only kept clear of. Axes limits
        must be set: the figure is laid out here, since the size of the axes is known only then.
    """
    figure.draw_without_rendering()
    points = 72 / figure.dpi
    corner, opposite = np.array(axes.bbox.min), np.array(axes.bbox.max)
    width, height = ((opposite - corner) * points).tolist()
    places = [(axes.transData.transform(line) - corner) * points for line in lines]
    sizes = [(_LETTER_POINTS * len(name), _LINE_POINTS) for name in names]
    for name, colour, (x, y) in zip(
        names, colours, place_labels(places, sizes, (width, height)), strict=True
    ):
        axes.text(x / width, y / height, name, color=colour, transform=axes.transAxes, va="bottom",
                  parse_math=False, zorder=6)  # fmt: skip
