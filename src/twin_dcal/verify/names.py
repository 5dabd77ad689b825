"""Names of result files: told by what was compared, never shared by two comparisons, never too long."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from twin_dcal.prepare.sources import file_name

_LONGEST = 48  # bytes of each picture's part: two of them and the rest stay well below 255
_DIGITS = 8


def result_name(pictures: Sequence[str | Path], *more: object) -> str:
    """`al_001_bo_001_1f0c22ab` for al/001.jpg and bo/001.jpg: what people read, and digits of the whole paths and of
    what else sets a result apart."""
    told = [os.path.realpath(picture) for picture in pictures] + [repr(part) for part in more]
    digest = hashlib.sha256("\0".join(told).encode("utf-8", "surrogateescape")).hexdigest()
    return "_".join([*(_short(Path(picture)) for picture in pictures), digest[:_DIGITS]])


def captions(one: str | Path, other: str | Path) -> tuple[str, str]:
    """What two pictures are called under them: their names, with folders as far as it takes to tell them apart."""
    parts = Path(one).parts, Path(other).parts
    most = max(map(len, parts))
    shared = next((n for n in range(1, most + 1) if parts[0][-n:] != parts[1][-n:]), 1)
    first, second = ("/".join(each[-shared:]) for each in parts)
    return first, second


def _short(picture: Path) -> str:
    """The folder's name and the picture's own, of a long one the end."""
    name = "_".join(file_name(part) for part in (picture.parent.name, picture.stem) if part)
    while len(name.encode()) > _LONGEST:
        name = name[1:]
    return name
