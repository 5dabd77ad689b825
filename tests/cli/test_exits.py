"""Exit codes: an internal error, Ctrl-C or unwritten output never looks like an answer, in any command."""

import importlib
import logging
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tiny import tiny_model

from twin_dcal.cli import common, exits, verify
from twin_dcal.errors import ModelError
from twin_dcal.inference.deciding import Deciding
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.verify import wording

ROOT = Path(__file__).resolve().parents[2]
STARTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
MODULES = sorted(
    path.stem for path in (ROOT / "src/twin_dcal/cli").glob("*.py") if "def body(" in path.read_text()
)
STARTED = [name for name in MODULES if name != "completion"]  # that is `dcal completion` alone

FAULTS = {
    "overflow": (OverflowError("int too large to convert to float"), 70),
    "assertion": (AssertionError(), 70),
    "no memory": (MemoryError(), 70),
    "recursion": (RecursionError(), 70),
    "missing module": (ModuleNotFoundError("No module named 'x'", name="x"), 70),
    "undecodable": (UnicodeEncodeError("utf-8", "\udcfc", 0, 1, "surrogates not allowed"), 70),
    "a library that exits with 0": (SystemExit(0), 70),
    "a library that exits with 1": (SystemExit(1), 70),
    "a library that exits with text": (SystemExit("text"), 70),
    "Ctrl-C": (KeyboardInterrupt(), 130),
    "a mistake": (ModelError("m.pth: no such file"), 2),
    "no address space": (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 2),
    "no shared memory": (
        RuntimeError("unable to resize file </torch_1> to the right size: File too large (27)"),
        2,
    ),
    "no threads": (RuntimeError("can't start new thread"), 2),
    "a limit on files": (OSError(27, "File too large"), 2),
    "another error of a library": (RuntimeError("shapes differ"), 70),
    "a full disk": (OSError(28, "No space left on device"), 2),
    "a reader that went away": (BrokenPipeError(), 141),
}


def fails(error):
    def fail(*_, **__):
        raise error

    return fail


def test_every_command_starts_where_exit_codes_hold():
    assert {name: f"twin_dcal.cli.start:{name.removeprefix('dcal-')}" for name in STARTS} == STARTS
    assert sorted(name.removeprefix("dcal-") for name in STARTS) == sorted([*STARTED, "demo"])
    start = importlib.import_module("twin_dcal.cli.start")
    for name in STARTED:
        assert getattr(start, name).__name__ == name
    assert start.demo is start.verify, "one command of two names"
    for script in (ROOT / "scripts").glob("*.py"):
        assert "from twin_dcal.cli.start import" in script.read_text()


@pytest.mark.parametrize("command", MODULES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_own_code_and_prints_no_result(command, fault, monkeypatch, capsys):
    module = importlib.import_module(f"twin_dcal.cli.{command}")
    error, code = FAULTS[fault]
    monkeypatch.setattr(module, "body", fails(error))
    assert module.main([]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert ("Traceback" in told.err) == ("internal error: " in told.err) == (code == 70)
    if code == 2:
        assert re.fullmatch(r"error: .*\n", told.err)
    if code == 130:
        assert told.err == "interrupted\n"


@pytest.mark.parametrize("command", sorted({*MODULES} - {"dcal"}))
def test_help_and_wrong_options_end_as_ever(command, capsys):
    module = importlib.import_module(f"twin_dcal.cli.{command}")
    for arguments, code in ((["--help"], 0), (["--seed", "x", "--threshold", "x", "--top", "x", "--opset", "x",
                                               "--seeds", "x", "--batch_size", "x"], 2)):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            module.main(arguments)
        assert end.value.code == code
    capsys.readouterr()


@pytest.mark.parametrize("command", STARTED)
def test_a_command_that_cannot_be_imported_is_an_internal_error(command, monkeypatch, capsys):
    start = importlib.import_module("twin_dcal.cli.start")
    monkeypatch.setitem(sys.modules, f"twin_dcal.cli.{command}", None)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert getattr(start, command)() == 70
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out == ""


# Decisions


@pytest.fixture(scope="module")
def decided(tmp_path_factory, tiny_faces):
    """Arguments of a decision, and what it prints."""
    path = tiny_model(tmp_path_factory.mktemp("exits"), threshold=Threshold(0.5, {}))
    photo = str(next(tiny_faces.glob("test/*/*.png")))
    return ["--model", str(path), "--img1", photo, "--img2", photo, "--align", "never"]


@pytest.mark.parametrize("given", [[], ["--json"], ["--show_attention"]], ids=str)
@pytest.mark.parametrize(
    ("place", "name"),
    [
        (TwinInferenceEngine, "__init__"), (TwinInferenceEngine, "prepare_image"), (Deciding, "decide"),
        (TwinInferenceEngine, "decide"), (verify, "_check"), (verify, "_pair"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_no_decision_is_printed_where_something_failed(
    decided, given, place, name, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, name, fails(OverflowError()))
    assert verify.main([*decided, *given]) == 70
    told = capsys.readouterr()
    assert told.out == ""
    assert "not a result" in told.err


@pytest.mark.parametrize(
    ("given", "place", "name"), [([], wording, "_source"), (["--json"], verify.json, "dumps")]
)
def test_no_decision_is_printed_where_its_words_fail(
    decided, given, place, name, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, name, fails(KeyError("fmr")))
    assert verify.main([*decided, *given]) == 70
    assert capsys.readouterr().out == ""


class Unwritable:
    """Standard output on a full disk, or of which the reader went away."""

    closed = False

    def __init__(self, error):
        self.error = error

    def write(self, text):
        return len(text)

    def flush(self):
        raise self.error

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device"), 2), (BrokenPipeError(), 141)]
)
def test_a_decision_that_cannot_be_written_is_none(decided, error, code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", Unwritable(error))
    assert verify.main(decided) == code
    assert sys.stdout.closed, "Python would try again as it ends, and exit with 120"


FULL = (
    "error: standard output: cannot be written, the disk is full (No space left on device). "
    "Make room there and start again."
)


class Full(Unwritable):
    """A full disk behind standard output without a buffer."""

    encoding = "utf-8"

    def __init__(self):
        super().__init__(OSError(28, "No space left on device"))

    def write(self, text):
        raise self.error

    def flush(self):
        pass


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_full_standard_output_is_named(decided, arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", Full())
    assert verify.main([*decided, *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == FULL


@pytest.mark.parametrize("command", MODULES)
@pytest.mark.parametrize("asked", ["--help", "--version"])
def test_help_that_cannot_be_written_ends_with_2(command, asked, monkeypatch, capsys):
    module = importlib.import_module(f"twin_dcal.cli.{command}")
    monkeypatch.setattr(sys, "stdout", Full())
    assert module.main([asked]) == 2
    assert capsys.readouterr().err.splitlines() == [FULL]


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_what_is_told_is_obeyed_by_no_terminal(capsys):
    """Names of files and texts in them come from others: an error is one line, whatever is in it."""

    def fails():
        print("a\x1b[2Jb\tc\nd")
        raise ModelError("x\n\x1b[31merror: forged\u202e")

    assert exits.ended(fails) == exits.MISTAKE
    told = capsys.readouterr()
    assert told.out == "a\\x1b[2Jb\tc\nd\n"
    assert told.err == "error: x\\n\\x1b[31merror: forged\\u202e\n"


def test_what_is_logged_is_obeyed_by_no_terminal():
    form = common._Printable("%(message)s").format
    record = logging.makeLogRecord(
        {"name": "twin_dcal.x", "msg": "left out:\n%s %d", "args": ("a\n\x1bb", 3)}
    )
    assert form(record) == "left out:\na\\n\\x1bb 3"
    others = logging.makeLogRecord({"name": "library", "msg": "%s", "args": ("a\n\x1bb",)})
    assert form(others) == "a\n\\x1bb"


def test_a_full_standard_output_of_a_process():
    """Python itself would end with 120 where something is left in its buffer."""
    command = [sys.executable, str(ROOT / "scripts/demo.py"), "--help"]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, FULL + "\n")


# Ctrl-C


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "turned_into", [ImportError("numpy"), SystemError(), ModelError("m.onnx: damaged"), None]
)
def test_an_interrupt_that_a_library_turns_into_something_else(turned_into, capsys):
    def body():
        try:
            interrupt()
        except KeyboardInterrupt:
            if turned_into is not None:
                raise turned_into from None
        return 0

    before = signal.getsignal(signal.SIGINT)
    assert exits.ended(body) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert "Traceback" not in capsys.readouterr().err


def test_handlers_of_others_stay():
    def ignored(number, frame):
        pass

    before = signal.signal(signal.SIGINT, ignored)
    try:
        assert exits.ended(lambda: interrupt() or 3) == 3
    finally:
        signal.signal(signal.SIGINT, before)


INTERRUPTED_IMPORT = """
import os, signal, sys
wanted = sys.argv[1]
class Loader:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Loader())
from twin_dcal.cli.start import verify
sys.argv = ["dcal-verify", "--model", "x.pth", "--img1", "a.png", "--img2", "b.png"]
sys.exit(verify())
"""


@pytest.mark.parametrize("module", ["twin_dcal.cli.verify", "pydantic", "torch"])
def test_an_interrupt_while_something_is_imported(module, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"")
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_broken_installation_is_an_internal_error():
    """As a process: a package that is there and broken, before the command itself is imported."""
    code = (
        "import sys; sys.modules['pydantic'] = None\nfrom twin_dcal.cli.start import train; sys.exit(train())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (70, "")
    assert "internal error: " in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as Linux has them")
@pytest.mark.parametrize("limit", ["AS", "DATA"])
def test_a_memory_limit_is_no_decision(limit):
    """OpenBLAS ends a process with 1 where it finds no memory while numpy is imported."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_{limit}, (100 << 20,) * 2)\n"
        "import sys; from twin_dcal.cli.start import verify; sys.exit(verify())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a limit of memory leaves no 384 MB to begin with (ulimit -v, ulimit -d)\n"


def test_output_nobody_reads(decided, tmp_path):
    """As a process: Python itself would end with 120, or with 0 and a decision that nobody saw."""
    command = [sys.executable, str(ROOT / "scripts/demo.py"), *decided]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (141, b"")


def test_the_documented_table_is_the_codes():
    text = (ROOT / "docs/commands.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {
        exits.DONE, exits.DIFFERENT, exits.MISTAKE, exits.INTERNAL, exits.INTERRUPTED, exits.UNREAD,
    }  # fmt: skip
