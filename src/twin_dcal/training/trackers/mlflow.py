"""MLflow: parameters, figures, system metrics, the configuration, curves and the model with its signature."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_dcal._version import __version__
from twin_dcal.files import make_private
from twin_dcal.privacy import set_privacy_defaults
from twin_dcal.training.curves import CURVES_NAME

from .interface import Outcome, RunPlace
from .mlflow_model import save_for_mlflow
from .shared import MLFLOW_NOTE, read_note, settings_to_send, write_note
from .stores import Store

logger = logging.getLogger(__name__)

DEFAULT_EXPERIMENT = "twin_dcal"
_STATUS: dict[Outcome, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST_PARAMETER = 6000


class MLflow:
    """One run of an MLflow store: the one that MLFLOW_RUN_ID names, else the one of the folder's note, which a resumed
    training goes on with, else a new one.

    Talks to the store through a client of its own: MLflow's global URI, experiment and run stay the user's. Every
    method bears being called again after it failed half way (`Background` does that).
    """

    def __init__(self, place: RunPlace, store: Store) -> None:
        self._place, self._store = place, store
        store.prepare()
        self._client = open_client(store)
        self._run_id = self._named_run() or self._same_run() or self._new_run()
        self._tell_settings()
        self._logged_at: dict[int, int] = {}
        self._machine = _machine_monitor(self._run_id, store)
        self._left: list[Callable[[], object]] | None = None
        experiment = self._client.get_run(self._run_id).info.experiment_id
        logger.info("mlflow: run %s in %s", self._run_id, store.page(experiment, self._run_id))

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        at_ms = self._logged_at.setdefault(
            step, int(time.time() * 1000)
        )  # one time, however often it is tried
        log_metrics(self._client, self._run_id, {**figures, "epoch": epoch}, step, at_ms)

    def sample(self) -> None:
        """CPU, memory, disk, network and GPUs as `system/…`, by seconds since 1970."""
        self._machine.collect_metrics()
        found = {f"system/{name}": value for name, value in self._machine.aggregate_metrics().items()}
        for monitor in self._machine.monitors:
            monitor.clear_metrics()
        log_metrics(self._client, self._run_id, found, int(time.time()))

    def close(self, outcome: Outcome = "failed") -> None:
        if self._left is None:
            self._left = [lambda: self._client.set_terminated(self._run_id, _STATUS[outcome])]
            if outcome == "finished":
                self._left = [self._log_curves, self._log_model, *self._left]
        while self._left:
            self._left[0]()
            del self._left[0]
        if self._store.file is not None and self._store.file.parent.exists():
            make_private(self._store.file.parent)

    def _named_run(self) -> str | None:
        """The run that the user made and named by MLFLOW_RUN_ID, if it is there."""
        run_id = os.environ.get("MLFLOW_RUN_ID")
        if not run_id or not self._is_running_again(run_id, "MLFLOW_RUN_ID names it, and it is not in"):
            return None
        write_note(self._place.folder / MLFLOW_NOTE, store=self._store.shown, run_id=run_id)
        return run_id

    def _same_run(self) -> str | None:
        """The run that the folder's note names, set to running again; None for a new folder or another store."""
        note = read_note(self._place.folder / MLFLOW_NOTE)
        run_id = note.get("run_id")
        if note.get("store") != self._store.shown or not run_id:
            return None
        return run_id if self._is_running_again(run_id, "it is gone from") else None

    def _is_running_again(self, run_id: str, why_not: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            logger.warning("mlflow: no run %s: %s %s; starting another", run_id, why_not, self._store.shown)
            return False
        return True

    def _new_run(self) -> str:
        name = self._place.config.tracking.mlflow_experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        experiment = find_experiment(self._client, name or DEFAULT_EXPERIMENT, self._store)
        tags = {"mlflow.source.name": "dcal-train", "twin_dcal.version": __version__}
        run = self._client.create_run(experiment, run_name=self._place.folder.resolve().name, tags=tags)
        run_id = str(run.info.run_id)
        write_note(self._place.folder / MLFLOW_NOTE, store=self._store.shown, run_id=run_id)
        return run_id

    def _tell_settings(self) -> None:
        """Parameters that are new, since MLflow's never change, and the configuration as it is now."""
        from mlflow.entities import Param

        settings = settings_to_send(self._place.config, is_local=self._store.is_local)
        known = self._client.get_run(self._run_id).data.params
        new = {name: value for name, value in _parameters(settings) if name not in known}
        parameters = [Param(name, value) for name, value in new.items()]
        if parameters:
            self._client.log_batch(self._run_id, params=parameters, synchronous=True)
        self._client.log_text(self._run_id, json.dumps(settings, indent=2), "config.json")

    def _log_curves(self) -> None:
        curves = self._place.folder / CURVES_NAME
        if curves.is_file():
            self._client.log_artifact(self._run_id, str(curves), "plots")

    def _log_model(self) -> None:
        from mlflow.entities import LoggedModelOutput

        experiment = self._client.get_run(self._run_id).info.experiment_id
        model = self._client.create_logged_model(experiment, name="best_model", source_run_id=self._run_id)
        with tempfile.TemporaryDirectory(dir=self._place.folder, prefix=".mlflow-") as scratch:
            home = save_for_mlflow(
                self._place.folder / "best_model.pth", Path(scratch) / "model",
                run_id=self._run_id, model_id=model.model_id,
            )  # fmt: skip
            self._client.log_model_artifacts(model.model_id, str(home))
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, self._place.step)])


def open_client(store: Store) -> Any:
    """An `MlflowClient` of this store alone, with answers awaited for seconds rather than minutes."""
    set_privacy_defaults()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # It prints the run's address among what a command prints; we say it where all else is said.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in (
        "mlflow",
        "alembic",
    ):  # a dozen lines on every new database; set after the import, which sets it too
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def log_metrics(
    client: Any, run_id: str, figures: Mapping[str, float], step: int, at_ms: int | None = None
) -> None:
    """Scalars at a step, as of now or of `at_ms` since 1970: the same figure of the same time is kept once."""
    from mlflow.entities import Metric

    at_ms = at_ms or int(time.time() * 1000)
    metrics = [Metric(name, float(value), at_ms, step) for name, value in figures.items()]
    client.log_batch(run_id, metrics=metrics, synchronous=True)


def find_experiment(client: Any, name: str, store: Store) -> str:
    """The id of an experiment, which is made if it is not there."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name, store.artifacts))


def _machine_monitor(run_id: str, store: Store) -> Any:
    """MLflow's own readings. Its thread is not started: it stops for good at the first failure, ours goes on."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    return SystemMetricsMonitor(run_id, tracking_uri=store.uri)


def _parameters(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for section, values in settings.items():
        for name, value in values.items():
            yield f"{section}.{name}", str(value)[:_LONGEST_PARAMETER]
