"""The lines of the interface, run as they are typed in a folder that holds `data/`; only what a preset's network and
schedule are is small here."""

import copy
import json
import runpy
import shlex
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from drawn_scenes import drawn_face
from PIL import Image
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tiny import tiny_values

from twin_dcal import presets
from twin_dcal.checkpoint import load_model
from twin_dcal.cli import train as train_command
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.training.trackers import build, stores

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = "python scripts/train_twin_verification.py --config default --dataset_info data/dataset_infor.json --twin_pairs data/twin_pairs_infor.json"  # noqa: E501
SINGLE = "python scripts/train_twin_verification.py --config single_gpu --tracking mlflow"
KAGGLE = 'python scripts/train_twin_verification.py --config kaggle --wandb_project "twin-face-verification" --wandb_entity "your-username"'  # noqa: E501
UNTRACKED = "python scripts/train_twin_verification.py --config no_tracking"
EVALUATE = "python scripts/evaluate_verification.py --model checkpoints/best_model.pth --test_data data/test_pairs.json --visualize"  # noqa: E501
OPTIMIZE = "python scripts/evaluate_verification.py --model checkpoints/best_model.pth --optimize_threshold --val_data data/val_pairs.json"  # noqa: E501
EXTRACT = "python scripts/extract_features.py --model checkpoints/best_model.pth --images_dir data/faces/ --output features.npz --feature_type combined"  # noqa: E501
DEMO = "python scripts/demo.py --model checkpoints/best_model.pth --interactive"
CURVES = "tensorboard --logdir logs/tensorboard/"
OWN = "dcal-train --config config.json --data_dir data/"
LINES = [DEFAULT, SINGLE, KAGGLE, UNTRACKED, EVALUATE, OPTIMIZE, EXTRACT, DEMO, CURVES, OWN]


class Recorded:
    """An MLflow or W&B that remembers what it was told."""

    def __init__(self):
        self.runs = []

    def started_for(self, backend):
        def make(place):
            self.runs.append((backend, place.config.tracking, figures := []))
            return lambda: _Tracker(figures)

        return make


class _Tracker:
    def __init__(self, figures):
        self.figures = figures

    def log(self, figures, *, step, epoch):
        self.figures.append(figures)

    def sample(self):
        pass

    def close(self, outcome="failed"):
        self.figures.append(outcome)


@pytest.fixture(scope="module")
def data(tiny_faces, tmp_path_factory):
    """`data/` as the lines expect it."""
    home = tmp_path_factory.mktemp("typed") / "data"
    shutil.copytree(tiny_faces, home)
    for split in ("test", "val"):
        people = sorted((home / split).iterdir())
        pairs = [(people[0], people[0], 1), (people[1], people[1], 1), (people[0], people[1], 0)]
        listed = [
            {"img1": f"{split}/{one.name}/{a}.png", "img2": f"{split}/{two.name}/{b}.png", "label": label}
            for one, two, label in pairs
            for a, b in ((0, 1), (2, 3), (4, 5))
        ]
        (home / f"{split}_pairs.json").write_text(json.dumps(listed))
    (home / "faces").mkdir()
    for photo in range(3):
        Image.fromarray(drawn_face(0, photo, 112)[0]).save(home / "faces" / f"{photo}.jpg")
    return home


@pytest.fixture
def trackers(monkeypatch):
    recorded = Recorded()
    for backend in ("mlflow", "wandb"):
        monkeypatch.setattr(build, f"_{backend}", recorded.started_for(backend))
        monkeypatch.setattr("twin_dcal.training.trackers.shared.find_spec", lambda name: object())
    return recorded


@pytest.fixture
def typed(data, tmp_path, monkeypatch, capsys, caplog):
    """What a line types: its exit code and what it said, in a folder of its own beside the scripts."""
    tiny = tiny_values(data, tmp_path)
    for name in presets.WITHOUT_GPU:
        small = copy.deepcopy(presets.PRESETS[name])
        small["model"], small["data"] = tiny["model"], {"image_size": 32}
        small["training"] |= {"num_epochs": 1, "warmup_epochs": 0, "images_per_person": 2}
        small["runtime"] = {**small.get("runtime", {}), "num_workers": 0, "num_threads": 1}
        monkeypatch.setitem(presets.PRESETS, name, small)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "data").symlink_to(data)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)

    def run(line):
        program, *arguments = shlex.split(line)
        assert program == "python"
        monkeypatch.setattr(sys, "argv", arguments)
        caplog.clear()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(arguments[0], run_name="__main__")
        told = capsys.readouterr()
        return end.value.code, told.out, "\n".join([*caplog.messages, told.err])

    return run


def test_there_are_ten_lines_and_the_documentation_has_them():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert len(LINES) == 10
    assert [line for line in LINES if line not in text] == []


def test_default_trains_and_the_lines_after_it_find_what_it_left(typed, trackers, monkeypatch):
    code, out, said = typed(DEFAULT)
    assert code == 0, said
    assert "best model: checkpoints/best_model.pth" in out
    assert "checkpoints and figures go to checkpoints" in said
    assert "no GPU is used: preset 'default' is made for one" in said
    assert "training.batch_size 16 -> 8, training.accumulation_steps 4 -> 8" in said
    assert {"best_model.pth", "last.pth", "config.json", "metrics.jsonl"} <= {
        path.name for path in Path("checkpoints").iterdir()
    }
    [(backend, _, figures)] = trackers.runs
    assert (backend, figures[-1]) == ("mlflow", "finished")
    assert "val/twin_eer" in figures[0]

    assert "tensorboard --logdir logs/tensorboard" in said
    curves = EventMultiplexer().AddRunsFromDirectory(shlex.split(CURVES)[-1]).Reload()
    [run] = curves.Runs()
    assert [event.value for event in curves.Scalars(run, "train/loss")] == [
        pytest.approx(line["train/loss"]) for line in lines_of("checkpoints/metrics.jsonl")
    ]

    code, out, said = typed(EVALUATE)
    assert code == 0, said
    assert Path("results/evaluation/report.html").is_file()
    report = json.loads(Path("results/evaluation/evaluation_report.json").read_text())
    assert report["test_data"] == "data/test_pairs.json"
    assert report["all"]["num_genuine"] == 6

    before = load_model("checkpoints/best_model.pth").threshold
    code, out, said = typed(OPTIMIZE)
    assert code == 0, said
    chosen = float(out.split()[1])
    assert out.startswith("threshold ")
    assert "by eer, on 6 genuine and 3 impostor" in out
    assert "not stored; add --save" in out
    assert load_model("checkpoints/best_model.pth").threshold == before
    assert typed(f"{OPTIMIZE} --save")[0] == 0
    stored = load_model("checkpoints/best_model.pth").threshold
    assert stored.value == pytest.approx(chosen, abs=1e-4)
    assert stored.origin["data"].startswith("data/val_pairs.json")

    code, out, said = typed(EXTRACT)
    assert code == 0, said
    assert "3 features: features.npz" in out

    one, two = sorted(Path("data/faces").iterdir())[:2]
    monkeypatch.setattr("sys.stdin", StringIO(f"verify {one} {two}\nquit\n"))
    code, out, said = typed(DEMO)
    assert code == 0, said
    assert "decision" in out


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_single_gpu_with_mlflow(typed, trackers):
    code, _, said = typed(SINGLE)
    assert code == 0, said
    assert "no --data_dir given: using ./data" in said
    assert (
        "preset 'single_gpu' is made for one, and a CPU takes many times as long; nothing had to be changed"
        in said
    )
    assert [(backend, figures[-1]) for backend, _, figures in trackers.runs] == [("mlflow", "finished")]
    assert Path("checkpoints/best_model.pth").is_file()


def test_kaggle_elsewhere(typed, trackers):
    code, _, said = typed(KAGGLE)
    assert code == 0, said
    assert "changed: runtime.amp fp16 -> off, training.batch_size 16 -> 8" in said
    [(backend, tracking, _)] = trackers.runs
    assert (backend, tracking.wandb_project, tracking.wandb_entity) == (
        "wandb", "twin-face-verification", "your-username",
    )  # fmt: skip
    assert Path("checkpoints/best_model.pth").is_file()


def test_no_tracking_tracks_nothing_and_a_second_run_does_not_replace_the_first(typed, trackers, capsys):
    code, _, said = typed(UNTRACKED)
    assert code == 0, said
    assert trackers.runs == []
    first = Path("checkpoints/best_model.pth").read_bytes()
    code, _, said = typed(UNTRACKED)
    assert code == 2
    assert "error: checkpoints holds a run already; use --resume auto to continue it, --overwrite" in said
    assert Path("checkpoints/best_model.pth").read_bytes() == first
    code, _, said = typed(f"{UNTRACKED} --resume auto")
    assert code == 0, said
    assert len(list(Path("logs/tensorboard").iterdir())) == 1, "a run that goes on has one folder of events"


def test_ones_own_configuration(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    values = tiny_values(data, tmp_path)
    del values["data"]["data_dir"], values["runtime"]["output_dir"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    program, *arguments = shlex.split(OWN)
    assert program == "dcal-train"
    assert train_command.main(arguments) == 0
    assert "best model: checkpoints/best_model.pth" in capsys.readouterr().out


# What the lines say where something is missing


def test_without_the_package_a_preset_goes_on_and_a_request_does_not(typed, monkeypatch):
    monkeypatch.setattr("twin_dcal.training.trackers.shared.find_spec", lambda name: None)
    code, _, said = typed(DEFAULT)
    assert code == 0, said
    told = [line for line in said.splitlines() if "mlflow" in line]
    assert told == [
        "mlflow is not installed: the run goes on with TensorBoard and metrics.jsonl alone; pip install "
        "'twin-dcal[mlflow]' adds it"
    ]
    code, _, said = typed(f"{SINGLE} --overwrite")
    assert code == 2
    assert "--tracking mlflow: mlflow is not installed; pip install 'twin-dcal[mlflow]'" in said


def test_a_model_alone_is_not_replaced_either(typed, trackers):
    Path("checkpoints").mkdir()
    Path("checkpoints/best_model.pth").write_bytes(b"mine")
    code, _, said = typed(UNTRACKED)
    assert code == 2
    assert "checkpoints holds a model already (best_model.pth); use --overwrite" in said
    assert Path("checkpoints/best_model.pth").read_bytes() == b"mine"


def test_a_new_run_does_not_draw_its_curves_over_those_of_one_that_was_moved_away(typed, trackers):
    assert typed(UNTRACKED)[0] == 0
    Path("checkpoints").rename("first")
    assert typed(UNTRACKED)[0] == 0
    curves = EventMultiplexer().AddRunsFromDirectory("logs/tensorboard").Reload()
    assert [len(curves.Scalars(run, "train/loss")) for run in curves.Runs()] == [1, 1]
    assert typed(f"{UNTRACKED} --overwrite")[0] == 0
    runs = EventMultiplexer().AddRunsFromDirectory("logs/tensorboard").Reload().Runs()
    assert len(runs) == 2, "the replaced run's are gone, the other's stay"
    assert sorted(path.name for path in Path("logs/tensorboard").iterdir()) == sorted(runs)


def test_what_was_chosen_by_name_is_not_changed_for_a_cpu(typed, trackers):
    code, _, said = typed(f"{UNTRACKED} --training.batch_size 12")
    assert code == 0, said
    assert "nothing had to be changed" in said
    stored = TwinVerificationConfig.from_file("checkpoints/config.json").training
    assert (stored.batch_size, stored.accumulation_steps) == (12, 4)


def test_without_weights_and_without_the_hub_it_is_one_line_before_anything_is_read(typed, monkeypatch):
    monkeypatch.setitem(presets.PRESETS["no_tracking"]["model"], "backbone", "vit_base_patch16_224")
    monkeypatch.setitem(presets.PRESETS["no_tracking"]["model"], "pretrained", True)
    monkeypatch.setattr("twin_dcal.hub.may_be_cached", lambda name: False)

    def no_hub(backbone):
        raise ModelError(f"no weights of {backbone}")

    monkeypatch.setattr("twin_dcal.hub.need_hub", no_hub)
    monkeypatch.setattr("twin_dcal.training.run.train", lambda *given, **more: pytest.fail("went on"))
    code, _, said = typed(UNTRACKED)
    assert code == 2
    assert "error: no weights of vit_base_patch16_224" in said
    assert not Path("checkpoints").exists()


def test_validate_only_needs_no_weights(typed, monkeypatch):
    model = presets.PRESETS["no_tracking"]["model"]
    monkeypatch.setitem(model, "pretrained", True)
    monkeypatch.setattr(
        "twin_dcal.models.pretrained.need_hub", lambda *given: pytest.fail("the hub was asked")
    )
    code, out, said = typed(f"{UNTRACKED} --validate_only")
    assert code == 0, said
    assert "nothing was trained" in out
    assert not Path("checkpoints").exists()
    code, _, said = typed(f"{UNTRACKED} --validate_only --model.pretrained nothing.pth")
    assert code == 2
    assert "no weights file nothing.pth" in said


def test_going_on_needs_no_weights(typed, monkeypatch, trackers):
    assert typed(UNTRACKED)[0] == 0
    monkeypatch.setattr(
        "twin_dcal.models.pretrained.need_hub", lambda *given: pytest.fail("the hub was asked")
    )
    code, _, said = typed(f"{UNTRACKED} --resume auto --training.num_epochs 2 --model.pretrained true")
    assert code == 0, said
    assert [line["epoch"] for line in lines_of("checkpoints/metrics.jsonl")] == [1, 2]


def test_evaluating_without_data_takes_the_data_folder(typed, trackers):
    assert typed(UNTRACKED)[0] == 0
    code, _, said = typed(
        "python scripts/evaluate_verification.py --model checkpoints/best_model.pth --optimize_threshold"
    )
    assert code == 0, said
    assert "no --data_dir given: using ./data" in said
    report = json.loads(Path("results/evaluation/evaluation_report.json").read_text())
    assert report["all"]["num_genuine"] == 4 * 15


def test_where_mlflow_keeps_runs_is_chosen_and_said(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    answers = []
    monkeypatch.setattr(stores, "is_mlflow_server", lambda host, port: answers[0])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder, local = tmp_path / "checkpoints", f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    for uri, own, before, answer, chosen, why in [
        (None, None, None, True, "http://localhost:5000", "an MLflow server answers there"),
        (None, None, None, False, local, "no MLflow server answers on http://localhost:5000"),
        (None, "https://runs.example.org", None, True, "https://runs.example.org", "MLFLOW_TRACKING_URI"),
        ("sqlite:///a/b.db", "https://runs.example.org", None, True, "sqlite:///a/b.db", "--mlflow_uri"),
        (None, None, local, True, local, "where this run was kept before"),
    ]:
        caplog.clear()
        answers[:] = [answer]
        if own:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
        else:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert stores.choose_store(uri, folder, before).uri == chosen
        [line] = caplog.messages
        assert chosen in line
        assert why in line
