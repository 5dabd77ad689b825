"""`metrics.jsonl`: every figure of a run in one file; what any other tracker missed is here."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from twin_dcal.files import make_folder, open_own, write_text, writing

from .interface import Outcome


class JsonLines:
    """One JSON object a line, flushed at once. Lines after `step`, which a resumed run writes again, are removed."""

    def __init__(self, path: Path, step: int = 0) -> None:
        self._path = path
        make_folder(path.parent)
        keep_lines(path, lambda logged, _: logged <= step)
        self._file = os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        with writing(self._path):
            self._file.write(json.dumps({"step": step, "epoch": epoch, **figures}) + "\n")
            self._file.flush()

    def close(self, outcome: Outcome = "failed") -> None:
        self._file.close()


def keep_lines(path: Path, keep: Callable[[int, float], bool]) -> None:
    """Leave out the lines whose (step, epoch) `keep` refuses, and the half of one that a kill may have left."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            step, epoch = values["step"], values["epoch"]
        except (ValueError, KeyError, TypeError):
            continue
        if keep(step, epoch):
            kept.append(line + "\n")
    write_text(path, "".join(kept))
