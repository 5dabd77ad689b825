"""Where MLflow keeps runs: which URI is meant, whether it is on this machine, and what to say if it cannot be used."""

import logging
import os
import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder, open_own

logger = logging.getLogger(__name__)

_SERVERS = {"http", "https", "databricks", "databricks-uc", "uc"}
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Store:
    """An MLflow tracking URI. `file`: the SQLite file it names, if it does. `is_local`: nothing leaves this machine."""

    uri: str
    file: Path | None
    is_local: bool

    @property
    def shown(self) -> str:
        """What may be printed and written down."""
        return without_login(self.uri)

    @property
    def ui(self) -> str:
        """Where a browser sees the runs, or the command that lets it."""
        return self.shown if self.file is None else f"mlflow ui --backend-store-uri {self.uri}"

    def page(self, experiment: str, run_id: str) -> str:
        """Where a browser sees a run, or the store where there is no server."""
        if not self.uri.startswith(("http://", "https://")):
            return self.shown
        return f"{self.shown.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

    @property
    def artifacts(self) -> str | None:
        """Where new experiments keep files; None leaves it to the server."""
        return None if self.file is None else str(self.file.parent.resolve() / "artifacts")

    def prepare(self) -> None:
        """Make a SQLite file that only its owner can read, before anybody else makes another."""
        if self.file is not None:
            make_folder(self.file.parent)
            os.close(open_own(self.file, os.O_RDWR))


LOCAL_SERVER = "http://localhost:5000"
_PATIENCE_S = 0.4


def choose_store(uri: str | None, folder: Path, before: str | None = None) -> Store:
    """The store of a run, and say why that one: `uri`, else MLFLOW_TRACKING_URI, else where the run was `before`, else
    the MLflow server on this machine if one answers, else the file beside the run's folder.

    ConfigError as `find_store`.
    """
    if uri or os.environ.get("MLFLOW_TRACKING_URI"):
        store, why = find_store(uri, folder), "--mlflow_uri" if uri else "MLFLOW_TRACKING_URI"
    elif before:
        store, why = find_store(before, folder), "where this run was kept before"
    elif is_mlflow_server("localhost", 5000):
        store, why = find_store(LOCAL_SERVER, folder), "an MLflow server answers there"
    else:
        store, why = find_store(None, folder), f"no MLflow server answers on {LOCAL_SERVER}"
    if store.is_local:
        logger.info("mlflow: runs are kept in %s (%s); see them with: %s", store.shown, why, store.ui)
    else:
        logger.warning("mlflow: figures, settings, curves and the model go to %s (%s)", store.shown, why)
    return store


def is_mlflow_server(host: str, port: int) -> bool:
    """Whether an MLflow server answers, found out in less than a second. Other programs use port 5000 too, so it must
    answer as MLflow does: its /health says OK."""
    connection = HTTPConnection(host, port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status == 200 and answer.read(16).strip() == b"OK"
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def find_store(uri: str | None, output_dir: Path) -> Store:
    """The store of `uri`, else of MLFLOW_TRACKING_URI, else `mlflow/mlflow.db` beside the run's folder.

    That default is shared by the runs of one parent folder, which is what makes them comparable. ConfigError for
    a file store, which MLflow no longer takes, and for what is no store at all.
    """
    if uri and _split(uri).password:
        raise ConfigError(
            "tracking.mlflow_uri holds a password, which would be stored with every checkpoint; leave it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the whole address as MLFLOW_TRACKING_URI"
        )
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        file = output_dir.resolve().parent / "mlflow" / "mlflow.db"
        return Store(f"sqlite:///{file}", file, is_local=True)
    scheme = given.partition(":")[0].partition("+")[0].lower() if ":" in given or given in _SERVERS else ""
    if scheme == "sqlite":
        file = Path(given.partition(":///")[2].partition("?")[0])
        if not file.name:
            raise ConfigError(
                f"tracking.mlflow_uri {given}: name a file, as in sqlite:///runs/mlflow/mlflow.db"
            )
        return Store(given, file, is_local=True)
    if scheme in _SERVERS or scheme in _DATABASES:
        return Store(given, None, is_local=(_split(given).hostname or "") in _LOOPBACK)
    if scheme in ("", "file"):
        raise ConfigError(_no_file_store(given))
    raise ConfigError(
        f"tracking.mlflow_uri {given}: unknown kind of store; use sqlite:///FILE or the http:// address of a server"
    )


def _no_file_store(given: str) -> str:
    folder = given.removeprefix("file://").removeprefix("file:").rstrip("/") or "mlflow_experiments"
    database = f"sqlite:///{folder.removeprefix('./')}/mlflow.db"
    return (
        f"tracking.mlflow_uri {given}: MLflow 3.17 and newer refuse a store of plain files; use {database}, or start "
        f"a server with 'mlflow server --host localhost --port 5000 --backend-store-uri {database} "
        f"--artifacts-destination {folder}/artifacts' and give http://localhost:5000 ('mlflow migrate-filestore "
        f"--source {folder} --target {database}' brings old runs along)"
    )


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise ConfigError(f"tracking.mlflow_uri {without_login(uri)}: no address ({error})") from None


def without_login(uri: str) -> str:
    """A URI without user and password."""
    return re.sub(r"//[^/@]*@", "//", uri)
