"""An evaluation's figures, plots and report beside the training run of the model they are about."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from twin_dcal.errors import ConfigError
from twin_dcal.files import make_private

from .mlflow import NOTE_NAME, log_metrics, open_client
from .shared import need_package, one_line, read_note
from .stores import Store, find_store, without_login

logger = logging.getLogger(__name__)

_WRITTEN = ("evaluation_report.json", "evaluation_summary.txt", "report.html", "visualizations")
_SECTIONS = {"twin", "unrelated", "all", "headline"}


def attach_evaluation(
    model: Path, folder: Path, figures: Mapping[str, Any], tracking: Literal["auto", "mlflow"] = "auto"
) -> bool:
    """Add `figures` and what an evaluation wrote into `folder` to the MLflow run that trained `model`.

    Args: tracking: "auto" does so if the run is kept on this machine, and sends nothing elsewhere; "mlflow" to any
    store, and then ConfigError if the model's folder names no run. Returns whether it was done; a store that does not
    answer is a warning.
    """
    note = read_note(model.parent / NOTE_NAME)
    if not note:
        if tracking == "mlflow":
            raise ConfigError(
                f"--tracking mlflow: {model.parent} has no {NOTE_NAME}; train with --tracking mlflow"
            )
        return False
    store = _store_of(note["store"], model.parent)
    if tracking == "auto" and not store.is_local:
        logger.info(
            "mlflow: nothing is sent to %s; --tracking mlflow sends figures, plots and report", store.shown
        )
        return False
    need_package("mlflow")
    if not store.is_local:
        logger.warning("mlflow: figures, plots and report of this evaluation go to %s", store.shown)
    try:
        _attach(store, note["run_id"], folder, figures)
    except Exception as error:  # the evaluation is done and written; its copy can wait
        logger.warning("mlflow: %s took no evaluation (%s)", store.shown, one_line(error))
        return False
    logger.info("mlflow: added to run %s in %s", note["run_id"], store.shown)
    return True


def _attach(store: Store, run_id: str, folder: Path, figures: Mapping[str, Any]) -> None:
    client = open_client(store)
    log_metrics(client, run_id, dict(_numbers(figures)), step=0)
    for name in _WRITTEN:
        path = folder / name
        if path.exists():
            inside = f"evaluations/{folder.resolve().name}" + (f"/{name}" if path.is_dir() else "")
            log = client.log_artifacts if path.is_dir() else client.log_artifact
            log(run_id, str(path), inside)
    if store.file is not None:
        make_private(store.file.parent)


def _store_of(note: str, folder: Path) -> Store:
    """The store a note names; MLFLOW_TRACKING_URI adds user and password if it names the same."""
    own = os.environ.get("MLFLOW_TRACKING_URI")
    return find_store(None if own and without_login(own) == note else note, folder)


def _numbers(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """`test/eer`, `test/twin/eer`, …: numbers of the report and of its main sections."""
    for name, value in figures.items():
        inner = value.items() if name in _SECTIONS and value else [("", value)]
        for key, number in inner:
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield f"test/{name}/{key}".rstrip("/"), float(number)
