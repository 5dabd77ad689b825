"""Commands as users call them: what they print, what they leave, how they fail."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import twin_dcal
from twin_dcal.cli import dcal
from twin_dcal.cli import evaluate as evaluate_command
from twin_dcal.cli import train as train_command

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--config", "debug", "--model.backbone", "test_vit", "--data.image_size", "32", "--training.num_epochs", "1",
    "--training.images_per_person", "2", "--training.warmup_epochs=0", "--runtime.num_workers", "0",
]  # fmt: skip


def train(*arguments):
    return train_command.main([*TINY, *map(str, arguments)])


def evaluate(*arguments):
    return evaluate_command.main([*map(str, arguments), "--num_workers", "0"])


def one_error(capsys, code, pattern):
    """The user's mistake: exit code 2 and one line that matches."""
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(pattern, lines[0]), lines[0]


@pytest.fixture(scope="session")
def model(tiny_faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert train("--data_dir", tiny_faces, "--output_dir", folder) == 0
    return folder / "best_model.pth"


@pytest.mark.parametrize("script", ["train_twin_verification.py", "evaluate_verification.py"])
def test_scripts_answer_help_without_torch(script):
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'scripts' / script)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--data_dir" in done.stdout


@pytest.mark.parametrize("command", [name for name in dcal.COMMANDS if name != "completion"])
def test_every_command_tells_its_version(command, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"twin_dcal.cli.{command}").main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"dcal-{command} {twin_dcal.__version__}\n"


def test_dcal_tells_its_version(capsys):
    assert dcal.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dcal {twin_dcal.__version__}\n"


def test_train_then_evaluate(tiny_faces, model, tmp_path, capsys):
    code = evaluate("--model", model, "--data-dir", tiny_faces, "--output-dir", tmp_path)
    printed = capsys.readouterr().out
    assert code == 0
    assert "genuine pairs" in printed
    assert f"report: {tmp_path / 'evaluation_report.json'}" in printed
    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert report["twin"]["num_impostors"] == 2 * 6 * 6
    assert report["unrelated"]["num_impostors"] == 12 * 12
    assert report["all"]["num_genuine"] == 4 * 15
    assert report["threshold_source"].startswith("eer on the twin impostors of validation: 4 people")
    assert re.fullmatch(r"[0-9a-f]{64}", report["model"]["sha256"])


def test_the_threshold_can_be_given_or_chosen_on_validation_data(tiny_faces, model, tmp_path):
    common = ["--model", model, "--test_data", tiny_faces / "test", "--output_dir", tmp_path]
    assert evaluate(*common, "--threshold", "0.25") == 0
    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert (report["threshold"], report["threshold_source"]) == (0.25, "given on the command line")
    chosen = ["--optimize_threshold", "--val_data", tiny_faces / "val", "--threshold_metric", "accuracy"]
    assert evaluate(*common, *chosen) == 0
    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert report["threshold_source"].startswith("accuracy on the twin impostors of")


def test_a_threshold_by_its_probability(tiny_faces, model, tmp_path, capsys):
    common = ["--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path]
    assert evaluate(*common, "--threshold_probability", "0.5") == 0
    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert report["threshold_source"] == "given on the command line as the probability 0.5"
    assert report["calibration"] is not None
    one_error(
        capsys,
        evaluate(*common, "--threshold_probability", "1"),
        "no score has the probability 1; the highest",
    )
    one_error(capsys, evaluate(*common, "--threshold_probability", "2"), "give one between 0 and 1")
    both = ["--threshold_probability", "0.5", "--threshold", "0.5"]
    one_error(capsys, evaluate(*common, *both), "--threshold and --threshold_probability exclude each other")


def test_doubts_about_a_chosen_threshold_are_in_the_report_and_not_on_stderr(
    tiny_faces, model, tmp_path, capsys
):
    chosen = ["--optimize_threshold", "--val_data", tiny_faces / "val", "--threshold_metric", "far=1e-3"]
    assert (
        evaluate("--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path, "--visualize", *chosen)
        == 0
    )
    told = capsys.readouterr()
    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    (warning,) = [text for text in report["warnings"] if text.startswith("threshold: ")]
    assert "FMR 0.1 % needs 1,000 impostor pairs or more" in warning
    assert report["tuning"]["warning"] == warning.removeprefix("threshold: ")
    assert "FMR 0.1 % needs" in told.out
    assert "FMR 0.1 % needs" not in told.err
    assert "FMR 0.1 % needs 1,000 impostor pairs or more" in (tmp_path / "report.html").read_text()


def test_one_branch_alone_has_no_stored_threshold(tiny_faces, model, tmp_path):
    given = ["--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path]
    scores = {}
    for feature_type in ("combined", "sa", "glca"):
        assert evaluate(*given, "--feature_type", feature_type) == 0
        report = json.loads((tmp_path / "evaluation_report.json").read_text())
        scores[feature_type] = report["eer_threshold"]
        assert ("these very scores" in report["threshold_source"]) == (feature_type != "combined")
    assert len(set(scores.values())) == 3


def test_a_pairs_file_needs_a_data_set_to_know_twins(tiny_faces, model, tmp_path):
    root = tiny_faces / "test"
    lines = [
        f"{root}/6a/0.png {root}/{other} {label}"
        for other, label in (("6a/1.png", 1), ("6b/1.png", 0), ("7a/1.png", 0))
    ]
    pairs = tmp_path / "listed_pairs.txt"
    pairs.write_text("\n".join(lines))
    common = ["--model", model, "--test_data", pairs, "--output_dir", tmp_path]
    assert evaluate(*common) == 0
    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert report["twin"] is None
    assert report["all"]["num_impostors"] == 2
    for option, name in (
        ("dataset_info", "dataset_infor.json"),
        ("data_dir", ""),
        ("twin_pairs", "twin_pairs_infor.json"),
    ):
        assert evaluate(*common, f"--{option}", tiny_faces / name) == 0
        report = json.loads((tmp_path / "evaluation_report.json").read_text())
        assert [report[kind]["num_impostors"] for kind in ("twin", "unrelated")] == [1, 1]
    pairs.write_text(lines[0].replace(" 1", " 0") + "\n" + lines[1])
    assert evaluate(*common, "--dataset_info", tiny_faces / "dataset_infor.json") == 2


def test_validation_people_must_not_be_test_people(tiny_faces, model, tmp_path, capsys):
    code = evaluate(
        "--model", model, "--test_data", tiny_faces / "test", "--val_data", tiny_faces / "test",
        "--optimize_threshold", "--output_dir", tmp_path,
    )  # fmt: skip
    one_error(capsys, code, r"share people 6a, 6b, 7a")


def test_resume_auto_continues_a_finished_run_at_once(tiny_faces, model, capsys):
    code = train("--data_dir", tiny_faces, "--output_dir", model.parent, "--resume", "auto")
    assert code == 0
    assert str(model) in capsys.readouterr().out


def test_validate_only_trains_and_writes_nothing(tiny_faces, tmp_path, capsys):
    assert train("--data_dir", tiny_faces, "--output_dir", tmp_path / "none", "--validate_only") == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--config", "singel_gpu"], r"did you mean 'single_gpu'"),
        (["--config", "missing.json"], r"missing\.json: no such file"),
        (["--training.lerning_rate", "1"], r"did you mean 'training\.learning_rate'"),
        (["--training.learning_rate", "fast"], r"training\.learning_rate: .*number.*\"fast\""),
        (
            ["--learning_rate", "1"],
            r"unknown argument '--learning_rate'; did you mean 'training\.learning_rate'",
        ),
        (["--ouput_dir", "x"], r"unknown argument '--ouput_dir'; did you mean '--output_dir'\?"),
        (["--data_dir", "nowhere"], r"nowhere"),
        (
            ["--tracking", "mlflow", "--mlflow_uri", "file:./runs"],
            r"refuse a store of plain files; use sqlite:",
        ),
        (["--distributed"], r"a launcher starts the processes"),
        (["--resume", "nothing.pth"], r"--resume nothing\.pth: no such file"),
        (["--model.pretrained", "nothing.safetensors"], r"no weights file nothing\.safetensors"),
        (["--model.backbone", "resnet5000"], r"timm has no model 'resnet5000'"),
        (["--data.image_size", "33"], r"33 is not a multiple of the 16-pixel patches"),
        (["--runtime.device", "gpu"], r"'gpu' is not a device"),
    ],
)
def test_mistakes_in_training_are_one_line(tiny_faces, tmp_path, capsys, arguments, pattern):
    given = ["--data_dir", tiny_faces, "--output_dir", tmp_path / "run", *arguments]
    one_error(capsys, train(*given), pattern)
    assert not (tmp_path / "run" / "best_model.pth").exists()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--model", "nothing.pth", "--test_data", "FACES"], r"nothing\.pth: no such checkpoint"),
        (["--model", "MODEL"], r"name what to evaluate on"),
        (["--model", "MODEL", "--test_data", "nowhere"], r"nowhere"),
        (["--model", "MODEL", "--test_data", "FACES", "--optimize_threshold"], r"needs --val_data"),
        (["--model", "MODEL", "--data_dir", "FACES", "--optimize_threshold", "--threshold", "1"], r"exclude"),
        (
            ["--model", "MODEL", "--data_dir", "FACES", "--optimize_threshold", "--threshold_metric", "best"],
            "best",
        ),
        (["--model", "MODEL", "--data_dir", "FACES", "--training.learning_rate", "1"], r"has no option"),
        (
            ["--model", "MODEL", "--data_dir", "FACES", "--batch_size", "0"],
            r"--batch_size must be at least 1",
        ),
        (["--model", __file__, "--data_dir", "FACES"], r"not a checkpoint, or damaged|other than tensors"),
    ],
)
def test_mistakes_in_evaluation_are_one_line(tiny_faces, model, tmp_path, capsys, arguments, pattern):
    names = {"MODEL": model, "FACES": tiny_faces}
    given = [names.get(argument, argument) for argument in arguments]
    one_error(capsys, evaluate(*given, "--output_dir", tmp_path), pattern)
    assert not (tmp_path / "evaluation_report.json").exists()


def test_a_set_without_splits_is_judged_on_the_people_left_out(tiny_faces, tmp_path, caplog):
    flat = tmp_path / "flat"
    for split in ("train", "val", "test"):
        shutil.copytree(tiny_faces / split, flat, dirs_exist_ok=True)
    shutil.copy(tiny_faces / "twin_pairs_infor.json", flat)
    run, fractions = tmp_path / "run", ["--data.val_fraction", "0.25", "--data.test_fraction", "0.25"]
    assert train("--data_dir", flat, "--output_dir", run, *fractions) == 0
    split = json.loads((run / "split.json").read_text())
    assert [len(split[name]) for name in ("train", "val", "test")] == [8, 4, 4]
    given = ["--model", run / "best_model.pth", "--data_dir", flat, "--output_dir", tmp_path / "out"]
    assert evaluate(*given, "--optimize_threshold") == 0
    report = json.loads((tmp_path / "out" / "evaluation_report.json").read_text())
    assert report["all"]["num_genuine"] == 4 * 15
    assert "the model's own is used, its test people" in caplog.text
    assert "its val people" in caplog.text
    caplog.clear()
    seen = flat / "seen"
    shutil.copytree(flat / split["train"][0], seen / split["train"][0])
    shutil.copytree(flat / split["train"][1], seen / split["train"][1])
    assert (
        evaluate("--model", run / "best_model.pth", "--test_data", seen, "--output_dir", tmp_path / "out")
        == 0
    )
    assert "2 people with ids the model was trained on" in caplog.text


def test_a_threshold_from_listed_pairs_of_other_people(tiny_faces, model, tmp_path):
    lists = {}
    for name, (one, other) in {"test": ("6a", "7a"), "val": ("4a", "5a")}.items():
        lists[name] = tiny_faces / f"{name}_listed.txt"
        same = [f"{name}/{one}/0.png {name}/{one}/{photo}.png 1" for photo in range(1, 5)]
        different = [f"{name}/{one}/0.png {name}/{other}/{photo}.png 0" for photo in range(4)]
        lists[name].write_text("\n".join([*same, *different]))
    given = [
        "--model",
        model,
        "--test_data",
        lists["test"],
        "--dataset_info",
        tiny_faces / "dataset_infor.json",
    ]
    assert evaluate(*given, "--optimize_threshold", "--val_data", lists["val"], "--output_dir", tmp_path) == 0
    lists["test"].write_text(lists["test"].read_text() + "\n" + "test/6a/0.png test/6a/1.png 1")
    assert evaluate(*given, "--output_dir", tmp_path) == 0
    assert evaluate(*given, "--output_dir", tmp_path, "--strict") == 2


def test_a_file_in_place_of_the_output_folder_is_one_line(tiny_faces, model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    one_error(
        capsys, train("--data_dir", tiny_faces, "--output_dir", tmp_path / "file"), "is a file; name a folder"
    )
    code = evaluate("--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path / "file")
    one_error(capsys, code, "is a file; name a folder")


def test_an_image_broken_after_the_check_is_left_out_by_name(
    tiny_faces, model, tmp_path, capsys, monkeypatch
):
    faces = tmp_path / "faces"
    shutil.copytree(tiny_faces / "test", faces)
    monkeypatch.setattr("twin_dcal.data.checks.damage", lambda path, thorough=False: None)
    (faces / "6a" / "3.png").write_bytes(b"gone")
    given = ["--model", str(model), "--test_data", str(faces), "--output_dir", str(tmp_path / "out")]
    assert evaluate_command.main([*given, "--num_workers", "1"]) == 0
    told = capsys.readouterr()
    assert "1 image left out, cannot be read" in " ".join((told.out + told.err).split())
    report = json.loads((tmp_path / "out" / "evaluation_report.json").read_text())
    assert "6a/3.png" in json.dumps(report)


def test_a_bug_of_ours_is_not_dressed_up(monkeypatch, tiny_faces, capsys):
    monkeypatch.setattr(train_command, "read_run_config", lambda *_: 1 / 0)
    assert train("--data_dir", tiny_faces) == 70
    told = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero\ninternal error: " in told
    assert "error: ZeroDivisionError" not in told


@pytest.fixture(scope="session")
def evaluated(tiny_faces, model, tmp_path_factory):
    """The folder of one evaluation, with scores."""
    folder = tmp_path_factory.mktemp("evaluated")
    given = ["--model", model, "--data_dir", tiny_faces, "--output_dir", folder]
    assert evaluate(*given, "--save_scores", folder / "scores.csv", "--num_replicates", "100") == 0
    return folder


def report_of(folder):
    return json.loads((folder / "evaluation_report.json").read_text())


def test_an_evaluation_can_be_entered_at_each_step(tiny_faces, evaluated, tmp_path, capsys):
    reports = [report_of(evaluated)]
    first = ["--embeddings", evaluated / "embeddings.npz"]
    threshold = reports[0]["threshold"]
    entries = (
        first,
        [*first, "--data_dir", tiny_faces],
        ["--scores", evaluated / "scores.csv", "--threshold", threshold],
        ["--scores", evaluated / "scores.csv", "--threshold", threshold, "--data_dir", tiny_faces],
    )
    for number, entry in enumerate(entries):
        assert evaluate(*entry, "--num_replicates", "100", "--output_dir", tmp_path / str(number)) == 0
        reports.append(report_of(tmp_path / str(number)))
        last = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(
            r"twin AUC [\d.]+ · unrelated AUC [\d.]+ · report: \S+evaluation_report\.json", last
        )
    for report in reports[1:]:
        for key in ("threshold", "twin", "unrelated", "all", "headline", "animals", *FLAT):
            assert report[key] == reports[0][key], key
    warnings = reports[0]["warnings"]  # of a threshold that is given, nothing is known
    plain = [text for text in warnings if not text.startswith("threshold: ")]
    assert len(plain) == len(warnings) - 1
    assert [report["warnings"] for report in reports[1:]] == [warnings, warnings, plain, plain]
    assert reports[1]["calibration"] == reports[0]["calibration"] is not None
    assert reports[1]["model"] == reports[0]["model"]
    assert reports[3]["scores"]["path"] == str(evaluated / "scores.csv")
    assert not (tmp_path / "2" / "embeddings.npz").exists()


FLAT = (
    "roc_auc",
    "eer",
    "eer_threshold",
    "tar_at_far_0.001",
    "pr_auc",
    "best_f1",
    "twin_accuracy",
    "regular_accuracy",
)


def test_embeddings_of_another_system_join_a_data_set(tiny_faces, tmp_path, capsys):
    names = [f"/kaggle/input/x/{path.relative_to(tiny_faces)}" for path in sorted(tiny_faces.rglob("*.png"))]
    vectors = np.random.default_rng(0).normal(size=(len(names), 8))
    np.savez(tmp_path / "e.npz", embeddings=vectors, paths=np.array(names))
    given = ["--embeddings", tmp_path / "e.npz", "--num_replicates", "0", "--output_dir", tmp_path / "out"]
    one_error(capsys, evaluate(*given), r"e\.npz: it does not say whose its images are\. Name the data set")
    tuned = ["--data_dir", tiny_faces, "--optimize_threshold", "--threshold_metric", "far=0.1"]
    assert evaluate(*given, *tuned) == 0
    report = report_of(tmp_path / "out")
    assert report["all"]["num_genuine"] == 4 * 15
    assert report["tuning"]["num_genuine"] == 4 * 15
    assert report["threshold_source"].startswith("far=0.1 on the unrelated impostors of ")
    assert "4 people, 24 images" in report["threshold_source"]
    assert report["calibration"]["method"] == "platt"
    keep = [row for row, name in enumerate(names) if "7b/5" not in name]
    np.savez(tmp_path / "e.npz", embeddings=vectors[keep], paths=np.array(names)[keep])
    capsys.readouterr()
    one_error(
        capsys,
        evaluate(*given, *tuned, "--strict"),
        r"e\.npz: no vector for 1 image, first: \S+/test/7b/5\.png \(strict\)",
    )
    assert evaluate(*given, *tuned) == 0
    assert report_of(tmp_path / "out")["failures"]["num_failed_images"] == 1


def test_a_tuned_threshold_is_saved_only_when_asked(tiny_faces, model, tmp_path, capsys):
    copy = tmp_path / "best_model.pth"
    shutil.copy(model, copy)
    given = ["--model", copy, "--data_dir", tiny_faces, "--output_dir", tmp_path, "--num_replicates", "0"]
    tuned = [*given, "--optimize_threshold", "--threshold_metric", "accuracy"]
    assert evaluate(*tuned) == 0
    assert copy.read_bytes() == model.read_bytes()
    assert evaluate(*tuned, "--save") == 0
    chosen = report_of(tmp_path)
    assert "stored in" in capsys.readouterr().out
    assert evaluate(*given) == 0
    again = report_of(tmp_path)
    assert again["threshold"] == chosen["threshold"]
    assert again["threshold_source"] == chosen["threshold_source"]
    assert again["calibration"] == chosen["calibration"]
    before, after = (torch.load(path, weights_only=True) for path in (model, copy))
    assert after["threshold"]["origin"]["criterion"] == "accuracy"
    assert after["threshold"]["origin"]["data"] == chosen["tuning"]["data"]
    assert all(torch.equal(after["weights"][key], tensor) for key, tensor in before["weights"].items())


def test_a_validation_set_that_shares_a_family_is_refused(tiny_faces, model, tmp_path, capsys):
    for split, person in (("t", "6a"), ("t", "7a"), ("v", "6b"), ("v", "5a")):
        shutil.copytree(next(tiny_faces.rglob(person)), tmp_path / split / person)
    given = [
        "--model",
        model,
        "--test_data",
        tmp_path / "t",
        "--val_data",
        tmp_path / "v",
        "--optimize_threshold",
    ]
    pairs = ["--twin_pairs", tiny_faces / "twin_pairs_infor.json"]
    code = evaluate(*given, *pairs, "--output_dir", tmp_path / "out")
    one_error(capsys, code, r"share families 6a \(different twins of each\)")
    assert not (tmp_path / "out").exists()


def test_sampled_pairs_folds_and_features(tiny_faces, model, tmp_path, capsys):
    given = ["--model", model, "--test_data", tiny_faces, "--output_dir", tmp_path, "--num_replicates", "0"]
    assert evaluate(*given, "--max_unrelated", "50", "--compare_features", "--benchmark_speed") == 0
    report, printed = report_of(tmp_path), capsys.readouterr().out
    assert report["unrelated"]["num_impostors"] == 50
    assert report["protocol"]["name"] == "sampled"
    assert list(report["features"]) == ["sa", "glca", "combined"]
    assert report["features"]["combined"]["twin"]["eer"] == report["twin"]["eer"]
    assert report["speed"]["images_per_second"] > 0
    assert re.search(r"speed on cpu: [\d.]+ images/s in batches of 32, [\d.]+ ms a pair", printed)
    assert re.search(r"^ *glca +unrelated", printed, re.MULTILINE)
    assert (
        evaluate(
            "--embeddings",
            tmp_path / "embeddings.npz",
            "--output_dir",
            tmp_path / "again",
            "--num_replicates",
            "0",
        )
        == 0
    )
    assert (
        report_of(tmp_path / "again")["unrelated"] == report["unrelated"]
    )  # the sample travels with the file
    capsys.readouterr()
    one_error(
        capsys,
        evaluate(*given, "--folds", "2"),
        r"2 folds of 2 families: use 2 folds or more, and no more than 1",
    )


def test_examples_are_written(tiny_faces, model, tmp_path, capsys):
    given = ["--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path, "--num_replicates", "0"]
    assert evaluate(*given, "--save_examples", "--num_examples", "2", "--threshold", "0") == 0
    written = list((tmp_path / "examples").iterdir())
    assert f"examples: {len(written)} pairs" in capsys.readouterr().out
    assert 2 <= len(written) <= 4


def test_runs_are_compared(tiny_faces, evaluated, model, tmp_path, capsys):
    other = tmp_path / "other"
    assert (
        evaluate("--model", model, "--data_dir", tiny_faces, "--feature_type", "sa", "--output_dir", other)
        == 0
    )
    capsys.readouterr()
    given = ["--num_replicates", "100", "--output_dir", tmp_path / "cmp"]
    assert evaluate("--compare", evaluated, other, evaluated / "scores.csv", *given) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"comparison: {tmp_path / 'cmp' / 'comparison.md'}"
    told = json.loads((tmp_path / "cmp" / "comparison.json").read_text())
    assert [run["name"] for run in told["runs"]] == [
        str(evaluated),
        str(other),
        str(evaluated / "scores.csv"),
    ]
    assert evaluate("--compare", evaluated, model, "--data_dir", tiny_faces, *given) == 0
    capsys.readouterr()
    one_error(capsys, evaluate("--compare", evaluated, *given), "--compare needs two runs or more")
    one_error(
        capsys, evaluate("--compare", evaluated, tmp_path / "none", *given), "neither a file nor a folder"
    )


def test_an_old_config_option_changes_nothing_and_says_so(tiny_faces, model, tmp_path, capsys):
    given = ["--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path, "--num_replicates", "0"]
    assert evaluate(*given, "--config", model.parent / "config.json") == 0
    assert re.search(r"--config \S+config\.json agrees and is not used", capsys.readouterr().err)
    assert evaluate(*given, "--config", "kaggle") == 0
    assert re.search(r"--config kaggle differs in .*backbone.* and is not used", capsys.readouterr().err)
    one_error(capsys, evaluate(*given, "--config", "kagle"), "did you mean 'kaggle'")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], r"give one of --model, --embeddings, --scores and --compare; given: none"),
        (["--model", "m.pth", "--scores", "s.csv"], r"given: --model and --scores"),
        (["--scores", "s.csv"], r"s\.csv: no such file of scores"),
        (["--embeddings", "e.npz"], r"e\.npz: no such file of embeddings"),
        (["--scores", "s.csv", "--analyze_attention"], r"--explain needs --model"),
        (
            ["--model", "m.pth", "--data_dir", "d", "--explain", "--feature_type", "sa"],
            r"needs --feature_type",
        ),
        (
            ["--model", "m.pth", "--data_dir", "d", "--explain_pairs", "1"],
            r"--explain_pairs must be at least 2",
        ),
        (["--scores", "s.csv", "--save"], r"--save needs --model and --optimize_threshold"),
        (["--model", "m.pth", "--data_dir", "d", "--save"], r"--save needs --model and --optimize_threshold"),
        (["--scores", "s.csv", "--optimize_threshold"], r"needs --val_data"),
        (["--scores", "s.csv", "--optimize_threshold", "--data_dir", "d"], r"needs --val_data"),
        (["--scores", "s.csv", "--compare_features"], r"--compare_features needs --model"),
        (["--embeddings", "e.npz", "--benchmark_speed"], r"--benchmark_speed needs --model"),
        (["--scores", "s.csv", "--save_embeddings", "e.npz"], r"scores have no embeddings"),
        (["--scores", "s.csv", "--max_unrelated", "5"], r"a scores file has its own pairs"),
        (["--embeddings", "e.npz", "--max_unrelated", "0"], r"--max_unrelated must be at least 1"),
        (["--embeddings", "e.npz", "--folds", "1"], r"--folds must be at least 2"),
        (["--embeddings", "e.npz", "--num_replicates", "-1"], r"--num_replicates must be at least 0"),
        (["--embeddings", "e.npz", "--no_images", "--blur_images"], r"exclude each other"),
        (["--embeddings", "e.npz", "--no_images", "--save_examples"], r"exclude each other"),
        (["--embeddings", "e.npz", "--num_examples", "0"], r"--num_examples must be at least 1"),
        (["--scores", "s.txt"], r"s\.txt: no such file"),
        (
            ["--model", "m.pth", "--test_data", "d", "--dataset_info", "i.json"],
            r"--test_data d and --dataset_info i\.json are two data sets; give one",
        ),
        (["--scores", "s.csv", "--twin_pairs", "gone.json"], r"s\.csv: no such file of scores"),
        (
            ["--model", "m.pth", "--data_dir", "d", "--optimize_threshold", "--save", "--feature_type", "sa"],
            r"--save: the stored threshold is for --feature_type combined",
        ),
    ],
)
def test_options_that_do_not_go_together_are_one_line(tmp_path, capsys, monkeypatch, arguments, pattern):
    monkeypatch.chdir(tmp_path)
    one_error(capsys, evaluate(*arguments), pattern)
    assert list(tmp_path.iterdir()) == []


def test_scores_are_judged_without_loading_torch(tmp_path):
    """As a subprocess: the exit code, the last line, and nothing heavy for a list of scores."""
    rng = np.random.default_rng(0)
    rows = [f"a{n},b{n},{int(n < 40)},{rng.normal(n < 40)}" for n in range(100)]
    (tmp_path / "s.csv").write_text("\n".join(["img1,img2,label,score", *rows]))
    code = (
        "import sys\nfrom twin_dcal.cli.evaluate import main\n"
        f"code = main(['--scores', {str(tmp_path / 's.csv')!r}, '--output_dir', {str(tmp_path / 'out')!r}])\n"
        "assert 'torch' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"all AUC 0\.\d\d · report: \S+", done.stdout.splitlines()[-1])
    report = report_of(tmp_path / "out")
    assert report["intervals"] is None
    assert any(note.startswith("no intervals: ") and "famil" in note for note in report["notes"])


def test_visualize_writes_the_page(evaluated, tmp_path, capsys):
    given = ["--embeddings", evaluated / "embeddings.npz", "--num_replicates", "0", "--output_dir", tmp_path]
    assert evaluate(*given, "--visualize", "--no_images") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"report: {tmp_path / 'report.html'}")
    assert b"<html" in (tmp_path / "report.html").read_bytes()


def test_an_image_damaged_in_its_middle_does_not_end_an_evaluation(damaged_faces, model, tmp_path, capsys):
    given = [
        "--model",
        model,
        "--test_data",
        damaged_faces,
        "--output_dir",
        tmp_path / "out",
        "--num_replicates",
        "0",
    ]
    assert evaluate(*given) == 0
    told = f"1 image left out, cannot be read: {damaged_faces / 'test' / '6a' / '3.png'}"
    assert told in report_of(tmp_path / "out")["warnings"]
    capsys.readouterr()
    one_error(capsys, evaluate(*given, "--strict"), r"1 image left out, truncated or damaged: .*6a/3\.png")


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_tracker_without_a_run_to_go_below_is_refused_before_anything_is_computed(
    tracker, tiny_faces, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr("twin_dcal.training.trackers.shared.find_spec", lambda name: object())
    monkeypatch.setattr("twin_dcal.evaluation.run.run", lambda *given, **more: pytest.fail("went on"))
    monkeypatch.setattr("twin_dcal.evaluation.run.tune_on", lambda *given, **more: pytest.fail("went on"))
    model, asked = ["--model", tmp_path / "best_model.pth"], ["--tracking", tracker]
    output = ["--output_dir", tmp_path / "out"]
    code = evaluate(*model, "--data_dir", tiny_faces, *asked, *output)
    one_error(capsys, code, rf"has no {tracker}\.json; train with --tracking {tracker}")
    code = evaluate("--scores", tmp_path / "scores.csv", *asked, *output)
    one_error(capsys, code, f"--tracking {tracker}: an evaluation of --model is recorded; leave it out")
    code = evaluate(*model, "--optimize_threshold", "--val_data", tmp_path / "p.csv", *asked, *output)
    one_error(capsys, code, f"--tracking {tracker}: choosing a threshold evaluates nothing; leave it out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("twin_dcal.training.trackers.shared.find_spec", lambda name: None)
    code = evaluate(*model, "--data_dir", tiny_faces, *asked, *output)
    one_error(capsys, code, f"{tracker} is not installed")
