"""Where an image path written in a description is on this machine."""

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

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
        if _exists(expected):
            return expected
        return (None if self.root_first else self._by_suffix(written)) or expected

    def _by_suffix(self, written: str) -> Path | None:
        if self.root is None:
            return None
        parts = PureWindowsPath(written).parts if "\\" in written else Path(written).parts
        first = 1 if parts and parts[0].endswith(("/", "\\")) else 0
        for start in range(first, len(parts)):
            candidate = self.root.joinpath(*parts[start:])
            if _exists(candidate):
                return candidate
        return None


def as_written(written: str, base: Path | None = None) -> Path:
    """A path relative to `base`; one with backslashes, of another system, with / in their place if that exists.

    So is a name that is no UTF-8, as our own files write it (see `names`).
    """
    path = Path(written) if base is None else base / written
    if "\\" in written and not _exists(path):
        for other in (restored(written), written.replace("\\", "/")):
            turned = Path(other) if base is None else base / other
            if _exists(turned):
                return turned
    return path


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL byte
        return False
