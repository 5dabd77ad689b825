"""Lists of pairs as Labeled Faces in the Wild has them: people by name, images by number.

pairs.txt begins with a line of two numbers (folds, and pairs of each kind in a fold; the folds follow one another),
pairsDevTrain.txt and pairsDevTest.txt with one. `Name n1 n2` are two images of one person, `Name1 n1 Name2 n2` of two
(http://vis-www.cs.umass.edu/lfw/README.txt).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from twin_dcal.config_text import whole_number
from twin_dcal.errors import ManifestError
from twin_dcal.files import is_file
from twin_dcal.plural import plural

from .paths import PathResolver

_ENDINGS = (".jpg", ".png")
_FOLDERS = ("", "lfw/", "lfw-deepfunneled/", "lfw_funneled/")

Lines = Sequence[tuple[int, str]]
Entry = tuple[str, tuple[str, str], bool, tuple[str, str], str]


def is_lfw(lines: Lines) -> bool:
    """Whether the first line is LFW's: one or two numbers and nothing else."""
    parts = lines[0][1].split() if lines else []
    return len(parts) in (1, 2) and all(whole_number(part) is not None for part in parts)


def lfw_entries(path: Path, lines: Lines, find: PathResolver) -> Iterator[Entry]:
    """(place for messages, the two image paths, same, the two people, the fold or ""). ManifestError for a line of
    another shape, and for another number of pairs than the first line says."""
    counts = [int(part) for part in lines[0][1].split()]
    promised = 2 * counts[-1] * (counts[0] if len(counts) == 2 else 1)
    if len(lines) - 1 != promised:
        raise ManifestError(
            f"{path}: {plural(len(lines) - 1, 'pair')}, but its first line says {promised}. Take the whole file, "
            "as it came."
        )
    for index, (number, line) in enumerate(lines[1:]):
        place, parts = f"{path}, line {number}", line.split()
        if len(parts) == 3:
            parts.insert(2, parts[0])
        if len(parts) != 4 or not all(whole_number(part) is not None for part in parts[1::2]):
            raise ManifestError(f"{place}: not `Name n1 n2` or `Name1 n1 Name2 n2`: {line[:60]!r}")
        names = tuple(_written(person, int(image), find) for person, image in (parts[:2], parts[2:]))
        fold = str(index // (2 * counts[1]) + 1) if len(counts) == 2 else ""
        yield place, (names[0], names[1]), parts[0] == parts[2], (parts[0], parts[2]), fold


def _written(person: str, number: int, find: PathResolver) -> str:
    """The image as it can be found; the usual name where it cannot."""
    usual = f"{person}/{person}_{number:04d}"
    for folder in _FOLDERS:
        for ending in _ENDINGS:
            if is_file(find(f"{folder}{usual}{ending}")):
                return f"{folder}{usual}{ending}"
    return usual + _ENDINGS[0]
