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
    ("told", "number"), [("1", 1), ("", 0), ("abc", 0), ("-3", 0), ("2.5", 0), ("²", 0), ("1,2", 0)]
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


def test_other_errors_beside_a_variable_stay_internal(tmp_path, monkeypatch, capsys):
    (tmp_path / "some_library.py").write_text('import os\nSECONDS = os.environ["SOME_TIMEOUT"]\nint("x")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOME_TIMEOUT", "abc")
    monkeypatch.delitem(sys.modules, "some_library", raising=False)
    assert common.run(lambda _: importlib.import_module("some_library").SECONDS) == 70
    assert "internal error" in capsys.readouterr().err
