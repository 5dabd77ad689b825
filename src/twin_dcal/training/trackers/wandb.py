"""Weights & Biases: figures and settings, nothing that was made from a face. Offline where there is no key."""

import logging
import netrc
import os
import secrets
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twin_dcal.files import make_folder, make_private
from twin_dcal.hub import answers
from twin_dcal.privacy import set_privacy_defaults

from .interface import Outcome, RunPlace
from .shared import WANDB_NOTE, one_line, read_note, settings_to_send, write_note

logger = logging.getLogger(__name__)

_FORMER_HOST = "api.wandb.ai"  # where keys of earlier logins stand
_RETRIES = 12
_EXIT_CODE: dict[Outcome, int] = {"finished": 0, "stopped": 0, "failed": 1}


class Wandb:
    """One run of a project. The folder's note holds its id, which a resumed training goes on with.

    Code, command lines, host, requirements and console output stay here; so do the places of files.

    Args: chosen: of `choose_mode`.
    """

    def __init__(self, place: RunPlace, key: str | None, chosen: Any) -> None:
        set_privacy_defaults()
        self._place, self._key = place, key
        folder = make_folder(place.folder)
        self._folder = make_folder(folder / "wandb")
        run_id = read_note(folder / WANDB_NOTE).get("run_id") or secrets.token_hex(4)
        try:
            self._run = self._start(run_id, chosen)
        except Exception as error:
            if chosen != "online":
                raise
            # A wrong key or entity, say. wandb takes the same id for "in use" from then on, so this is another run.
            logger.warning(
                "wandb: %s takes no run (%s), so it is kept offline; %s",
                server(), one_line(error), _how_to_send(self._folder),
            )  # fmt: skip
            run_id, chosen = secrets.token_hex(4), "offline"
            self._run = self._start(run_id, chosen)
        # Steps as a figure of their own: wandb's may not go back, which a resumed run's do.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        kept = f"offline in {self._run.settings.sync_dir}" if chosen == "offline" else self._run.url or chosen
        logger.info("wandb: run %s, %s", run_id, kept)

    def _start(self, run_id: str, chosen: Any) -> Any:
        import wandb

        folder, tracking = self._place.folder, self._place.config.tracking
        project = tracking.wandb_project or "twin-dcal"
        write_note(folder / WANDB_NOTE, run_id=run_id, project=project, entity=tracking.wandb_entity or "")
        return wandb.init(
            project=project, entity=tracking.wandb_entity, name=folder.resolve().name,
            group=run_id, job_type="training", id=run_id, resume="allow" if chosen == "online" else None, mode=chosen,
            dir=str(folder), config=settings_to_send(self._place.config, is_local=False), reinit="create_new",
            settings=_settings(self._key),
        )  # fmt: skip

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        self._run.log({**figures, "epoch": epoch, "step": step})

    def sample(self) -> None:
        """wandb reads the machine's state by itself."""

    def close(self, outcome: Outcome = "failed") -> None:
        self._run.finish(exit_code=_EXIT_CODE[outcome])
        make_private(self._folder)


def record_evaluation(
    folder: Path,
    training: Mapping[str, str],
    name: str,
    settings: Mapping[str, str],
    numbers: Mapping[str, float],
) -> None:
    """Make a run of its own for an evaluation, in the group of the training run.

    Args: folder: of the training run; training: its note. Says first where the figures go.
    """
    key = find_key()
    chosen = choose_mode(key, folder / "wandb", "figures of this evaluation go to {}")
    import wandb

    run: Any = wandb.init(
        project=training.get("project") or "twin-dcal", entity=training.get("entity") or None, name=name,
        group=training["run_id"], job_type="evaluation", mode=chosen, dir=str(folder), config=dict(settings),
        reinit="create_new", settings=_settings(key),
    )  # fmt: skip
    run.log(dict(numbers))
    run.finish()
    make_private(folder / "wandb")


def server() -> str:
    """The server that runs go to: the user's, or the one this release of wandb means."""
    set_privacy_defaults()
    import wandb

    return str(os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url)


def find_key() -> str | None:
    """WANDB_API_KEY, Kaggle's secret of that name, or what `wandb login` stored. None if there is no key."""
    return os.environ.get("WANDB_API_KEY") or _kaggle_secret("WANDB_API_KEY") or _stored_key()


def choose_mode(key: str | None, home: Path, told: str) -> Any:
    """WANDB_MODE where the user set it, else online with a key and offline without; offline too where the server does
    not answer. Says which it is before anything is sent.

    Args: home: wandb's folder of the run; told: what goes to the server {}, in words.
    """
    chosen = os.environ.get("WANDB_MODE") or ("online" if key else "offline")
    if chosen == "online":
        logger.warning("wandb: %s", told.format(server()))
        if not answers(server()):
            logger.warning(
                "wandb: %s does not answer, so the run is kept offline; %s", server(), _how_to_send(home)
            )
            return "offline"
    elif key or chosen != "offline":
        logger.info("wandb: WANDB_MODE=%s; nothing is sent", chosen)
    else:
        logger.warning(
            "wandb: no key, so the run is kept offline; %s. To send runs as they go, run 'wandb login' or set "
            "WANDB_API_KEY", _how_to_send(home),
        )  # fmt: skip
    return chosen


def _how_to_send(home: Path) -> str:
    return f"to send it later: wandb sync {home}/offline-run-*"


def _kaggle_secret(name: str) -> str | None:
    """A secret attached to the Kaggle notebook this runs in; asks Kaggle's own service."""
    if find_spec("kaggle_secrets") is None or "KAGGLE_KERNEL_RUN_TYPE" not in os.environ:
        return None
    try:
        secret = import_module("kaggle_secrets").UserSecretsClient().get_secret(name)
    except Exception as error:  # its errors are of several kinds; all mean that there is no such secret here
        logger.info("wandb: no Kaggle secret %s (%s)", name, type(error).__name__)
        return None
    return str(secret) or None


def _stored_key() -> str | None:
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return None
    names = [urlsplit(server()).hostname or ""] + ([] if "WANDB_BASE_URL" in os.environ else [_FORMER_HOST])
    found = [
        hosts[name] for name in names if name in hosts
    ]  # not netrc's default, which is for other machines
    return found[0][2] if found else None


def _settings(key: str | None) -> Any:
    import wandb

    return wandb.Settings(
        api_key=key, console="off", disable_code=True, disable_git=True, init_timeout=30, save_code=False, silent=True,
        x_disable_machine_info=True, x_save_requirements=False,
        # Left alone, an unreachable server keeps the process from ending for hours.
        x_file_stream_retry_max=_RETRIES, x_file_transfer_retry_max=_RETRIES, x_graphql_retry_max=_RETRIES,
    )  # fmt: skip
