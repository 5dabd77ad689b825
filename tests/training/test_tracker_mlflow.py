"""MLflow in a local store, really written and read back through its own API."""

import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest

from twin_dcal.checkpoint import load_model
from twin_dcal.cli import evaluate as evaluate_command
from twin_dcal.errors import ConfigError
from twin_dcal.training.run import train
from twin_dcal.training.trackers import stores
from twin_dcal.training.trackers.evaluation import EvaluationRecord, track_evaluation
from twin_dcal.training.trackers.stores import find_store

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's dependencies deprecate much


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(stores, "is_mlflow_server", lambda host, port: False)


@pytest.fixture
def config(tiny_config):
    return tiny_config.override({"tracking.backend": "mlflow"})


def client_of(config):
    store = find_store(None, Path(config.runtime.output_dir))
    return mlflow.MlflowClient(store.uri, store.uri)


def note_of(config):
    return json.loads((Path(config.runtime.output_dir) / "mlflow.json").read_text())


def lines_of(config):
    return [
        json.loads(line)
        for line in (Path(config.runtime.output_dir) / "metrics.jsonl").read_text().splitlines()
    ]


def files_of(client, run_id, folder=None):
    for entry in client.list_artifacts(run_id, folder):
        yield from files_of(client, run_id, entry.path) if entry.is_dir else [entry.path]


def test_a_run_with_all_that_belongs_to_it(config, tiny_faces, tmp_path):
    result = train(config)
    client, run_id = client_of(config), note_of(config)["run_id"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["training.learning_rate"] == "0.001"
    assert run.data.params["data.data_dir"] == str(tiny_faces)
    for name in ("train/loss", "val/twin_eer"):
        logged = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]
        assert logged == [(line["step"], pytest.approx(line[name])) for line in lines_of(config)]
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert set(files_of(client, run_id)) == {"config.json", "plots/training_curves.png"}

    [output] = run.outputs.model_outputs
    mlflow.set_tracking_uri(client.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 32, 32, 3)
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    features = model.predict(crops)
    loaded = load_model(result.best_model)
    import torch

    with torch.inference_mode():
        images = loaded.preprocessing.normalize(torch.from_numpy(crops.transpose(0, 3, 1, 2).copy()))
        expected = loaded.model.embed(images).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{output.model_id}"))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle")]

    evaluations_are_runs_of_their_own(client, run, str(result.best_model), tiny_faces, tmp_path)

    for path in (tmp_path / "mlflow").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def evaluations_are_runs_of_their_own(client, training, model, tiny_faces, tmp_path):
    """Each below the training run, which they leave alone, with its data named and its own figures and files."""
    pairs = tiny_faces / "tracked_pairs.txt"
    pairs.write_text("test/6a/0.png test/6a/1.png 1\ntest/6a/0.png test/7a/1.png 0\n")
    folders = {str(tiny_faces): tmp_path / "evaluation", str(pairs): tmp_path / "small"}
    for data, folder in folders.items():
        given = ["--model", model, "--test_data", data, "--output_dir", str(folder), "--num_workers", "0"]
        assert evaluate_command.main([*given, "--visualize"]) == 0
    after = client.get_run(training.info.run_id)
    assert after.data.metrics == training.data.metrics
    assert set(files_of(client, training.info.run_id)) == {"config.json", "plots/training_curves.png"}
    query = f"tags.`mlflow.parentRunId` = '{training.info.run_id}'"
    runs = {run.data.params["data"]: run for run in client.search_runs([training.info.experiment_id], query)}
    assert set(runs) == set(folders)
    for data, folder in folders.items():
        run, report = runs[data], json.loads((folder / "evaluation_report.json").read_text())
        assert run.info.run_name == f"evaluation: {Path(data).name}"
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/roc_auc"] == pytest.approx(report["roc_auc"])
        assert ("test/twin/eer" in run.data.metrics) is (report["twin"] is not None)
        assert run.data.params["model_sha256"] == report["model"]["sha256"]
        assert {"evaluation_report.json", "report.html"} <= set(files_of(client, run.info.run_id))
    assert "test/twin/eer" in runs[str(tiny_faces)].data.metrics
    assert "test/twin/eer" not in runs[str(pairs)].data.metrics


def test_the_environment_names_experiment_and_run(config, monkeypatch, tmp_path):
    client = client_of(config)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "twins of mine")
    train(config.override({"training.num_epochs": 1}))
    experiment = client.get_experiment_by_name("twins of mine")
    assert client.get_run(note_of(config)["run_id"]).info.experiment_id == experiment.experiment_id
    own = client.create_run(experiment.experiment_id, run_name="made by somebody").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    train(config, overwrite=True)
    assert note_of(config)["run_id"] == own
    run = client.get_run(own)
    assert (run.info.run_name, run.info.status) == ("made by somebody", "FINISHED")
    assert [metric.step for metric in client.get_metric_history(own, "train/loss")] == [
        line["step"] for line in lines_of(config)
    ]
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    train(config.override({"training.num_epochs": 1}), overwrite=True)
    assert note_of(config)["run_id"] not in (own, "0" * 32)
    evaluation = EvaluationRecord(tmp_path / "elsewhere" / "best_model.pth", tmp_path, {"test_data": "x.txt"})
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    assert track_evaluation(evaluation, "mlflow")
    [child] = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{own}'")
    assert child.data.params["data"] == "x.txt"


def test_a_stopped_run_goes_on_as_the_same_run_even_in_another_folder(config, tmp_path):
    first = config.override({"training.num_epochs": 1})
    train(first)
    run_id = note_of(first)["run_id"]
    client = client_of(config)
    client.set_terminated(run_id, "KILLED")
    train(
        config.override({"runtime.output_dir": str(tmp_path / "other")}),
        resume=str(tmp_path / "run" / "last.pth"),
    )
    [experiment] = client.search_experiments(filter_string="name = 'twin_dcal'")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert run.data.params["training.num_epochs"] == "1", "MLflow's parameters stay"
    path = client.download_artifacts(run_id, "config.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["training"]["num_epochs"] == 2
    steps = [metric.step for metric in client.get_metric_history(run_id, "train/loss")]
    assert len(steps) == len(set(steps)) == 2


def test_a_run_that_is_gone_and_a_run_started_anew_are_new_runs(config):
    train(config.override({"training.num_epochs": 1}))
    client, first = client_of(config), note_of(config)["run_id"]
    train(config.override({"training.num_epochs": 1}), overwrite=True)
    second = note_of(config)["run_id"]
    assert second != first
    note = Path(config.runtime.output_dir) / "mlflow.json"
    note.write_text(note.read_text().replace(second, "0" * 32))
    train(config, resume="auto")
    third = note_of(config)["run_id"]
    assert third not in (second, "0" * 32)
    assert [metric.value for metric in client.get_metric_history(third, "epoch")] == [2.0]


def test_an_evaluation_is_sent_elsewhere_only_on_request(config, tmp_path, caplog):
    record = EvaluationRecord(tmp_path / "best_model.pth", tmp_path, {})
    note = tmp_path / "mlflow.json"
    assert track_evaluation(record, "auto") is False
    for tracking in ("mlflow", "wandb"):
        with pytest.raises(ConfigError, match=rf"has no {tracking}\.json; train with --tracking {tracking}"):
            track_evaluation(record, tracking)
    note.write_text(json.dumps({"store": "https://mlflow.invalid", "run_id": "0" * 32}))
    with caplog.at_level("INFO"):
        assert track_evaluation(record, "auto") is False
    assert re.search(r"nothing is sent to https://mlflow\.invalid; --tracking mlflow", caplog.text)
