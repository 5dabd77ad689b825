"""A contact sheet: each photo with what was found in it, beside the crop that came of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from twin_dcal.data.decode import decode_pixels
from twin_dcal.files import replacing
from twin_dcal.names import printable
from twin_dcal.report.theme import font
from twin_dcal.report.wording import shortened

from .geometry import TEMPLATE
from .job import Prepared
from .journal import CROPS, STATE
from .judging import Crop
from .photo import read_source

CELL, COLUMNS, MOST, MOST_DROPPED = 160, 6, 48, 12
CAPTION, HEAD = 18, 24
"""Pixels of a line of text below a cell, and of the legend."""
_BOX, _POINT, _GOAL, _OUT = (255, 176, 0), (0, 220, 140), (255, 0, 90), (170, 0, 40)
_JPEG_QUALITY = 85
_LEGEND = (
    ("Photo (left) and crop (right).", (0, 0, 0)), ("Box: the face.", (190, 120, 0)),
    ("Green: landmarks.", (0, 140, 90)), ("Red: where the crop's template has them.", (210, 0, 70)),
    ("Dark red text: left out, and why.", _OUT),
)  # fmt: skip


def write_contact_sheet(path: str | Path, done: Prepared) -> Path:
    """Up to 48 crops, spread over the data set, and up to 12 that were left out, each with its name or with the reason;
    the template's points are marked in red, landmarks in green.

    JPEG if the name ends in .jpg or .jpeg, PNG otherwise.
    """
    path = Path(path)
    crops = sorted(done.path_of, key=lambda crop: crop.name)
    step = max(-(-len(crops) // MOST), 1)
    folder = done.job.output / STATE / CROPS
    cells = [_cell(folder, crop, crop.name) for crop in crops[::step]]
    for out in [out for out in done.dropped if out.crop is not None][:MOST_DROPPED]:
        assert out.crop is not None
        cells.append(_cell(folder, out.crop, f"{out.reason}: {out.name}", _OUT))
    sheet = _arranged(cells)
    with replacing(path) as file:
        is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        sheet.save(file, "JPEG" if is_jpeg else "PNG", quality=_JPEG_QUALITY)
    return path


def _cell(folder: Path, crop: Crop, told: str, colour: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """Photo and crop side by side above a line of text, (2 CELL, CELL + CAPTION)."""
    photo = Image.fromarray(decode_pixels(read_source(crop.photo.path), crop.name))
    scale = CELL / max(photo.size)
    photo = photo.resize(
        (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1)), Image.Resampling.BOX
    )
    draw = ImageDraw.Draw(photo)
    x, y, width, height = (value * scale for value in crop.face["box"])
    draw.rectangle([x, y, x + width, y + height], outline=_BOX, width=2)
    _points(draw, np.array(crop.face["landmarks"]) * scale, _POINT)
    face = Image.open(folder / crop.face["crop"]).resize((CELL, CELL), Image.Resampling.BOX)
    _points(ImageDraw.Draw(face), TEMPLATE * CELL, _GOAL)
    cell = Image.new("RGB", (2 * CELL, CELL + CAPTION), "white")
    ImageDraw.Draw(cell).text((2, CELL + 2), shortened(printable(told), 46), colour, font(12))
    cell.paste(photo, ((CELL - photo.width) // 2, (CELL - photo.height) // 2))
    cell.paste(face, (CELL, 0))
    return cell


def _points(draw: ImageDraw.ImageDraw, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    for x, y in points.tolist():
        draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=colour)


def _arranged(cells: Sequence[Image.Image]) -> Image.Image:
    columns = max(min(COLUMNS // 2, len(cells)), 1)
    rows = max(-(-len(cells) // columns), 1)
    gap = 8
    height = CELL + CAPTION + gap
    sheet = Image.new("RGB", (columns * (2 * CELL + gap) - gap, HEAD + rows * height - gap), "white")
    draw, right = ImageDraw.Draw(sheet), 2.0
    for words, colour in _LEGEND:
        if right + draw.textlength(words, font(12)) <= sheet.width:
            draw.text((right, 4), words, colour, font(12))
        right += draw.textlength(words, font(12)) + 16
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % columns * (2 * CELL + gap), HEAD + number // columns * height))
    return sheet
