"""The README's blocks: Python is run, commands are parsed and their configuration resolved."""

import re
import shlex
from io import StringIO
from pathlib import Path

import pytest
from drawn_scenes import drawn_face
from made_videos import write_video
from PIL import Image

from twin_dcal.cli import ablate, evaluate, extract, search, train, verify
from twin_dcal.config import TwinVerificationConfig, resolve_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INFERENCE = (ROOT / "docs" / "inference.md").read_text(encoding="utf-8")
PEOPLE = (ROOT / "docs" / "people.md").read_text(encoding="utf-8")
MODULES = {
    "dcal-train": train, "dcal-evaluate": evaluate, "dcal-ablate": ablate, "dcal-verify": verify,
    "dcal-extract": extract,
}  # fmt: skip


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("dcal-")]


def test_there_is_something_to_check():
    assert len(COMMANDS) == 10
    assert len(blocks("python")) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *arguments = shlex.split(command)
    options, dotted = MODULES[name].parser().parse(arguments)
    if name in ("dcal-train", "dcal-ablate"):
        assert resolve_config(options.config, dotted)
    else:
        assert not dotted


@pytest.fixture(scope="module")
def trained(tiny_faces, tmp_path_factory):
    """The folder of a run as the README's, and what stands for each name in its text."""
    home = tmp_path_factory.mktemp("readme")
    values = {"model.backbone": "test_vit", "model.pretrained": False, "data.image_size": 32,
              "data.data_dir": str(tiny_faces), "runtime.num_workers": 0, "training.num_epochs": 1,
              "runtime.output_dir": str(home / "runs" / "twins")}  # fmt: skip
    from twin_dcal.training.run import train as train_model

    model = train_model(TwinVerificationConfig.preset("debug").override(values)).best_model
    people = (
        home / "FACES" / "test" / "people"
    )  # patterns of colours, as in tiny_faces, are no faces to decide on
    people.mkdir(parents=True)
    for number, name in enumerate("ab"):
        face = Image.fromarray(drawn_face(number, 0, 96)[0])
        face.save(home / f"{name}.jpg")
        face.save(people / f"{name}.png")
    write_video(home / "clip.mp4", [drawn_face(0, photo, 96)[0] for photo in range(6)])
    one, two = sorted(people.iterdir())
    (home / "LIST").write_text("a.jpg\nb.jpg\n")
    (home / "LIST.csv").write_text("img1,img2\na.jpg,b.jpg\n")
    return home, {
        "FACES": tiny_faces,
        "MODEL": model,
        "IMG1": one,
        "IMG2": two,
        "IMG3": home / "a.jpg",
        "FOLDER": one.parent,
        "FOLDER_OF_PEOPLE": one.parent.parent,
        "LIST": home / "LIST",
    }


def with_names(text, names):
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: str(names[found[0]]), text)


DECIDING = [line for line in COMMANDS if line.startswith(("dcal-verify", "dcal-extract"))]
DECIDING += re.findall(r"^dcal-.*$", INFERENCE, re.MULTILINE)
DECIDING += re.findall(r"^dcal-(?:verify|extract).*$", PEOPLE, re.MULTILINE)


@pytest.mark.parametrize("command", DECIDING)
def test_commands_that_decide_run_as_written(command, trained, monkeypatch, capsys):
    home, names = trained
    monkeypatch.chdir(home)
    monkeypatch.setattr("sys.stdin", StringIO("verify a.jpg b.jpg\nquit\n"))
    served = []
    monkeypatch.setattr("twin_dcal.web.server.serve", lambda *given, **more: served.append(given) or True)
    monkeypatch.setattr(
        "twin_dcal.cli.verify.end_at_once", lambda code: None
    )  # the process of the tests goes on
    name, *arguments = shlex.split(command if "FACES/test" in command else with_names(command, names))
    code = MODULES[name].main(arguments)
    told = capsys.readouterr()
    interrupted = (130,)  # how the page ends
    assert code in (interrupted if served else (0, 1) if name == "dcal-verify" else (0,)), told.err
    assert served or any(text in told.out for text in ("decision", "features: features", "1 pair: "))
    assert bool(served) == ("--web" in command)


def test_a_gallery_is_made_and_searched_as_written(trained, monkeypatch, capsys):
    home, names = trained
    monkeypatch.chdir(home)
    lines = re.findall(r"^dcal-search.*$", PEOPLE, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        _, *arguments = shlex.split(with_names(line, names))
        assert search.main(arguments) in (0, 1), capsys.readouterr().err
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "1 person with 2 photographs: people.gallery"
    assert told[-1].split() == ["2", "people"]


def test_the_page_on_people_runs_from_top_to_bottom(trained, monkeypatch, capsys):
    home, names = trained
    monkeypatch.chdir(home)
    (home / "people.gallery").unlink(missing_ok=True)
    together = {}
    for block in re.findall(r"```python\n(.*?)```", PEOPLE, re.DOTALL):
        exec(with_names(block, names), together)
    printed = capsys.readouterr().out
    assert "'photographs': [2, 2]" in printed, "training has stored thresholds for templates"
    assert (home / "results.csv").exists()
    assert together["again"].people == ["people"]


def test_python_blocks_run(trained, capsys):
    _, names = trained
    for block in (*blocks("python"), *re.findall(r"```python\n(.*?)```", INFERENCE, re.DOTALL)):
        exec(with_names(block, names), {})
    printed = capsys.readouterr().out
    assert "train: 8 people in 4 families" in printed
    assert "'criterion': 'eer'" in printed


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
