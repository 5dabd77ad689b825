"""The tutorials, run as they are written: every sh and Python block, in order, in one folder."""

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
ORDER = ("photographs", "face_network", "pairs", "people", "compare")
"""The later ones go on in the folder of the first."""
LEAVES = {
    "photographs": (
        "faces/prepare_report.html",
        "runs/twins/best_model.pth",
        "runs/twins/evaluation/report.html",
    ),
    "face_network": ("runs/trained/best_model.pth", "runs/face_comparison/comparison.md"),
    "pairs": ("decisions.csv", "runs/pairs/report.html"),
    "people": ("people_results.csv", "people.gallery", "clusters.html", "person.mp4", "own.pth"),
    "compare": ("runs/comparison/comparison.md", "runs/comparison/visualizations/comparison_det.pdf"),
}


def blocks_of(name):
    """The blocks that run, (language, text), as they follow each other."""
    return re.findall(
        r"```(sh|python)\n(.*?)```", (TUTORIALS / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL
    )


def test_every_tutorial_is_run():
    assert {path.stem for path in TUTORIALS.glob("*.md")} == {*ORDER, "index"}
    assert all(blocks_of(name) for name in ORDER)
    for name in ORDER:
        for language, text in blocks_of(name):
            commands = text.splitlines() if language == "sh" else []
            assert all(line.startswith("dcal-") for line in commands), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("tutorials")
    onnx = pytest.importorskip("onnx")
    assert onnx
    pytest.importorskip("cv2")
    from tiny_face import tiny_face_onnx

    tiny_face_onnx(home / "network.onnx")  # the reader's own network
    return home


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_a_tutorial_runs_as_written(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["dcal"])
    for language, text in blocks_of(name):
        if language == "python":
            exec(compile(text, f"{name}.md", "exec"), {})
            continue
        for line in text.splitlines():
            command, *arguments = shlex.split(line)
            code = import_module(f"twin_dcal.cli.{command.removeprefix('dcal-')}").main(arguments)
            assert code == 0, (line, capsys.readouterr().err)
    assert [path for path in LEAVES[name] if not (folder / path).exists()] == []
