"""People and files whose names are no UTF-8, or formulas: everything is written, and read back to the same figures."""

import csv
import json
import logging
import os
from pathlib import Path
from unicodedata import category

import numpy as np
import pytest
from tiny import tiny_model

from twin_dcal.cli import evaluate as evaluate_command
from twin_dcal.cli import exits
from twin_dcal.cli import extract as extract_command
from twin_dcal.cli import train as train_command
from twin_dcal.cli import verify as verify_command
from twin_dcal.cli.common import run
from twin_dcal.errors import ImageError, ManifestError
from twin_dcal.metrics.error_curve import Threshold

LATIN, FORMULA = os.fsdecode(b"J\xfcrgen"), "=cmd()|x"


@pytest.fixture(scope="module")
def faces(tmp_path_factory, tiny_faces):
    """Two families, one of a person called in Latin-1 and one whose name is a formula."""
    root = tmp_path_factory.mktemp("odd") / "faces"
    pairs = [[LATIN, FORMULA], ["k", "-l"]]
    for person, source in zip(
        [person for pair in pairs for person in pair], ("6a", "6b", "7a", "7b"), strict=True
    ):
        (root / person).mkdir(parents=True)
        for number, photo in enumerate(sorted((tiny_faces / "test" / source).iterdir())):
            name = f"{LATIN}.png" if number == 0 else photo.name
            (root / person / name).write_bytes(photo.read_bytes())
    (root / "twin_pairs_infor.json").write_text(json.dumps(pairs))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_faces):
    folder = tmp_path_factory.mktemp("odd_model")
    origin = {"criterion": "eer", "data": "validation", "impostors": "twin"}
    return tiny_model(folder, threshold=Threshold(0.5, origin))


def call(command, *arguments):
    return command.main([str(argument) for argument in arguments])


def report(folder):
    return json.loads((folder / "evaluation_report.json").read_text("utf-8"))


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_evaluation_is_written_and_read_back(faces, model, tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    scores = tmp_path / f"scores.{ending}"
    few = ["--num_replicates", "0"]
    whole = ["--visualize", "--save_examples", "--save_scores", scores, "--num_workers", "0", *few]
    given = ["--model", model, "--data_dir", faces, "--output_dir", tmp_path / "one", *whole]
    assert call(evaluate_command, *given) == 0
    told = report(tmp_path / "one")
    people = {row["person"] for row in rows_of(tmp_path / "one" / "people.csv")}
    assert people == {"J\\udcfcrgen", "'=cmd()|x", "k", "'-l"}
    page = (tmp_path / "one" / "report.html").read_text("utf-8")
    assert "J\\udcfcrgen" in page
    again = {
        "scores": ["--scores", scores, "--data_dir", faces],
        "scores alone": ["--scores", scores],
        "embeddings": ["--embeddings", tmp_path / "one" / "embeddings.npz", "--data_dir", faces],
    }
    for name, entered in again.items():
        assert call(evaluate_command, *entered, "--output_dir", tmp_path / name, *few) == 0, name
        other = report(tmp_path / name)
        for section in ("twin", "unrelated", "all"):
            assert other[section]["num_genuine"] == told[section]["num_genuine"], name
            assert other[section]["eer"] == pytest.approx(told[section]["eer"], abs=1e-3), name


def test_features_are_written_with_the_names_of_their_files(faces, model, tmp_path):
    output = tmp_path / "features.npz"
    every = ["--save_individual", "--similarity_matrix", "--visualize_features", "--top_k_similar", "2"]
    few = ["--align", "never", "--num_workers", "0"]
    given = ["--model", model, "--images_dir", faces, "--output", output, *every, "--cluster_features", *few]
    assert call(extract_command, *given) == 0
    paths = np.load(output)["image_paths"].tolist()
    assert str(faces / LATIN / f"{LATIN}.png") in paths
    assert all(os.path.exists(path) for path in paths)  # noqa: PTH110
    assert {row["image"] for row in rows_of(tmp_path / "clusters.csv")} >= {
        f"{faces}/J\\udcfcrgen/J\\udcfcrgen.png"
    }
    (tmp_path / "list.txt").write_bytes(os.fsencode(faces / LATIN / f"{LATIN}.png") + b"\n")
    given = ["--model", model, "--images_list", tmp_path / "list.txt", "--output", tmp_path / "one.npz", *few]
    assert call(extract_command, *given) == 0
    assert np.load(tmp_path / "one.npz")["image_paths"].tolist() == [str(faces / LATIN / f"{LATIN}.png")]


def test_a_decision_on_such_a_picture(faces, model, tmp_path, capsys):
    one, two = faces / LATIN / f"{LATIN}.png", faces / "k" / f"{LATIN}.png"
    given = [
        "--model",
        model,
        "--output_dir",
        tmp_path,
        "--save_results",
        "--threshold",
        "-1",
        "--align",
        "never",
    ]
    assert call(verify_command, *given, "--img1", one, "--img2", two) == 0
    (told,) = tmp_path.glob("*.json")
    assert json.loads(told.read_text("utf-8"))["img1_path"] == str(one)
    capsys.readouterr()
    assert call(verify_command, *given, "--demo_folder", faces / LATIN) == 0
    assert "J\\udcfcrgen" in capsys.readouterr().out


def test_training_names_an_output_folder_that_it_cannot_write(faces, tmp_path, capsys):
    odd = tmp_path / os.fsdecode(b"r\xfcn")
    given = ["--config", "debug", "--data_dir", faces, "--output_dir", odd]
    assert call(train_command, *given) == 2
    assert "r\\udcfcn: its name is no UTF-8, which TensorBoard needs" in capsys.readouterr().err
    assert not odd.exists()


FORGED = "x\n\x1b[31mSAME PERSON\u202e.png"
FORGED_SHOWN = "x\\n\\x1b[31mSAME PERSON\\u202e.png"


def obeyed(text):
    """What a terminal would obey in a text, but for its lines."""
    return [sign for sign in text if sign != "\n" and category(sign) in ("Cc", "Cf", "Zl", "Zp")]


def test_a_name_makes_no_line_of_its_own_on_a_terminal(faces, model, tmp_path, capsys):
    folder = tmp_path / "forged"
    folder.mkdir()
    for name, source in ((FORGED, "k"), ("b.png", "-l")):
        (folder / name).write_bytes((faces / source / f"{LATIN}.png").read_bytes())
    (folder / f"broken{FORGED}").write_bytes(b"no picture")
    given = ["--model", model, "--align", "never", "--output_dir", tmp_path / "results", "--save_results"]
    assert call(verify_command, *given, "--demo_folder", folder) == 0
    told = capsys.readouterr()
    assert obeyed(told.out + told.err) == []
    assert sum(FORGED_SHOWN in line for line in told.out.splitlines()) >= 2, "a pair, and a reason"
    assert not any(line.lstrip().startswith(("SAME", "\\x1b")) for line in told.out.splitlines())
    (saved,) = (tmp_path / "results").glob("pairs_*.json")
    pairs = json.loads(saved.read_text("utf-8"))
    assert str(folder / FORGED) in {pair["img2_path"] for pair in pairs}, "files have names as they are"

    assert call(verify_command, *given, "--img1", folder / "gone" / FORGED, "--img2", folder / "b.png") == 2
    assert capsys.readouterr().err == f"error: {folder}/gone/{FORGED_SHOWN}: no such file\n"

    output = tmp_path / "features.npz"
    given = ["--model", model, "--align", "never", "--num_workers", "0", "--images_dir", folder]
    assert call(extract_command, *given, "--output", output) == 0
    told = capsys.readouterr()
    assert obeyed(told.out + told.err) == []
    assert f"left out: {folder}/broken{FORGED_SHOWN}: " in told.err
    assert len((tmp_path / "features.failed.txt").read_text("utf-8").splitlines()) == 1
    assert str(folder / FORGED) in np.load(output)["image_paths"].tolist()


@pytest.mark.parametrize("error", [ManifestError, ImageError, OSError])
def test_every_command_ends_in_one_line_whatever_is_named(error, capsys):
    def fail(_):
        logging.getLogger("twin_dcal.data").warning("%s: left out", FORGED)
        print(f"a\tb\n{FORGED}")
        raise error(f"{FORGED}: a fault")

    logging.getLogger().handlers[:] = []
    assert run(fail, []) == 2
    told = capsys.readouterr()
    assert told.err == f"{FORGED_SHOWN}: left out\nerror: {FORGED_SHOWN}: a fault\n"
    assert told.out == "a\tb\nx\n\\x1b[31mSAME PERSON\\u202e.png\n", "lines and columns are the command's"


def test_a_fault_of_ours_is_told_line_by_line(capsys):
    assert exits.internal(RuntimeError(FORGED)) == 70
    assert obeyed(capsys.readouterr().err) == []


def test_what_a_worker_of_a_loader_raises_is_told_by_its_own_line():
    around = "Caught ImageError in DataLoader worker process 0.\nOriginal Traceback:"
    worker = f"{around}\ntwin_dcal.errors.ImageError: {FORGED_SHOWN}: gone"
    assert exits._own_line(ImageError(worker)) == f"{FORGED_SHOWN}: gone"


def test_commands_speak_on_stderr_in_one_place_only():
    """`exits.say` makes what it says one line; a print of its own would not."""
    commands = Path(exits.__file__).parent.glob("*.py")
    assert {path.name for path in commands if "file=sys.stderr" in path.read_text()} == {
        "exits.py",
        "verify.py",
    }, "verify.py asks a question of the user's own"
