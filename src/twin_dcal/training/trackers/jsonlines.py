"""`metrics.jsonl`: every figure of a run in one file; what any other tracker missed is here."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from twin_dcal.files import make_folder, write_text

from .interface import Outcome


class JsonLines:
    """One JSON object a line, flushed at once. Lines after `step`, which a resumed run writes again, are removed."""

    def __init__(self, path: Path, step: int = 0) -> None:
        make_folder(path.parent)
        if path.exists():
            write_text(path, "".join(_lines_until(path, step)))
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8"
        )

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        self._file.write(json.dumps({"step": step, "epoch": epoch, **figures}) + "\n")
        self._file.flush()

    def close(self, outcome: Outcome = "failed") -> None:
        self._file.close()


def _lines_until(path: Path, step: int) -> Iterator[str]:
    """Whole lines of steps up to `step`; a kill may have left half of one."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            logged = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if logged <= step:
            yield line + "\n"
