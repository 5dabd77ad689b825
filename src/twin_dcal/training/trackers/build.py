"""The trackers a configuration asks for."""

import logging
from collections.abc import Callable
from pathlib import Path

from twin_dcal.config import TwinVerificationConfig

from .background import Background, OutsideTracker, Patience
from .interface import RunPlace, Tracker, Trackers
from .jsonlines import JsonLines
from .shared import need_package
from .stores import find_store
from .tensorboard import TensorBoard

logger = logging.getLogger(__name__)


def check_tracking(config: TwinVerificationConfig) -> None:
    """ConfigError for a tracker that cannot be started here: before data are read and long before a network asks."""
    if config.tracking.backend != "none":
        need_package(config.tracking.backend)
    if config.tracking.backend == "mlflow":
        find_store(config.tracking.mlflow_uri, Path(config.runtime.output_dir))


def build_trackers(place: RunPlace, patience: Patience | None = None) -> Tracker:
    """metrics.jsonl and TensorBoard always; MLflow or wandb in the background. For rank 0 only.

    Says where figures go, before anything leaves this machine.
    """
    always: list[Tracker] = [
        JsonLines(place.folder / "metrics.jsonl", place.step),
        TensorBoard(place.folder / "logs" / "tensorboard", place.step),
    ]
    backend = place.config.tracking.backend
    if backend == "mlflow":
        return Trackers(*always, Background(backend, _mlflow(place), patience))
    if backend == "wandb":
        return Trackers(*always, Background(backend, _wandb(place), patience))
    return Trackers(*always)


def _mlflow(place: RunPlace) -> Callable[[], OutsideTracker]:
    store = find_store(place.config.tracking.mlflow_uri, place.folder)
    if store.is_local:
        logger.info("mlflow: runs are kept in %s; see them with: %s", store.shown, store.ui)
    else:
        logger.warning("mlflow: figures, settings, curves and the model go to %s", store.shown)

    def start() -> OutsideTracker:
        from .mlflow import MLflow  # in the background: the import alone takes seconds

        return MLflow(place, store)

    return start


def _wandb(place: RunPlace) -> Callable[[], OutsideTracker]:
    from . import wandb

    key = wandb.find_key()
    home = place.folder / "wandb"
    if wandb.mode(key) == "online":
        logger.warning(
            "wandb: figures and settings go to %s; images, weights and file names stay here", wandb.server()
        )
    elif key:
        logger.info("wandb: WANDB_MODE=%s; nothing is sent", wandb.mode(key))
    else:
        logger.warning(
            "wandb: no key, so the run is kept offline in %s. To send runs as they go, run 'wandb login' or set "
            "WANDB_API_KEY; to send this one later: wandb sync %s/offline-run-*", home, home,
        )  # fmt: skip
    return lambda: wandb.Wandb(place, key)
