"""The Kaggle notebook: every cell run with a small data set and no GPU; its installation leaves torch alone."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from twin_dcal.config import TwinVerificationConfig

nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.filterwarnings("default")  # Jupyter's own

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--model.backbone", "test_vit", "--model.pretrained", "false", "--data.image_size", "32", "--training.num_epochs",
    "1", "--training.batch_size", "8", "--training.images_per_person", "2", "--runtime.num_workers", "0",
    "--runtime.amp", "off",
]  # fmt: skip


def notebook():
    return nbformat.read(ROOT / "examples" / "kaggle.ipynb", as_version=4)


def cell(tag, book=None):
    [found] = [cell for cell in (book or notebook()).cells if tag in cell.metadata.get("tags", [])]
    return found


def filled_in(tiny_faces, tmp_path, more=()):
    book = notebook()
    cell("parameters", book).source = "\n".join(
        ["from pathlib import Path", f"DATA, INPUTS = {str(tiny_faces)!r}, {str(tmp_path / 'inputs')!r}",
         f"OUTPUT, TRACKING, SOURCE = {str(tmp_path / 'dcal')!r}, 'none', 'twin-dcal'", f"MORE = {[*SMALL, *more]!r}"]
    )  # fmt: skip
    return book


def text_of(book):
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_all_cells_run_and_a_later_session_goes_on(tiny_faces, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    book = filled_in(tiny_faces, tmp_path)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "dcal" / "evaluation" / "report.html").exists()
    shown = [output.data for output in cell("show", book).outputs if output.output_type == "display_data"]
    assert "image/png" in shown[0]
    assert "--resume auto" in text_of(book)
    assert "twin" in cell("show", book).outputs[-1].text

    (tmp_path / "inputs" / "earlier").mkdir(parents=True)
    (tmp_path / "dcal").rename(tmp_path / "inputs" / "earlier" / "dcal")
    book = filled_in(tiny_faces, tmp_path, ["--training.num_epochs", "2"])
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert f"--resume {tmp_path}/inputs/earlier/dcal/last.pth" in text_of(book)
    lines = (tmp_path / "dcal" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def run_install(monkeypatch, tmp_path, replaced=()):
    """The install cell where twin_dcal is missing, with pip replaced by a list of its calls."""
    calls = []

    def pip(command, check):
        calls.append([*command, Path(command[command.index("--constraint") + 1]).read_text()])
        version = importlib.metadata.version
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: "99" if name in replaced else version(name)
        )

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", pip)
    exec(cell("install").source, {"Path": Path, "SOURCE": "a-wheel.whl"})
    return calls


def test_pip_is_held_to_the_images_torch(monkeypatch, tmp_path, capsys):
    [call] = run_install(monkeypatch, tmp_path)
    assert call[:4] == [sys.executable, "-m", "pip", "install"]
    assert "a-wheel.whl" in call
    assert not {"-U", "--upgrade", "--force-reinstall"} & set(call)
    for name in ("torch", "torchvision", "numpy"):
        assert f"{name}=={importlib.metadata.version(name)}\n" in call[-1]


def test_a_replaced_torch_is_noticed(monkeypatch, tmp_path):
    with pytest.raises(AssertionError, match="must stay"):
        run_install(monkeypatch, tmp_path, replaced=("torch",))


@pytest.mark.slow
def test_a_real_installation_would_leave_torch_alone(tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text(
        "".join(f"{n}=={importlib.metadata.version(n)}\n" for n in ("torch", "torchvision", "numpy"))
    )
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", str(report), "--constraint",
         str(kept), f"{ROOT}[wandb]"], capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip could not resolve here: {done.stderr.strip().splitlines()[-1]}")
    would = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    assert "twin-dcal" in would
    assert not would & {"torch", "torchvision", "numpy"}


def test_the_preset_is_what_the_notebook_says():
    preset = TwinVerificationConfig.preset("kaggle")
    assert preset.runtime.amp == "fp16", "a T4 only emulates bf16"
    assert preset.runtime.output_dir is None, "the working folder there is /kaggle/working, which is kept"
    assert (preset.tracking.backend, preset.tracking.wandb_project) == ("wandb", "twin-dcal")
    assert preset.training.num_epochs == 100


def test_the_notebook_is_stored_without_output():
    for entry in notebook().cells:
        if entry.cell_type == "code":
            assert not entry.outputs
            assert entry.execution_count is None
            compile(entry.source, "cell", "exec")
