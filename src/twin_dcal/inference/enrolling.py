"""Who is to be enrolled: the people of a folder, of a table or of a mapping, and who is whose twin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_dcal.data.families import find_twin_pairs, read_twin_pairs
from twin_dcal.data.listing import list_folder
from twin_dcal.data.paths import found_from
from twin_dcal.errors import ManifestError

from .gallery import Gallery
from .images import ImageInput
from .records import read_table

if TYPE_CHECKING:
    from .engine import TwinInferenceEngine


def enroll(
    engine: "TwinInferenceEngine", source: Any, path: str | Path | None = None, *, twins: Any = None,
    progress: bool = False,
) -> Gallery:  # fmt: skip
    """A gallery of a folder, a table or a mapping (see `TwinInferenceEngine.enroll`)."""
    listed, pairs = _listed(source, twins)
    if path is None:
        gallery = Gallery(engine, pairs)
    elif Path(path).exists():
        gallery = Gallery.load(engine, path)
        gallery.add_twins(pairs)
    else:
        gallery = Gallery(engine, pairs)
        gallery.save(path)
    gallery.add_all(listed, progress=progress)
    return gallery


def _listed(source: Any, twins: Any) -> tuple[list[tuple[str, ImageInput]], Sequence[tuple[str, str]]]:
    """People and photographs of what a user names, and known twins."""
    files: list[Path] = [Path(twins)] if isinstance(twins, str | Path) else []
    pairs = [] if twins is None or files else [(str(one), str(other)) for one, other in twins]
    listed: list[tuple[str, ImageInput]]
    if isinstance(source, Mapping):
        listed = [(person, each) for person, several in source.items() for each in several]
    elif isinstance(source, str | Path) and Path(source).is_dir():
        found = list_folder(Path(source))
        listed = [(person, str(path)) for person, paths in found.images.items() for path in paths]
        files = files or ([] if pairs else find_twin_pairs(found.folder))
    else:
        folder = Path(source).parent if isinstance(source, str | Path) else Path()
        rows = read_table(source, ("person", "image"))
        listed = [(str(row["person"]), found_from(str(row["image"]), folder)) for row in rows]
    if not listed:
        raise ManifestError("nobody to enroll: no photograph is named")
    return listed, pairs or (read_twin_pairs(files).pairs if files else [])
