"""Weights & Biases offline: its file read back, the same run on resuming, and where keys come from."""

import json
import stat
import struct
import sys
import time
import types

import pytest

from twin_dcal.training.run import train
from twin_dcal.training.trackers import wandb as tracker
from twin_dcal.training.trackers.evaluation import EvaluationRecord, track_evaluation

pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def records(path):
    """Records of a .wandb file: LevelDB's log format (blocks of 32 KiB, chunks with a 7-byte header) of protobufs."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""  # after wandb's own header
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def history_of(folder):
    """(run id, rows) of every offline run in a run's folder, oldest first."""
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        rows, run_id, config = [], None, {}
        for record in records(path):
            if record.HasField("run"):
                run_id = record.run.run_id
                config |= {item.key: item.value_json for item in record.run.config.update}
            if record.HasField("history"):
                rows.append({".".join(item.nested_key) or item.key: json.loads(item.value_json)
                             for item in record.history.item})  # fmt: skip
        yield run_id, rows, config


def test_offline_run_read_back_and_resumed_as_the_same_run(tiny_config, tmp_path, caplog):
    config = tiny_config.override({"tracking.backend": "wandb", "tracking.wandb_project": "twins"})
    with caplog.at_level("INFO"):
        train(config.override({"training.num_epochs": 1}))
        train(config, resume="auto")
    folder = tmp_path / "run"
    assert (
        f"no key, so the run is kept offline; to send it later: wandb sync {folder / 'wandb'}/offline-run-*"
        in caplog.text
    )
    (first, one, sent), (second, two, _) = history_of(folder)
    assert first == second == json.loads((folder / "wandb.json").read_text())["run_id"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row, line in zip(one + two, lines, strict=True):
        assert row["train/loss"] == pytest.approx(line["train/loss"])
        assert (row["step"], row["epoch"]) == (line["step"], line["epoch"])
    assert json.loads(sent["data"])["data_dir"] == "(not sent)"
    told = b"".join(path.read_bytes() for path in folder.glob("wandb/offline-run-*/*.wandb"))
    assert str(tmp_path).encode() not in told.replace(str(folder).encode(), b""), (
        "only wandb's own folder is named"
    )
    for path in folder.rglob("*"):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_evaluation_is_a_run_of_its_own_in_the_group_of_the_training(tmp_path, caplog):
    (tmp_path / "wandb.json").write_text(json.dumps({"run_id": "abc", "project": "twins", "entity": ""}))
    for data, rate in (("/home/me/test", 0.25), ("/home/me/val_pairs.json", 0.0)):
        figures = {"test_data": data, "twin": {"eer": rate}, "threshold_source": "/home/me/val"}
        record = EvaluationRecord(tmp_path / "best_model.pth", tmp_path, figures)
        assert track_evaluation(record, "wandb")
    assert f"kept offline; to send it later: wandb sync {tmp_path / 'wandb'}/offline-run-*" in caplog.text
    found = {}
    for _ in range(300):  # wandb's own process writes the file, and may still do so
        found = {config.get("data"): (run_id, rows) for run_id, rows, config in history_of(tmp_path) if rows}
        if len(found) == 2:
            break
        time.sleep(0.1)
    assert set(found) == {'"test"', '"val_pairs.json"'}, "named, without the place"
    assert [found[name][1][0]["test/twin/eer"] for name in ('"test"', '"val_pairs.json"')] == [0.25, 0]
    assert len({run_id for run_id, _ in found.values()} | {"abc"}) == 3
    told = b"".join(path.read_bytes() for path in tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert b"/home/me" not in told
    assert b"abc" in told


def test_where_keys_come_from(monkeypatch, tmp_path):
    assert tracker.find_key() is None
    host = tracker.server().removeprefix("https://")
    # The server of earlier releases, such as 0.22, is the one that later ones call the former.
    former = "" if host == "api.wandb.ai" else "machine api.wandb.ai login user password former\n"
    (tmp_path / "netrc").write_text(
        f"default login a password other\nmachine {host} login user password stored\n{former}"
    )
    (tmp_path / "netrc").chmod(0o600)
    assert tracker.find_key() == "stored"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert tracker.find_key() is None, "not the key of another server, nor netrc's default"
    secrets = types.ModuleType("kaggle_secrets")
    secrets.__spec__ = types.SimpleNamespace()
    secrets.UserSecretsClient = lambda: types.SimpleNamespace(get_secret=lambda name: f"secret {name}")
    monkeypatch.setitem(sys.modules, "kaggle_secrets", secrets)
    assert tracker.find_key() is None, "outside a Kaggle notebook nothing asks its service"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert tracker.find_key() == "secret WANDB_API_KEY"
    monkeypatch.setenv("WANDB_API_KEY", "given")
    assert tracker.find_key() == "given"


def test_a_secret_that_is_not_attached_is_no_key(monkeypatch, caplog):
    def get_secret(name):
        raise ValueError("No user secrets exist")

    secrets = types.ModuleType("kaggle_secrets")
    secrets.__spec__ = types.SimpleNamespace()
    secrets.UserSecretsClient = lambda: types.SimpleNamespace(get_secret=get_secret)
    monkeypatch.setitem(sys.modules, "kaggle_secrets", secrets)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    with caplog.at_level("INFO"):
        assert tracker.find_key() is None
    assert "no Kaggle secret WANDB_API_KEY (ValueError)" in caplog.text


def test_a_key_is_used_online_where_the_server_answers_and_offline_at_once_where_it_does_not(
    monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    asked = []
    for answer, chosen in ((True, "online"), (False, "offline")):
        caplog.clear()
        monkeypatch.setattr(tracker, "answers", lambda address, said=answer: asked.append(address) or said)
        assert tracker.choose_mode("key", tmp_path, "figures go to {}") == chosen
        assert caplog.messages[0] == "wandb: figures go to https://wandb.example.org"
    assert caplog.messages[1:] == [
        "wandb: https://wandb.example.org does not answer, so the run is kept offline; to send it later: "
        f"wandb sync {tmp_path}/offline-run-*"
    ]
    assert asked == ["https://wandb.example.org"] * 2
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracker.choose_mode("key", tmp_path, "figures go to {}") == "offline"
    monkeypatch.delenv("WANDB_MODE")
    assert tracker.choose_mode(None, tmp_path, "figures go to {}") == "offline"
    assert len(asked) == 2, "the network is asked only where something would go there"


def one_run_is_kept(tiny_config, tmp_path, caplog):
    with caplog.at_level("INFO"):
        train(tiny_config.override({"tracking.backend": "wandb", "training.num_epochs": 1}))
    [(run_id, rows, _)] = history_of(tmp_path / "run")
    assert run_id == json.loads((tmp_path / "run" / "wandb.json").read_text())["run_id"]
    assert len(rows) == 1


def test_a_run_with_a_key_and_no_way_to_the_server_is_kept_offline(
    tiny_config, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(tracker, "answers", lambda address: False)
    one_run_is_kept(tiny_config, tmp_path, caplog)
    assert "fails and is tried again" not in caplog.text


def test_a_run_that_the_server_refuses_is_kept_offline(tiny_config, tmp_path, monkeypatch, caplog):
    import wandb

    def init(**options):
        if options["mode"] == "online":
            raise wandb.errors.CommError("returned error 401: user is not logged in")
        return start(**options)

    start = wandb.init
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(tracker, "answers", lambda address: True)
    one_run_is_kept(tiny_config, tmp_path, caplog)
    [told] = [line for line in caplog.messages if "takes no run" in line]
    assert "(CommError: returned error 401: user is not logged in), so it is kept offline; to send it" in told
