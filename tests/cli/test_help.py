"""What --help says, `dcal` as one entry, and what a shell completes."""

import importlib
import shlex
import subprocess

import pytest

import twin_dcal
from twin_dcal.cli import completion, dcal, start, train
from twin_dcal.config import resolve_config

COMMANDS = [name for name in dcal.COMMANDS if name != "completion"]
SHARED_OUT = {"train", "evaluate", "extract"}  # what several processes can do together


def parser_of(command):
    return importlib.import_module(f"twin_dcal.cli.{command}").parser()


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_in_groups_with_one_spelling_and_defaults_that_say_something(command):
    parser = parser_of(command)
    told = parser.format_help()
    plain, *groups = [group for group in parser._action_groups if group._group_actions]
    assert {action.dest for action in plain._group_actions} <= {"help", "version", "photos"}
    assert len(groups) >= 2
    assert all(f"\n{group.title}:\n" in told for group in groups)
    assert "None" not in told
    assert "False" not in told
    written = [action.option_strings for action in parser._actions if action.help != "==SUPPRESS=="]
    dashed = {name for names in written for name in names if "-" in name.lstrip("-")}
    assert all(name in parser._option_string_actions for name in dashed)
    assert not [name for name in dashed if name in told]
    assert ("--master_port" in told) == (command in SHARED_OUT)


def test_a_default_of_zero_is_told():
    assert "--seed N" in parser_of("synth").format_help()
    assert "the same seed makes the same pixels (default: 0)" in " ".join(
        parser_of("synth").format_help().split()
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_are_two_and_can_be_typed(command):
    examples = parser_of(command).examples
    assert len(examples) == 2
    assert all(f"  {line}" in parser_of(command).format_help() for line in examples)
    for line in examples:
        name, *arguments = shlex.split(line)
        assert name == f"dcal-{command}"
        options, dotted = parser_of(command).parse(arguments)
        if command == "train":
            assert resolve_config(options.config, dotted)


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_names_what_must_be_given(command, capsys):
    usage = parser_of(command).format_usage()
    assert usage.startswith(f"usage: dcal-{command} ")
    for action in parser_of(command)._actions:
        if action.option_strings and not action.required:
            assert f"[{action.option_strings[0]}" not in usage
        elif action.required:
            assert (action.option_strings or [action.metavar])[0] in usage


def test_dcal_lists_its_commands(capsys):
    assert dcal.main([]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in dcal.COMMANDS)
    assert dcal.main(["--help"]) == 0
    assert capsys.readouterr().out == told


def test_dcal_runs_a_command_by_its_name(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(train, "main", lambda arguments: seen.append(arguments) or 7)
    assert dcal.main(["train", "--data_dir", "FACES"]) == 7
    assert seen == [["--data_dir", "FACES"]]


def test_a_command_is_told_as_it_was_called(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["/bin/dcal", "train", "--version"])
    with pytest.raises(SystemExit) as end:
        dcal.main()
    assert end.value.code == 0
    assert capsys.readouterr().out == f"dcal train {twin_dcal.__version__}\n"


def test_an_unknown_command_is_the_users_mistake(capsys):
    assert dcal.main(["trian"]) == 2
    assert (
        capsys.readouterr().err
        == "error: dcal has no command 'trian'; did you mean 'train'?; see dcal --help\n"
    )


def test_a_command_that_cannot_be_imported_decides_nothing(monkeypatch, capsys):
    monkeypatch.setattr(importlib, "import_module", lambda name: 1 / 0)
    assert start.run_command("verify", []) == 70
    assert dcal.main(["verify"]) == 70
    assert "internal error" in capsys.readouterr().err


def test_a_shell_completes_commands_options_and_files(capsys):
    pytest.importorskip("shtab")
    assert completion.main(["bash"]) == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert all(name in script for name in ("evaluate", "--threshold_metric", "--data_dir"))
    assert "_shtab_dcal_train___data_dir_COMPGEN=_shtab_compgen_dirs" in script


def test_without_shtab_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert completion.main(["bash"]) == 2
    assert "twin-dcal[completion]" in capsys.readouterr().err
