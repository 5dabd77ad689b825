"""Which pictures: those of a folder, or those that a list names."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from twin_dcal.data.formats import IMAGE_EXTENSIONS
from twin_dcal.data.listing import find_images
from twin_dcal.data.paths import found_from
from twin_dcal.data.tables import read_lines
from twin_dcal.errors import ConfigError, ManifestError


def images_below(folder: str | Path, extensions: Iterable[str] = IMAGE_EXTENSIONS) -> list[str]:
    """Every picture in a folder and its subfolders, sorted. Hidden files and linked folders are left out.

    ManifestError for a folder that is missing or holds none.
    """
    wanted = tuple(sorted(extensions))
    found = find_images(folder, wanted)
    if not found:
        raise ManifestError(f"{folder}: no file ends in {', '.join(wanted)}")
    return found


def images_listed(path: str | Path) -> list[str]:
    """The lines of a text file, in order; empty ones and repetitions are left out. Relative to the file's folder where
    they are not found from here. ManifestError for a file that is missing, no text or empty."""
    path = Path(path)
    names = [line for _, line in read_lines(path, ManifestError, are_names=True)]
    if not names:
        raise ManifestError(f"{path}: names no image; give one path a line")
    return list(dict.fromkeys(found_from(name, path.parent) for name in names))


def parse_extensions(given: Sequence[str] | None) -> Iterable[str]:
    """`.jpg png` or `jpg,png` as {".jpg", ".png"}; the usual ones for None. ConfigError for those that are not read."""
    if given is None:
        return IMAGE_EXTENSIONS
    names = {
        f".{part.strip().lstrip('.').lower()}" for text in given for part in text.split(",") if part.strip()
    }
    unknown = names - IMAGE_EXTENSIONS
    if unknown or not names:
        raise ConfigError(
            f"--image_extensions {' '.join(given)}: read are {', '.join(sorted(IMAGE_EXTENSIONS))}"
        )
    return names
