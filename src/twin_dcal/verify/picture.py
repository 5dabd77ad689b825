"""Two faces side by side with the decision above them. Drawn with Pillow: importing matplotlib takes longer than a
decision."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from twin_dcal.files import replacing
from twin_dcal.inference.result import VerificationResult
from twin_dcal.report.theme import LIGHT, font
from twin_dcal.report.wording import shown

from .wording import decision_words, in_words

_WIDTH = 1280  # pixels
_MARGIN = 40
_FACE = (588, 540)  # width and height of the room for a face
_LETTERS = 118  # in a line of warnings
_TINY = 160  # pixels a side; smaller faces show their pixels


def pair_picture(
    pixels1: NDArray[np.uint8], pixels2: NDArray[np.uint8], result: VerificationResult, names: tuple[str, str]
) -> Image.Image:
    """Both faces, (H, W, 3) each, decision, the similarity on a scale, and below it all warnings."""
    lines = warning_lines(result.warnings, _LETTERS)
    colour = LIGHT["genuine" if result.verification_decision else "twin"]
    picture = Image.new("RGB", (_WIDTH, 880 + 26 * len(lines) + 20 * bool(lines)), LIGHT["surface"])
    draw = ImageDraw.Draw(picture)
    title = decision_words(result.verification_decision).capitalize()
    draw.text((_MARGIN, 76), title, colour, font(36, bold=True), "ls")
    score = "" if result.verification_score is None else f"score {result.verification_score:.3f}   "
    told = f"{score}similarity {result.similarity:+.3f}"
    draw.text((_WIDTH - _MARGIN, 76), told, LIGHT["muted"], font(24), "rs")
    for left, pixels, name in zip(
        (_MARGIN, _WIDTH - _MARGIN - _FACE[0]), (pixels1, pixels2), names, strict=True
    ):
        _face(picture, draw, left, pixels, colour)
        middle = left + _FACE[0] // 2
        draw.text((middle, 694), _shortened(shown(name)), LIGHT["muted"], font(24), "ms")
    _scale(draw, result, colour)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, 898 + 26 * number), line, LIGHT["ink"], font(18), "ls")
    return picture


def _face(
    picture: Image.Image, draw: ImageDraw.ImageDraw, left: int, pixels: NDArray[np.uint8], colour: str
) -> None:
    """A face as large as its room lets it be, in a frame."""
    height, width = pixels.shape[:2]
    grown = min(_FACE[0] / width, _FACE[1] / height)
    size = (max(1, round(width * grown)), max(1, round(height * grown)))
    tiny = height < _TINY
    face = Image.fromarray(pixels).resize(
        size, Image.Resampling.NEAREST if tiny else Image.Resampling.BICUBIC
    )
    x, y = left + (_FACE[0] - size[0]) // 2, 112 + (_FACE[1] - size[1]) // 2
    picture.paste(face, (x, y))
    draw.rectangle((x - 3, y - 3, x + size[0] + 2, y + size[1] + 2), outline=colour, width=3)


def _scale(draw: ImageDraw.ImageDraw, result: VerificationResult, colour: str) -> None:
    """Similarity and threshold between -1 and 1."""
    left, right, top, bottom = 80, _WIDTH - 80, 760, 794

    def at(similarity: float) -> int:
        return round(left + (right - left) * (min(max(similarity, -1), 1) + 1) / 2)

    cut, place, middle = at(result.threshold), at(result.similarity), (top + bottom) // 2
    draw.rectangle((left, top, cut, bottom), _pale(LIGHT["twin"], 0.15))
    draw.rectangle((cut, top, right, bottom), _pale(LIGHT["genuine"], 0.25))
    draw.line((cut, top, cut, bottom), LIGHT["ink"], 3)
    draw.text((left, top - 14), f"threshold {result.threshold:+.3f}", LIGHT["ink"], font(24), "ls")
    draw.polygon(
        [(place - 14, middle), (place, middle - 14), (place + 14, middle), (place, middle + 14)], colour
    )
    for tick in (-1, -0.5, 0, 0.5, 1):
        draw.line((at(tick), bottom, at(tick), bottom + 8), LIGHT["frame"], 2)
        told = f"{tick:.1f}".replace("-", "\u2212")
        draw.text((at(tick), bottom + 36), told, LIGHT["muted"], font(22), "ms")


def _pale(colour: str, strength: float) -> tuple[int, ...]:
    """A colour on white, so strong."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return tuple(round(255 - strength * (255 - part)) for part in parts)


def save_pair_picture(
    path: Path, pixels1: NDArray[np.uint8], pixels2: NDArray[np.uint8], result: VerificationResult,
    names: tuple[str, str],
) -> None:  # fmt: skip
    picture = pair_picture(pixels1, pixels2, result, names)
    with replacing(path) as file:
        picture.save(file, "PNG", compress_level=1)


def warning_lines(warnings: Sequence[str], letters: int) -> list[str]:
    """All warnings in lines of at most so many letters."""
    told = (f"Warning: {shown(in_words(warning))}" for warning in warnings)
    return [line for text in told for line in wrap(text, letters)]


def _shortened(name: str) -> str:
    return name if len(name) <= 38 else f"…{name[-37:]}"
