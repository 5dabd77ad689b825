"""A real MLflow server that dies in the middle of a run and comes back."""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from tiny import tiny_values

pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's dependencies deprecate much

NUM_EPOCHS = 40


def wait_for(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.2)
    pytest.fail(f"waited {seconds} s for {what}")


class Server:
    """`mlflow server` as docs/tracking.md says to start it."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(self.answers, "the server to answer")

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=2).status == 200
        except OSError:
            return False

    def kill(self):
        """The whole group at once, without a word: its workers too."""
        import os
        import signal

        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.kill()


def start_training(tiny_faces, tmp_path, url):
    values = tiny_values(tiny_faces, tmp_path / "run")
    values["training"]["num_epochs"] = NUM_EPOCHS
    values["tracking"] = {"backend": "mlflow", "mlflow_uri": url}
    (tmp_path / "config.json").write_text(json.dumps(values))
    command = [sys.executable, "-m", "twin_dcal.cli.train", "--config", str(tmp_path / "config.json")]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def epochs(folder):
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_server_that_dies_and_comes_back_has_the_whole_run(server, tiny_faces, tmp_path):
    from mlflow import MlflowClient

    folder = tmp_path / "run"
    training = start_training(tiny_faces, tmp_path, server.url)
    wait_for(lambda: (folder / "mlflow.json").exists() or training.poll() is not None, "a run on the server")
    server.kill()
    before = epochs(folder)
    assert before < NUM_EPOCHS, "the run was over before the server died; give it more epochs"
    wait_for(lambda: epochs(folder) >= min(NUM_EPOCHS, before + 3), "training to go on without the server")
    server.start()
    said = training.communicate(timeout=240)[1]
    assert training.returncode == 0, said
    assert "mlflow fails and is tried again; training goes on" in said
    assert "mlflow answers again" in said
    client = MlflowClient(server.url, server.url)
    run = client.get_run(json.loads((folder / "mlflow.json").read_text())["run_id"])
    logged = [metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    written = [json.loads(line)["train/loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert logged == pytest.approx(written)
    assert len(logged) == NUM_EPOCHS
    assert run.info.status == "FINISHED"
    assert run.outputs.model_outputs
