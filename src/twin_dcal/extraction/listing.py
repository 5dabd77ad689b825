"""Which pictures: those of a folder, or those that a list names."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from twin_dcal.data.formats import IMAGE_EXTENSIONS
from twin_dcal.data.listing import find_images
from twin_dcal.data.paths import found_from
from twin_dcal.data.tables import column_names, headings, pyarrow_parquet, read_lines, read_rows
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.files import refuse_endless


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
    """The lines of a text file, or the column `image` of a .csv, .tsv or .parquet table, in order; empty ones and
    repetitions are left out. Relative to the file's folder where they are not found from here. ManifestError for a file
    that is missing, damaged or empty, or has no such column."""
    path = Path(path)
    names = _LISTS.get(path.suffix.lower(), _of_lines)(path)
    if not names:
        raise ManifestError(f"{path}: names no image; give one path a line")
    return list(dict.fromkeys(found_from(name, path.parent) for name in names))


def _of_lines(path: Path) -> list[str]:
    return [line for _, line in read_lines(path, ManifestError, are_names=True)]


def _of_text_table(path: Path) -> list[str]:
    """Without headings, a table of one column is a list."""
    rows = read_rows(path, ManifestError)
    first = next(rows, None)
    if first is None:
        return []
    names, place = column_names(first[1]), f"{path}, line {first[0]}"
    if COLUMN not in names:
        if len(names) > 1:
            raise ManifestError(f"{place}: the first line must name the column {COLUMN}")
        return [first[1][0], *(cells[0] for _, cells in rows if cells[0])]
    at = headings(first[1], place, ManifestError).index(COLUMN)
    found = []
    for line, cells in rows:
        if len(cells) <= at:
            raise ManifestError(f"{path}, line {line}: no column {COLUMN}")
        found.append(cells[at])
    return [name for name in found if name]


def _of_parquet(path: Path) -> list[str]:
    """Other columns, which may hold pictures, are not read."""
    refuse_endless(path, ManifestError)
    if not path.is_file():
        raise ManifestError(f"{path}: no such file. Check the path.")
    parquet = pyarrow_parquet(str(path))
    try:
        with parquet.ParquetFile(path) as file:
            written = file.schema_arrow.names
            names = headings(written, path, ManifestError)
            if COLUMN not in names:
                raise ManifestError(f"{path}: no column {COLUMN}; it has {', '.join(written)}")
            values = file.read(columns=[written[names.index(COLUMN)]]).column(0).to_pylist()
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: not a parquet file, or damaged ({str(error)[:100]})") from error
    other = next((value for value in values if value is not None and not isinstance(value, str)), None)
    if other is not None:
        raise ManifestError(f"{path}: {COLUMN} is no path of a picture: {other!r:.40}")
    return [value for value in values if value]


_LISTS = {".csv": _of_text_table, ".tsv": _of_text_table, ".parquet": _of_parquet}
COLUMN = "image"


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
