"""Variables that a user may have set wrongly: they are harmless, or one line says what is wrong."""

import importlib
import os
import subprocess
import sys

import pytest

from twin_dcal.cli import common
from twin_dcal.environment import ignore_wrong_backend, num_threads
from twin_dcal.errors import ConfigError
from twin_dcal.training.trackers.stores import find_store

DRAWING = ("report.plots", "explain.figure", "verify.picture", "extraction.plots", "training.curves")


@pytest.mark.parametrize("name", ["agg", "Agg", "TkAgg", "svg", "module://matplotlib_inline.backend_inline"])
def test_a_backend_that_there_is_stays(name, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", name)
    ignore_wrong_backend()
    assert os.environ["MPLBACKEND"] == name


@pytest.mark.parametrize("name", ["nonsense", "../agg", "a/b", "\udcff", "backend_agg"])
def test_a_backend_that_there_is_not_is_taken_away(name, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", name)
    ignore_wrong_backend()
    assert "MPLBACKEND" not in os.environ


def test_whatever_draws_can_be_imported_with_a_wrong_backend():
    modules = [f"twin_dcal.{name}" for name in DRAWING]
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    # Each package alone would do; together they cost one import of torch.
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", sorted({name.partition(".")[0] for name in DRAWING}))
def test_every_package_that_draws_takes_a_wrong_backend_away(package, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    importlib.reload(importlib.import_module(f"twin_dcal.{package}"))
    assert "MPLBACKEND" not in os.environ


def test_every_command_takes_a_wrong_backend_away(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    assert common.run(lambda _: int("MPLBACKEND" in os.environ)) == 0


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("1", 1),
        ("", 0),
        ("9" * 5000, os.cpu_count()),
        ("abc", 0),
        ("-3", 0),
        ("2.5", 0),
        ("²", 0),
        ("1,2", 0),
    ],
)
def test_threads_are_a_number_or_the_runtimes_own_choice(told, number, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert num_threads() == number


@pytest.mark.parametrize("uri", ["http://[", "https://a:b@[::1", "nonsense", "postgresql://["])
def test_a_place_for_runs_that_is_no_address_is_one_line(uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for given in (None, uri):
        with pytest.raises(ConfigError) as told:
            find_store(given, tmp_path)
        assert "\n" not in str(told.value)
        assert "a:b" not in str(told.value)


LIBRARIES = {
    "at import": 'import os\nSECONDS = int(os.environ.get("SOME_TIMEOUT", "10"))\n',
    "by a function": 'import os\nread = lambda text: int(text)\nSECONDS: int = read(os.environ["SOME_TIMEOUT"])\n',
    "getenv": "import os\nSECONDS = float(os.getenv('SOME_TIMEOUT'))\n",
}


@pytest.mark.parametrize("code", LIBRARIES.values(), ids=LIBRARIES)
def test_a_variable_that_a_library_cannot_read_is_one_line(code, tmp_path, monkeypatch, capsys):
    (tmp_path / "some_library.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOME_TIMEOUT", "abc")
    monkeypatch.delitem(sys.modules, "some_library", raising=False)
    assert common.run(lambda _: importlib.import_module("some_library").SECONDS) == 2
    assert capsys.readouterr().err == (
        "error: the environment has SOME_TIMEOUT='abc', which a library cannot read; correct or unset it\n"
    )


ELSEWHERE = {
    "its own, by value": ("SOME_LIBRARY_ROWS", 'import os\nfor name, value in os.environ.items():\n'
                          '    if name.startswith("SOME_LIBRARY_"):\n        float(value)\n'),
    "by name": ("TORCH_SOMETHING", 'raise ValueError("the value of TORCH_SOMETHING must be OFF or INFO")\n'),
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_variable_that_a_library_reads_elsewhere_is_one_line(name, code, tmp_path, monkeypatch, capsys):
    place = tmp_path / "site-packages" / "some_library"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(place.parent)
    monkeypatch.setenv(name, "abc")
    monkeypatch.delitem(sys.modules, "some_library", raising=False)
    assert common.run(lambda _: importlib.import_module("some_library") and None) == 2
    assert capsys.readouterr().err == (
        f"error: the environment has {name}='abc', which a library cannot read; correct or unset it\n"
    )


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_settings_that_would_abort_torch_are_one_line(name, monkeypatch, capsys):
    monkeypatch.setenv(name, "garbage")
    assert common.run(lambda _: None) == 2
    assert capsys.readouterr().err == (
        f"error: the environment has {name}='garbage', which torch cannot read; unset it\n"
    )
    for right in ("", "expandable_segments:True", "roundup_power2_divisions:[256:1,>:8],backend:native"):
        monkeypatch.setenv(name, right)
        assert common.run(lambda _: None) == 0


def test_a_current_folder_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert common.run(lambda _: None) == 2
    assert capsys.readouterr().err == "error: the current folder is gone; go to one that exists\n"


@pytest.mark.parametrize("told", ["abc", "-1", "9" * 20])
def test_a_wrong_time_for_files_is_ignored(told, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", told)
    assert common.run(lambda _: int("SOURCE_DATE_EPOCH" in os.environ)) == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert common.run(lambda _: int(os.environ["SOURCE_DATE_EPOCH"] != "1700000000")) == 0


CLOSED = """
import os, sys
os.close(2)
sys.stderr = None
from twin_dcal.cli import common
from twin_dcal.progress import ProgressBar

def body(_):
    with open("first", "w") as file, ProgressBar(2, "going", "steps", after_s=0) as bar:
        assert file.fileno() > 2
        bar.update()
        print("said", file=sys.stderr)
    raise OSError("something")

print(common.run(body))
"""


def test_closed_streams_take_no_file_and_get_no_words(tmp_path):
    done = subprocess.run([sys.executable, "-c", CLOSED], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert (tmp_path / "first").read_text() == ""


def test_other_errors_beside_a_variable_stay_internal(tmp_path, monkeypatch, capsys):
    (tmp_path / "some_library.py").write_text('import os\nSECONDS = os.environ["SOME_TIMEOUT"]\nint("x")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOME_TIMEOUT", "abc")
    monkeypatch.delitem(sys.modules, "some_library", raising=False)
    assert common.run(lambda _: importlib.import_module("some_library").SECONDS) == 70
    assert "internal error" in capsys.readouterr().err
