"""One pair and everything that explains it, side by side. No torch here."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import NDArray

from .overlays import DIFFERENT, SAME, Pixels, chosen_overlay, enlarged, overlay
from .result import Match, PairExplanation

SHOWN_MATCHES = 5
_SIDE = 224
_DPI = 110


def pair_figure(
    explanation: PairExplanation, pixels1: Pixels, pixels2: Pixels, *, title: str = "",
    notes: Sequence[str] = (),
    truth: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> Figure:  # fmt: skip
    """Two rows, the first and second picture; columns: photo, attribution, matched regions, rollout, GLCA.

    Args: pixels: (H, W, 3) uint8, what the network saw, at any size; title: the decision in words; notes: lines below
    it; truth: where the two people differ in each of these pictures, at any size, where that is known, as one more
    column.
    """
    faces = tuple(enlarged(pixels, _SIDE) for pixels in (pixels1, pixels2))
    columns = _columns(explanation, faces, truth)
    figure = Figure(figsize=(1.9 * len(columns), 4.5), dpi=_DPI, layout="constrained", facecolor="white")
    axes = figure.subplots(2, len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(columns):
        axes[0, column].set_title(name, fontsize=8.5)
        for row in range(2):
            axes[row, column].imshow(pictures[row], interpolation="nearest")
            axes[row, column].set_axis_off()
    cells = np.array(faces[0].shape[:2]) / explanation.attribution1.shape
    _join(axes[0, 2], axes[1, 2], explanation.matches[:SHOWN_MATCHES], cells)
    told = f"cosine {explanation.similarity:+.3f}"
    heading = f"{title}  ·  {told}" if title else told
    figure.suptitle("\n".join([heading, *notes]), fontsize=9 if notes else 10, parse_math=False)
    figure.supxlabel(
        f"attribution ({explanation.method}) and lines: blue supports “same”, orange supports “different”",
        fontsize=8,
    )
    return figure


def figure_png(figure: Figure) -> bytes:
    """The bytes of a PNG file; the same for the same figure."""
    data = BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _columns(
    told: PairExplanation, faces: tuple[Pixels, ...], truth: tuple[NDArray[np.floating], ...] | None
) -> list[tuple[str, Sequence[Pixels]]]:
    attributions = (told.attribution1, told.attribution2)
    reach = max(float(np.abs(map_).max()) for map_ in attributions) or 1.0
    pairs = list(zip(faces, attributions, strict=True))
    rollouts = list(zip(faces, (told.rollout1, told.rollout2), strict=True))
    columns: list[tuple[str, Sequence[Pixels]]] = [
        ("photos", faces),
        ("made alike or different", [overlay(face, map_, signed=True, reach=reach) for face, map_ in pairs]),
        ("matched regions", faces),
        ("rollout (SA)", [overlay(face, map_, signed=False) for face, map_ in rollouts]),
    ]
    if told.glca1 is not None and told.glca2 is not None:
        attended = zip(faces, (told.glca1, told.glca2), strict=True)
        columns.append(("GLCA attention", [overlay(face, map_, signed=False) for face, map_ in attended]))
    if told.glca_chosen1 is not None and told.glca_chosen2 is not None:
        chosen = zip(faces, (told.glca_chosen1, told.glca_chosen2), strict=True)
        columns.append(("GLCA's regions", [chosen_overlay(face, patches) for face, patches in chosen]))
    if truth is not None:
        true = zip(faces, truth, strict=True)
        columns.append(("true difference", [overlay(face, map_, signed=False) for face, map_ in true]))
    return columns


def _join(upper: Axes, lower: Axes, matches: Sequence[Match], cell: NDArray[np.floating]) -> None:
    """Frames around matched regions, joined by lines whose width tells their strength. cell: its rows and columns."""
    strongest = max((abs(match.strength) for match in matches), default=1.0)
    high, wide = cell.tolist()
    for match in matches:
        colour = np.array(SAME if match.strength > 0 else DIFFERENT) / 255
        width = 0.8 + 2 * abs(match.strength) / strongest
        ends = []
        for axes, (row, column) in ((upper, match.first), (lower, match.second)):
            axes.add_patch(
                Rectangle(
                    (column * wide - 0.5, row * high - 0.5), wide, high, fill=False, ec=colour, lw=width
                )
            )
            ends.append(((column + 0.5) * wide - 0.5, (row + 0.5) * high - 0.5))
        upper.figure.add_artist(
            ConnectionPatch(ends[0], ends[1], "data", "data", axesA=upper, axesB=lower, color=colour, lw=width,
                            alpha=0.8)
        )  # fmt: skip
