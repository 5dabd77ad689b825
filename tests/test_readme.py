"""The README's blocks: Python is run, commands are parsed and their configuration resolved."""

import re
import shlex
from pathlib import Path

import pytest

from twin_dcal.cli import ablate, evaluate, train
from twin_dcal.config import TwinVerificationConfig, resolve_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("dcal-")]


def test_there_is_something_to_check():
    assert len(COMMANDS) == 8
    assert len(blocks("python")) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *arguments = shlex.split(command)
    module = {"dcal-train": train, "dcal-evaluate": evaluate, "dcal-ablate": ablate}[name]
    options, dotted = module.parser().parse(arguments)
    if name != "dcal-evaluate":
        assert resolve_config(options.config, dotted)
    else:
        assert not dotted


def test_python_blocks_run(tiny_faces, tmp_path, capsys):
    values = {"model.backbone": "test_vit", "model.pretrained": False, "data.image_size": 32,
              "data.data_dir": str(tiny_faces), "runtime.num_workers": 0, "training.num_epochs": 1,
              "runtime.output_dir": str(tmp_path)}  # fmt: skip
    from twin_dcal.training.run import train as train_model

    model = train_model(TwinVerificationConfig.preset("debug").override(values)).best_model
    for block in blocks("python"):
        exec(block.replace('"FACES"', repr(str(tiny_faces))).replace('"MODEL"', repr(str(model))), {})
    printed = capsys.readouterr().out
    assert "train: 8 people in 4 families" in printed
    assert "torch.Size([2, 384])" in printed
    assert "'criterion': 'eer'" in printed


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
