"""The chain of `make quickstart`, shortened: generate, train, evaluate, report."""

import json

import pytest

from twin_dcal.cli import evaluate, synth, train


@pytest.mark.slow
def test_the_quickstart_chain_runs_and_learns_who_is_who(tmp_path, capsys):
    data, home = str(tmp_path / "data"), tmp_path / "evaluation"
    drawn = [
        "--families",
        "40",
        "--images",
        "8",
        "--image_size",
        "64",
        "--difficulty",
        "easy",
        "--workers",
        "1",
    ]
    assert synth.main(["--output", data, *drawn]) == 0
    run = ["--output_dir", str(tmp_path / "run"), "--runtime.num_workers", "0", "--training.num_epochs", "25"]
    run += ["--training.batch_size", "32"]
    assert train.main(["--config", "quickstart", "--data_dir", data, *run]) == 0
    given = ["--model", str(tmp_path / "run" / "best_model.pth"), "--data_dir", data, "--num_workers", "0"]
    assert evaluate.main([*given, "--output_dir", str(home), "--visualize"]) == 0
    report = json.loads((home / "evaluation_report.json").read_text())
    assert report["unrelated"]["roc_auc"] > 0.7
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("twin AUC ")
    assert last.endswith(str(home / "report.html"))
    assert (home / "report.html").stat().st_size > 100_000
