"""Event files for ``tensorboard --logdir``."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from twin_dcal.files import make_folder, owner_only

from .interface import Outcome


class TensorBoard:
    """Scalars by optimizer step. Those after `step`, which a resumed run logs again, are hidden."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        make_folder(folder)
        with owner_only():  # the event file is made here
            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_scalar("epoch", epoch, step)

    def close(self, outcome: Outcome = "failed") -> None:
        self._writer.close()
