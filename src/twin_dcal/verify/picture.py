"""Two faces side by side with the decision above them."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twin_dcal.files import replacing
from twin_dcal.inference.result import VerificationResult
from twin_dcal.report.rendering import render
from twin_dcal.report.theme import LIGHT, drawing
from twin_dcal.report.wording import shown

from .wording import decision_words, in_words

_SIZE = (6.4, 4.4)  # inches, without warnings
_LINE = 0.13
_LETTERS = 118  # in a line of warnings


def pair_picture(
    pixels1: NDArray[np.uint8], pixels2: NDArray[np.uint8], result: VerificationResult, names: tuple[str, str]
) -> Figure:
    """Both faces, (H, W, 3) each, decision, the similarity on a scale, and below it all warnings."""
    colour = LIGHT["genuine" if result.verification_decision else "twin"]
    lines = warning_lines(result.warnings, _LETTERS)
    whole = _SIZE[1] + _LINE * len(lines)
    share = _SIZE[1] / whole

    def at(height: float) -> float:
        """A height in the picture without warnings, in the whole."""
        return 1 - share * (1 - height)

    figure = Figure((_SIZE[0], whole))
    for side, (pixels, name) in enumerate(zip((pixels1, pixels2), names, strict=True)):
        axes = figure.add_axes((0.03 + 0.48 * side, at(0.24), 0.46, 0.62 * share))
        axes.imshow(pixels, interpolation="nearest" if len(pixels) < 160 else None)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(_shortened(shown(name)), color=LIGHT["muted"], parse_math=False)
        axes.spines[:].set(visible=True, color=colour, linewidth=1.5)
    figure.text(0.03, at(0.92), decision_words(result.verification_decision).capitalize(), color=colour, fontsize=13,
                fontweight="bold")  # fmt: skip
    score = "" if result.verification_score is None else f"score {result.verification_score:.3f}   "
    figure.text(
        0.97, at(0.925), f"{score}similarity {result.similarity:+.3f}", ha="right", color=LIGHT["muted"]
    )
    figure.text(0.03, 0.01, "\n".join(lines), color=LIGHT["ink"], fontsize=6.5, va="bottom", parse_math=False)
    scale = figure.add_axes((0.06, at(0.09), 0.88, 0.035 * share))
    scale.axvspan(result.threshold, 1, color=LIGHT["genuine"], alpha=0.25, linewidth=0)
    scale.axvspan(-1, result.threshold, color=LIGHT["twin"], alpha=0.15, linewidth=0)
    scale.axvline(result.threshold, color=LIGHT["ink"], linewidth=1)
    scale.plot([result.similarity], [0.5], "D", color=colour, markersize=6, clip_on=False)
    scale.set(xlim=(-1, 1), ylim=(0, 1), yticks=[], xticks=[-1, -0.5, 0, 0.5, 1])
    scale.spines[:].set_visible(False)
    scale.set_title(f"threshold {result.threshold:+.3f}", loc="left")
    return figure


def save_pair_picture(
    path: Path, pixels1: NDArray[np.uint8], pixels2: NDArray[np.uint8], result: VerificationResult,
    names: tuple[str, str],
) -> None:  # fmt: skip
    with drawing(path.stem):
        picture = render(pair_picture(pixels1, pixels2, result, names), path.stem, "png")
    with replacing(path) as file:
        file.write(picture)


def warning_lines(warnings: Sequence[str], letters: int) -> list[str]:
    """All warnings in lines of at most so many letters."""
    told = (f"Warning: {shown(in_words(warning))}" for warning in warnings)
    return [line for text in told for line in wrap(text, letters)]


def _shortened(name: str) -> str:
    return name if len(name) <= 38 else f"…{name[-37:]}"
