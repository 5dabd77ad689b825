"""Variables of the user's environment that may be wrong, where a library would end a command over them."""

import os
from importlib.util import find_spec
from pathlib import Path


def num_threads() -> int:
    """OMP_NUM_THREADS, as torch reads it, for ONNX Runtime; 0, the runtime's own choice, where it is no number."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(told), os.cpu_count() or 1) if told.isascii() and told.isdigit() else 0


def ignore_wrong_backend() -> None:
    """Take away an MPLBACKEND that matplotlib does not have, which it would refuse to be imported with. Our figures
    need no backend: each is saved by Agg or as text. matplotlib is not imported here.

    Called by every command, and by the packages that draw.
    """
    name = os.environ.get("MPLBACKEND", "")
    spec = find_spec("matplotlib") if name and not name.startswith("module://") else None
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0]) / "backends"
    if not (folder / f"backend_{name.lower()}.py").is_file():
        del os.environ["MPLBACKEND"]
