"""A contact sheet: each photo with what was found in it, beside the crop that came of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from twin_dcal.data.decode import decode_pixels
from twin_dcal.files import replacing

from .geometry import TEMPLATE
from .job import Prepared
from .journal import CROPS, STATE
from .judging import Crop
from .photo import read_source

CELL, COLUMNS, MOST = 160, 6, 48
_BOX, _POINT, _GOAL = (255, 176, 0), (0, 220, 140), (255, 0, 90)
_JPEG_QUALITY = 85


def write_contact_sheet(path: str | Path, done: Prepared) -> Path:
    """Up to 48 crops, spread over the data set; the template's points are marked in red, landmarks in green.

    JPEG if the name ends in .jpg or .jpeg, PNG otherwise.
    """
    path = Path(path)
    crops = sorted(done.path_of, key=lambda crop: crop.name)
    step = max(-(-len(crops) // MOST), 1)
    cells = [_cell(done.job.output / STATE / CROPS, crop) for crop in crops[::step]]
    sheet = _arranged(cells)
    with replacing(path) as file:
        is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        sheet.save(file, "JPEG" if is_jpeg else "PNG", quality=_JPEG_QUALITY)
    return path


def _cell(folder: Path, crop: Crop) -> Image.Image:
    """Photo and crop side by side, (2 CELL, CELL)."""
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
    cell = Image.new("RGB", (2 * CELL, CELL), "white")
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
    sheet = Image.new("RGB", (columns * (2 * CELL + gap) - gap, rows * (CELL + gap) - gap), "white")
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % columns * (2 * CELL + gap), number // columns * (CELL + gap)))
    return sheet
