"""Where an image path written in a description is on this machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from unicodedata import normalize

from twin_dcal.files import is_file
from twin_dcal.names import restored


@dataclass(frozen=True)
class PathResolver:
    """Finds written paths: `base` is the folder of the description, `root` where its images are now.

    With `root_first` (the user named the root) a path is looked up under `root` by its longest suffix before
    it is tried as written: absolute, or relative to `base`. Otherwise after.
    """

    base: Path
    root: Path | None = None
    root_first: bool = False

    def __call__(self, written: str) -> Path:
        """The existing file, or where it was expected if there is none."""
        expected = as_written(written, self.base)
        under_root = self._by_suffix(written) if self.root_first else None
        if under_root:
            return under_root
        if is_file(expected):
            return expected
        return (None if self.root_first else self._by_suffix(written)) or expected

    def _by_suffix(self, written: str) -> Path | None:
        if self.root is None:
            return None
        parts = PureWindowsPath(written).parts if "\\" in written else Path(written).parts
        first = 1 if parts and parts[0].endswith(("/", "\\")) else 0
        for start in range(first, len(parts)):
            for spelled in _in_both_forms(["/".join(parts[start:])]):
                if is_file(candidate := self.root / spelled):
                    return candidate
        return None


def as_written(written: str, base: Path | None = None) -> Path:
    """A path relative to `base`, spelled otherwise where it is not there and another spelling of it is: with / for the
    backslashes of another system, a name that is no UTF-8 as our own files write it (see `names`), letters with accents
    in the other Unicode form.
    """
    spellings = [written, restored(written), written.replace("\\", "/")] if "\\" in written else [written]
    for spelled in _in_both_forms(spellings):
        path = Path(spelled) if base is None else base / spelled
        if is_file(path):
            return path
    return Path(written) if base is None else base / written


def _in_both_forms(names: Iterable[str]) -> dict[str, None]:
    """Names as they are, then in NFC and NFD: macOS writes é as two characters, and a list may come from there."""
    given = list(names)
    forms = [normalize(form, each) for each in given if not each.isascii() for form in ("NFC", "NFD")]
    return dict.fromkeys([*given, *forms])


def found_from(name: str, folder: Path) -> str:
    """Where a file is that a table or list in `folder` names: from here, or else below that folder."""
    here = as_written(name)
    if is_file(here):
        return str(here)
    below = as_written(name, folder)
    return str(below if is_file(below) else here)
