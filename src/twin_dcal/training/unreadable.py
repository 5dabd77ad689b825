"""Images that turned out during training to be unreadable: named once each, counted, and kept in every checkpoint."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from twin_dcal import distributed

logger = logging.getLogger(__name__)


class UnreadableImages:
    """By path, why each could not be read. What stands for them in a batch is up to the data set, see `FaceDataset`."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def note(self, paths: Sequence[Path], faults: Mapping[int, str]) -> None:
        """Warn of those that are new. Args: faults: reasons by index into `paths`."""
        for index, fault in faults.items():
            if str(paths[index]) not in self.reasons:
                self.reasons[str(paths[index])] = fault
                logger.warning("left out: %s", fault)

    def share(self) -> None:
        """Let every process know what all have met; all call it together."""
        self.restore(reasons for part in distributed.gather_objects(self.reasons) for reasons in part.items())

    def restore(self, reasons: Iterable[tuple[str, str]]) -> None:
        """Go on with those of a checkpoint."""
        self.reasons |= dict(reasons)
