"""A wrong option: every command suggests what can be typed there, and nothing else."""

import importlib
import re

import pytest

from twin_dcal.cli import (
    ablate,
    evaluate_options,
    export,
    extract,
    lookalikes,
    prepare,
    search,
    synth,
    train,
    verify,
)
from twin_dcal.config import dotted_keys
from twin_dcal.errors import ConfigError
from twin_dcal.prepare.settings import setting_keys

COMMANDS = (ablate, evaluate_options, export, extract, lookalikes, prepare, search, synth, train, verify)
KEYS = {ablate: dotted_keys, train: dotted_keys, prepare: setting_keys}
TRIED = sorted(
    {key.rpartition(".")[2] for key in dotted_keys()} | {"output_dir", "lr", "gpu", "epochs", "photo"}
)


def refusal(command, *arguments):
    required = {"--embeddings": "x.npz", "--model": "x.pth", "--output": "x"}
    parser = command.parser()
    needed = [action for action in parser._actions if action.required]
    given = [text for action in needed for text in (*action.option_strings[:1],
             required.get((action.option_strings or [""])[0], "x"))]  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        parser.parse([*given, *arguments])
    return str(caught.value)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2])
def test_only_its_own_options_and_keys_are_suggested(command):
    own = {name for action in command.parser()._actions for name in action.option_strings}
    keys = set(KEYS[command]()) if command in KEYS else set()
    suggested = 0
    for name in TRIED:
        wrong = f"--{name}x"
        for argument in (wrong, f"--training.{name}x") if command not in KEYS else (wrong,):
            for found in re.findall("did you mean '(.*)'", refusal(command, argument, "1")):
                assert found in own | keys, argument
                suggested += 1
    assert suggested > 3


@pytest.mark.parametrize(
    ("command", "argument", "meant"),
    [
        (lookalikes, "--output_dir", "--output"), (extract, "--ouput", "--output"), (verify, "--imag1", "--img1"),
        (extract, "--training.batch_size", "--batch_size"), (verify, "--gpu", "--device"),
        (evaluate_options, "--data-dri", "--data_dir"), (train, "--batch-size", "training.batch_size"),
        (prepare, "--jpeg_quality", "crops.jpeg_quality"), (train, "--lr", "training.learning_rate"),
    ],
)  # fmt: skip
def test_the_nearest_is_suggested(command, argument, meant):
    assert f"did you mean '{meant}'?" in refusal(command, argument, "1")


@pytest.mark.parametrize("command", [extract, verify, evaluate_options, export, lookalikes, synth])
def test_a_command_without_keys_says_so(command):
    prog = command.parser().prog
    told = refusal(command, "--model.dropout", "1")
    assert told.startswith(f"{prog} has no option --model.dropout")
    assert told.endswith(f"see {prog} --help")


@pytest.mark.parametrize(
    ("command", "given", "named"),
    [
        ("search", ["--model", "m", "--gallery", "g", "--photo", "a.png", "--person", ""], "--person"),
        ("search", ["--model", "m", "--gallery", "g", "--photo", "a.png", "--remove="], "--remove"),
        ("verify", ["--model", "m", "--web", "--token", ""], "--token"),
        ("verify", ["--model", "m", "--img1", "a.png", "", "--img2", "b.png"], "--img1"),
        ("evaluate", ["--model", "m", "--test_data", "d", "--output_dir", ""], "--output_dir"),
        ("prepare", ["", "--output", "o"], "PHOTOS"),
    ],
)
def test_an_empty_value_is_not_an_option_left_out(command, given, named, capsys):
    module = importlib.import_module(f"twin_dcal.cli.{command}")
    assert module.main(given) == 2
    assert capsys.readouterr().err == f"error: {named}: an empty value; give one, or leave the option out\n"


@pytest.mark.parametrize(
    ("command", "given", "named"),
    [
        ("prepare", ["p", "--output", "o", "--model", "m", "--min_cosine", "nan"], "--min_cosine"),
        ("prepare", ["p", "--output", "o", "--split", "0.8", "0.2", "nan"], "--split"),
        (
            "verify",
            ["--model", "m", "--img1", "a.png", "--img2", "b.png", "--threshold", "NaN"],
            "--threshold",
        ),
        ("synth", ["--output", "o", "--strength", "nan", "--from_faces", "f"], "--strength"),
    ],
)
def test_nan_is_no_number(command, given, named, capsys):
    module = importlib.import_module(f"twin_dcal.cli.{command}")
    assert module.main(given) == 2
    assert capsys.readouterr().err == f"error: {named} nan: not a number; give one, or leave the option out\n"


def test_a_cosine_and_a_file_of_prepare_are_checked_before_the_work(tmp_path, capsys):
    prepare = importlib.import_module("twin_dcal.cli.prepare")
    sheet = [str(tmp_path), "--output", str(tmp_path / "o"), "--contact_sheet", str(tmp_path)]
    assert prepare.main(sheet) == 2
    assert capsys.readouterr().err == f"error: --contact_sheet {tmp_path}: a folder; name a file\n"
    assert not (tmp_path / "o").exists()
