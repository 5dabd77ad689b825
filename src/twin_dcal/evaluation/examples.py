"""The worst pairs as image files, side by side, for a look at what goes wrong."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps

from twin_dcal.data.decode import decode_pixels
from twin_dcal.files import is_file, replacing

from .result import Evaluation, WorstPair

SIDE = 224
GAP = 8
BLURRED_SIDE = 12


def save_examples(
    evaluation: Evaluation, folder: str | Path, num_examples: int, *, blur: bool = False
) -> int:
    """Write the worst false matches and false non-matches as JPEGs into `folder`; how many.

    Files of an earlier call are removed first. Pairs whose images are gone are passed over. `blur` leaves 12 by 12
    pixels of each face: nobody can be recognised.
    """
    home = Path(folder)
    for old in home.glob("false_*match_*.jpg"):
        old.unlink()
    written = 0
    groups = {"false_match": evaluation.false_matches, "false_non_match": evaluation.false_non_matches}
    for name, pairs in groups.items():
        for rank, pair in enumerate(_readable(pairs)[:num_examples], start=1):
            people = f"{_safe(pair.first_person)}_{_safe(pair.second_person)}"
            path = home / f"{name}_{rank:03d}_{pair.kind}_{pair.score:+.3f}_{people}.jpg"
            with replacing(path) as file:
                file.write(_side_by_side(pair, blur))
            written += 1
    return written


def _readable(pairs: Sequence[WorstPair]) -> list[WorstPair]:
    return [pair for pair in pairs if is_file(pair.first) and is_file(pair.second)]


def _side_by_side(pair: WorstPair, blur: bool) -> bytes:
    sheet = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
    for column, name in enumerate((pair.first, pair.second)):
        pixels = decode_pixels(Path(name).read_bytes(), name)
        face = ImageOps.pad(Image.fromarray(pixels), (SIDE, SIDE), color="white")
        if blur:
            face = face.resize((BLURRED_SIDE, BLURRED_SIDE), Image.Resampling.BOX).resize((SIDE, SIDE))
            face = face.filter(ImageFilter.GaussianBlur(SIDE / BLURRED_SIDE / 2))
        sheet.paste(face, (column * (SIDE + GAP), 0))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=90)
    return data.getvalue()


def _safe(person: str) -> str:
    return re.sub(r"[^\w.-]", "-", person)[:40] or "unknown"
