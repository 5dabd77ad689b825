"""Trackers: what they write, what they survive, and that training never waits for them."""

import json
import socket
import stat
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from twin_dcal.checkpoint import load_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError
from twin_dcal.training.run import train
from twin_dcal.training.trackers.background import Background, Patience
from twin_dcal.training.trackers.build import build_trackers, check_tracking
from twin_dcal.training.trackers.interface import RunPlace
from twin_dcal.training.trackers.jsonlines import JsonLines
from twin_dcal.training.trackers.shared import settings_to_send
from twin_dcal.training.trackers.stores import find_store, is_mlflow_server
from twin_dcal.training.trackers.tensorboard import TensorBoard

QUICK = Patience(retry_s=0.5, finish_s=5, stop_s=0.5, last_s=0.2, sample_s=60, longest_pause_s=0.05)


class Fake:
    """Remembers calls; `fails` is how many of them raise first, `until` what they wait for."""

    def __init__(self, fails=0, until=None):
        self.fails, self.until = fails, until
        self.logged, self.outcomes, self.samples = [], [], 0

    def _maybe_fail(self):
        if self.until is not None:
            self.until.wait(20)
        if self.fails:
            self.fails -= 1
            raise OSError("server down,\nreally")

    def log(self, figures, *, step, epoch):
        self._maybe_fail()
        self.logged.append((step, epoch, dict(figures)))

    def sample(self):
        self.samples += 1

    def close(self, outcome="failed"):
        self._maybe_fail()
        self.outcomes.append(outcome)


def running(fake, patience=QUICK, start=None):
    return Background("fake", start or (lambda: fake), patience)


# In the background


def test_calls_arrive_in_order_and_the_last_is_the_outcome():
    fake = Fake()
    tracker = running(fake)
    figures = {"a": 1.0}
    for step in range(50):
        tracker.log(figures, step=step, epoch=step / 10)
    figures["a"] = 2.0  # the caller's own again
    tracker.close("finished")
    assert fake.logged == [(step, step / 10, {"a": 1.0}) for step in range(50)]
    assert fake.outcomes == ["finished"]


def test_what_fails_is_made_again_and_nothing_is_lost(caplog, monkeypatch):
    monkeypatch.setattr(Background, "_pause", lambda self, seconds: time.sleep(0.01))
    fake = Fake(fails=3)
    tracker = running(fake)
    with caplog.at_level("INFO"):
        tracker.log({"a": 1.0}, step=1, epoch=1)
        tracker.log({"a": 2.0}, step=2, epoch=2)
        tracker.close("stopped")
    assert [step for step, *_ in fake.logged] == [1, 2]
    assert fake.outcomes == ["stopped"]
    said = [record.getMessage() for record in caplog.records]
    assert said == ["fake fails and is tried again; training goes on (OSError: server down, really)",
                    "fake answers again"]  # fmt: skip


def test_a_start_that_fails_is_made_again(monkeypatch):
    monkeypatch.setattr(Background, "_pause", lambda self, seconds: time.sleep(0.01))
    fake, tries = Fake(), []

    def start():
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return fake

    tracker = running(fake, start=start)
    tracker.log({"a": 1.0}, step=1, epoch=1)
    tracker.close("finished")
    assert (len(tries), len(fake.logged), fake.outcomes) == (3, 1, ["finished"])


def test_what_fails_for_good_is_dropped_with_a_warning(caplog):
    fake = Fake(fails=10**9)
    tracker = running(fake)
    began = time.monotonic()
    tracker.log({"a": 1.0}, step=1, epoch=1)
    assert time.monotonic() - began < 0.2
    tracker._thread.join(20)
    assert not tracker._thread.is_alive()
    tracker.log({"a": 2.0}, step=2, epoch=2)
    tracker.close("finished")
    assert not fake.logged
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "fake is dropped after failing for" in said[1]
    assert "what it missed is in metrics.jsonl (OSError: server down, really)" in said[1]


def test_a_tracker_that_hangs_is_left_behind(caplog):
    release = threading.Event()
    fake = Fake(until=release)
    tracker = running(fake)
    began = time.monotonic()
    tracker.log({"a": 1.0}, step=1, epoch=1)
    assert time.monotonic() - began < 0.2
    tracker.close("stopped")
    assert QUICK.stop_s <= time.monotonic() - began < QUICK.finish_s
    assert "fake took too long at the end of the run" in caplog.text
    release.set()


def test_at_the_end_patience_is_short_even_for_an_old_failure(caplog):
    tracker = running(Fake(fails=10**9), Patience(retry_s=600, last_s=0.2, longest_pause_s=0.05))
    tracker.log({"a": 1.0}, step=1, epoch=1)
    time.sleep(0.3)
    began = time.monotonic()
    tracker.close("failed")
    assert 0.1 < time.monotonic() - began < 5
    assert "is dropped" in caplog.text


def test_the_last_seconds_count_from_the_end_of_the_run():
    tracker = running(Fake(), Patience(retry_s=600, last_s=20))
    tracker.close("finished")
    tracker._closed_at = 1000.0
    assert [tracker._deadline(since) for since in (100.0, 990.0, 1010.0)] == [700.0, 1020.0, 1030.0]


def test_the_machine_is_sampled_between_figures():
    fake = Fake()
    tracker = running(fake, Patience(sample_s=0.05))
    time.sleep(0.5)
    tracker.close("finished")
    assert fake.samples >= 3


# metrics.jsonl and TensorBoard


def test_a_resumed_run_writes_no_figure_twice_and_drops_half_a_line(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    first = JsonLines(path)
    for step in (2, 4, 6):
        first.log({"train/loss": float(step)}, step=step, epoch=step / 2)
    first.close()
    with path.open("a") as file:
        file.write('{"step": 4, "tra')
    second = JsonLines(path, step=4)
    second.log({"train/loss": 6.5}, step=6, epoch=3)
    second.close("finished")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(2, 2.0), (4, 4.0), (6, 6.5)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_tensorboard_hides_what_a_resumed_run_logs_again(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (1, (2, 3))):
        writer = TensorBoard(tmp_path / "logs", start)
        for step in steps:
            writer.log({"train/loss": step + start / 2}, step=step, epoch=step)
        writer.close()
        time.sleep(1.1)  # event files are told apart by the second
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (1, 1.0),
        (2, 2.5),
        (3, 3.5),
    ]


# Which store, and what is told to whom


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("file:./mlflow_experiments", "sqlite:///mlflow_experiments/mlflow.db"),
        ("file:///data/runs/", "sqlite:////data/runs/mlflow.db"),
        ("./mlruns", "sqlite:///mlruns/mlflow.db"),
        ("/data/mlruns", "sqlite:////data/mlruns/mlflow.db"),
    ],
)
def test_a_file_store_is_answered_with_what_works(uri, database, tmp_path):
    with pytest.raises(ConfigError) as error:
        find_store(uri, tmp_path)
    text = str(error.value)
    assert f"MLflow 3.17 and newer refuse a store of plain files; use {database}," in text
    assert (
        f"mlflow server --host localhost --port 5000 --backend-store-uri {database} --artifacts-destination"
        in text
    )
    assert "\n" not in text


def test_the_default_store_lies_beside_the_run_and_is_the_owners(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = find_store(None, tmp_path / "runs" / "a")
    assert store.file == tmp_path / "runs" / "mlflow" / "mlflow.db"
    assert (store.uri, store.is_local) == (f"sqlite:///{store.file}", True)
    assert store.artifacts == str(tmp_path / "runs" / "mlflow" / "artifacts")
    store.prepare()
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("uri", "is_local"),
    [
        ("http://localhost:5000", True), ("http://127.0.0.1:5000", True), ("http://[::1]:5000", True),
        ("http://localhost.example.org:5000", False), ("https://mlflow.example.org", False),
        ("postgresql+psycopg2://db.example.org/runs", False), ("databricks", False), ("databricks://profile", False),
        ("sqlite:///a/b.db", True),
    ],
)  # fmt: skip
def test_whether_a_store_is_on_this_machine(uri, is_local, tmp_path):
    assert find_store(uri, tmp_path).is_local is is_local


def test_the_environment_names_a_store_and_the_configuration_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    store = find_store(None, tmp_path)
    assert store.uri == "https://me:secret@mlflow.example.org"
    assert store.shown == "https://mlflow.example.org"
    assert find_store("http://localhost:5000", tmp_path).uri == "http://localhost:5000"
    assert store.page("1", "abc") == "https://mlflow.example.org/#/experiments/1/runs/abc"
    assert find_store("sqlite:///a/b.db", tmp_path).page("1", "abc") == "sqlite:///a/b.db"
    server = find_store("http://runs.example.org/", tmp_path)
    assert server.page("1", "abc") == "http://runs.example.org/#/experiments/1/runs/abc"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://x/y", "unknown kind of store"), ("sqlite://", "name a file"),
        ("https://me:secret@mlflow.example.org", "holds a password"),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_used_is_refused(uri, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        find_store(uri, tmp_path)
    assert "secret" not in str(error.value)


def test_places_of_files_are_not_sent(tmp_path):
    config = TwinVerificationConfig.from_dict(
        {"data": {"data_dir": "/home/me/faces", "split_file": "x.json"}, "model": {"pretrained": "/home/me/w.pth"},
         "runtime": {"output_dir": "/home/me/runs"}, "tracking": {"mlflow_uri": "http://inside.example"}}
    )  # fmt: skip
    sent = json.dumps(settings_to_send(config, is_local=False))
    assert "/home/me" not in sent
    assert "x.json" not in sent
    assert "inside.example" not in sent
    assert settings_to_send(config, is_local=True) == config.model_dump(mode="json")
    assert (
        settings_to_send(config.override({"model.pretrained": True}), is_local=False)["model"]["pretrained"]
        is True
    )


@pytest.mark.parametrize("backend", ["mlflow", "wandb"])
def test_a_missing_package_names_the_extra(tiny_config, backend, monkeypatch):
    monkeypatch.setattr("twin_dcal.training.trackers.shared.find_spec", lambda name: None)
    config = tiny_config.override({"tracking.backend": backend})
    with pytest.raises(
        ConfigError, match=rf"{backend} is not installed; pip install 'twin-dcal\[{backend}\]'"
    ):
        check_tracking(config)
    with pytest.raises(ConfigError):
        train(config)
    check_tracking(tiny_config)
    assert check_tracking(config.override({"tracking.required": False})).tracking.backend == "none"


class Answers(BaseHTTPRequestHandler):
    """As MLflow's server (status 200, OK), or another program on its port."""

    what = 200, b"OK"

    def do_GET(self):
        assert self.path == "/health"
        self.send_response(self.what[0])
        self.end_headers()
        self.wfile.write(self.what[1])

    def log_message(self, *given):
        pass


@pytest.mark.parametrize(
    ("what", "is_mlflow"), [((200, b"OK"), True), ((403, b""), False), ((200, b"<html>my page"), False)]
)
def test_only_an_mlflow_server_counts_as_one(what, is_mlflow, monkeypatch):
    monkeypatch.setattr(Answers, "what", what)
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert is_mlflow_server("127.0.0.1", server.server_port) is is_mlflow


def test_a_server_that_hangs_and_one_that_is_not_there_are_none(monkeypatch):
    monkeypatch.setattr("twin_dcal.training.trackers.stores._PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not is_mlflow_server("127.0.0.1", port)
    assert not is_mlflow_server("127.0.0.1", port)


# A whole run


def test_a_broken_tracker_changes_nothing_of_the_run(tiny_config, tmp_path, monkeypatch, caplog):
    """Down from beginning to end: the same weights, and every figure in metrics.jsonl."""
    plain = train(tiny_config)

    def no_tracker(place):
        def start():
            raise ConnectionError("nobody there")

        return start

    monkeypatch.setattr("twin_dcal.training.trackers.build.check_tracking", lambda config: None)
    monkeypatch.setattr("twin_dcal.training.trackers.shared.find_spec", lambda name: True)
    monkeypatch.setattr("twin_dcal.training.trackers.build._wandb", no_tracker)
    monkeypatch.setattr("twin_dcal.training.trackers.background.Patience", lambda: QUICK)
    config = tiny_config.override(
        {"tracking.backend": "wandb", "runtime.output_dir": str(tmp_path / "broken")}
    )
    broken = train(config)
    assert broken.finished
    assert "wandb fails and is tried again; training goes on (ConnectionError: nobody there)" in caplog.text
    assert "wandb is dropped" in caplog.text
    lines = [len((tmp_path / name / "metrics.jsonl").read_text().splitlines()) for name in ("run", "broken")]
    assert lines == [2, 2]
    weights = [load_model(result.best_model).model.state_dict() for result in (plain, broken)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_nothing_beside_the_two_unless_asked(tiny_config, tmp_path):
    before = threading.active_count()
    tracker = build_trackers(RunPlace(tiny_config, tmp_path / "run"))
    tracker.close("finished")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["logs", "metrics.jsonl"]
    assert threading.active_count() <= before + 1  # TensorBoard's own
