"""An evaluation as a run of its own beside the training run of the model it is about: its figures, plots and report.

Two evaluations of one model never share a run, so figures of one data set cannot take the place of another's.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twin_dcal._version import __version__
from twin_dcal.errors import ConfigError
from twin_dcal.files import make_private
from twin_dcal.privacy import set_privacy_defaults

from .mlflow import log_metrics, open_client
from .shared import MLFLOW_NOTE, WANDB_NOTE, is_installed, need_package, one_line, read_note
from .stores import Store, find_store, without_login

logger = logging.getLogger(__name__)

Tracking = Literal["auto", "mlflow", "wandb", "none"]

_WRITTEN = ("evaluation_report.json", "evaluation_summary.txt", "report.html", "visualizations")
_SECTIONS = {"twin", "unrelated", "all", "headline"}
_SETTINGS = ("feature_type", "threshold", "threshold_source")


@dataclass(frozen=True)
class EvaluationRecord:
    """What is recorded: the figures of the report, and the folder they were written into."""

    model: Path
    folder: Path
    figures: Mapping[str, Any]

    @property
    def data(self) -> str:
        return str(self.figures.get("test_data", "unknown data"))

    def name(self) -> str:
        """How the run is called: what was evaluated on, without the place where it lies."""
        return f"evaluation: {Path(self.data).name or self.data}"

    def settings(self, *, is_local: bool) -> dict[str, str]:
        """What tells this evaluation from another; without the places of files if it leaves this machine."""
        data = self.data if is_local else Path(self.data).name
        told = {"data": data, "model_sha256": (self.figures.get("model") or {}).get("sha256")}
        told |= {name: self.figures.get(name) for name in _SETTINGS if is_local or name != "threshold_source"}
        return {name: str(value) for name, value in told.items() if value is not None}

    def numbers(self) -> dict[str, float]:
        """`test/eer`, `test/twin/eer`, …: numbers of the report and of its main sections."""
        return dict(_numbers(self.figures))


def check_tracking(model: Path, tracking: Tracking) -> None:
    """ConfigError, before anything is computed, where an evaluation of this model cannot be recorded as asked: the
    package is missing, or no training run is known."""
    if tracking in ("auto", "none"):
        return
    need_package(tracking)
    if tracking == "wandb":
        _wandb_note(model.parent)
    else:
        _mlflow_parent(model, tracking)


def track_evaluation(record: EvaluationRecord, tracking: Tracking) -> bool:
    """Record an evaluation beside the run that trained its model; whether it was done.

    Args: tracking: "auto" does so in MLflow if that run is kept on this machine, and sends nothing elsewhere; "mlflow"
    and "wandb" do so wherever it is, and then ConfigError if no training run is known. A store that does not answer is
    a warning: the evaluation is done and written.
    """
    if tracking == "none":
        return False
    if tracking == "wandb":
        return _track_in_wandb(record)
    found = _mlflow_parent(record.model, tracking)
    if found is None:
        return False
    store, parent = found
    if tracking == "auto" and not is_installed("mlflow"):
        logger.info("mlflow: not installed, so the training run in %s is told nothing of this", store.shown)
        return False
    need_package("mlflow")
    if not store.is_local:
        logger.warning("mlflow: figures, plots and report of this evaluation go to %s", store.shown)
    try:
        run_id, page = _record_in_mlflow(store, parent, record)
    except Exception as error:  # the evaluation is done and written; its copy can wait
        logger.warning("mlflow: %s took no evaluation (%s)", store.shown, one_line(error))
        return False
    logger.info("mlflow: run %s (%s) below the training run %s in %s", run_id, record.name(), parent, page)
    return True


def _mlflow_parent(model: Path, tracking: Tracking) -> tuple[Store, str] | None:
    """The store, and the training run there: of MLFLOW_RUN_ID, else of the note beside the model. None: not to do."""
    home = model.parent
    note, named = read_note(home / MLFLOW_NOTE), os.environ.get("MLFLOW_RUN_ID")
    if not note and tracking == "auto":
        return None
    if not note and not named:
        raise ConfigError(
            f"--tracking mlflow: {home} has no {MLFLOW_NOTE}; train with --tracking mlflow, or name the training run "
            "in MLFLOW_RUN_ID"
        )
    store = _store_of(note["store"], home) if note else find_store(None, home)
    if tracking == "auto" and not store.is_local:
        logger.info(
            "mlflow: nothing is sent to %s; --tracking mlflow sends figures, plots and report", store.shown
        )
        return None
    return store, named or note["run_id"]


def _record_in_mlflow(store: Store, parent: str, record: EvaluationRecord) -> tuple[str, str]:
    """The run's id, and where it is seen."""
    set_privacy_defaults()
    from mlflow.entities import Param

    client = open_client(store)
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.source.name": "dcal-evaluate",
        "twin_dcal.version": __version__,
    }
    experiment = client.get_run(parent).info.experiment_id
    run_id = str(client.create_run(experiment, run_name=record.name(), tags=tags).info.run_id)
    parameters = [Param(*item) for item in record.settings(is_local=store.is_local).items()]
    client.log_batch(run_id, params=parameters, synchronous=True)
    log_metrics(client, run_id, record.numbers(), step=0)
    for name in _WRITTEN:
        path = record.folder / name
        if path.is_dir():
            client.log_artifacts(run_id, str(path), name)
        elif path.exists():
            client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)
    if store.file is not None:
        make_private(store.file.parent)
    return run_id, store.page(experiment, run_id)


def _track_in_wandb(record: EvaluationRecord) -> bool:
    note = _wandb_note(record.model.parent)
    need_package("wandb")
    from .wandb import record_evaluation

    try:
        record_evaluation(
            record.model.parent, note, record.name(), record.settings(is_local=False), record.numbers()
        )
    except Exception as error:  # as above
        logger.warning("wandb: took no evaluation (%s)", one_line(error))
        return False
    return True


def _wandb_note(home: Path) -> dict[str, Any]:
    note = read_note(home / WANDB_NOTE)
    if not note.get("run_id"):
        raise ConfigError(f"--tracking wandb: {home} has no {WANDB_NOTE}; train with --tracking wandb")
    return note


def _store_of(note: str, folder: Path) -> Store:
    """The store a note names; MLFLOW_TRACKING_URI adds user and password if it names the same."""
    own = os.environ.get("MLFLOW_TRACKING_URI")
    return find_store(None if own and without_login(own) == note else note, folder)


def _numbers(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        inner = value.items() if name in _SECTIONS and value else [("", value)]
        for key, number in inner:
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield f"test/{name}/{key}".rstrip("/"), float(number)
