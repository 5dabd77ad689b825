"""The trackers a configuration asks for."""

import logging
from collections.abc import Callable

from twin_dcal.config import TwinVerificationConfig

from .background import Background, OutsideTracker, Patience
from .interface import RunPlace, Tracker, Trackers
from .jsonlines import JsonLines
from .shared import MLFLOW_NOTE, is_installed, need_package, read_note
from .stores import choose_store, find_store
from .tensorboard import TensorBoard, events_folder

logger = logging.getLogger(__name__)


def check_tracking(config: TwinVerificationConfig) -> TwinVerificationConfig:
    """The configuration with a tracker that can be started here, or with none if that is not required.

    ConfigError for one that cannot, before data are read and long before a network asks.
    """
    backend = config.tracking.backend
    if backend != "none" and not config.tracking.required and not is_installed(backend):
        logger.warning(
            "%s is not installed: the run goes on with TensorBoard and metrics.jsonl alone; pip install "
            "'twin-dcal[%s]' adds it", backend, backend,
        )  # fmt: skip
        return config.override({"tracking.backend": "none"})
    if backend != "none":
        need_package(backend)
    if backend == "mlflow":
        find_store(config.tracking.mlflow_uri, config.runtime.run_folder)
    return config


def build_trackers(place: RunPlace, patience: Patience | None = None) -> Tracker:
    """metrics.jsonl and TensorBoard always; MLflow or wandb in the background. For rank 0 only.

    Says where figures go, before anything leaves this machine.
    """
    events = events_folder(place)
    logger.info(
        "checkpoints and figures go to %s; see curves with: tensorboard --logdir %s",
        place.folder,
        events.home,
    )
    always: list[Tracker] = [
        JsonLines(place.folder / "metrics.jsonl", place.step),
        TensorBoard(events.folder, place.step),
    ]
    backend = place.config.tracking.backend
    if backend == "mlflow":
        return Trackers(*always, Background(backend, _mlflow(place), patience))
    if backend == "wandb":
        return Trackers(*always, Background(backend, _wandb(place), patience))
    return Trackers(*always)


def _mlflow(place: RunPlace) -> Callable[[], OutsideTracker]:
    before = read_note(place.folder / MLFLOW_NOTE).get("store")
    store = choose_store(place.config.tracking.mlflow_uri, place.folder, before)

    def start() -> OutsideTracker:
        from .mlflow import MLflow  # in the background: the import alone takes seconds

        return MLflow(place, store)

    return start


def _wandb(place: RunPlace) -> Callable[[], OutsideTracker]:
    from . import wandb

    key = wandb.find_key()
    told = "figures and settings go to {}; images, weights and file names stay here"
    chosen = wandb.choose_mode(key, place.folder / "wandb", told)
    return lambda: wandb.Wandb(place, key, chosen)
