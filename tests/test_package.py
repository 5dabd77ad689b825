"""Promises of the package as a whole: a quiet import, and rooms that import one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import twin_dcal

SOURCE = Path(twin_dcal.__file__).parent

# From the bottom up; a room imports only rooms before it (or itself). `cli` may import everything.
ROOMS = ["_version", "percent", "errors", "workers", "names", "csvfile", "files", "locking", "archive",
         "pickled", "room", "privacy", "hub", "jsontext", "spelling", "presets", "config", "distributed", "edits",
         "data", "prepare", "synth", "edits.looking", "edits.landmarks", "data.virtual", "data.dataset",
         "data.datamodule", "edits.folder", "edits.truth", "edits.dataset", "edits.sheet", "models", "losses",
         "verification.result", "verification.fusion", "verification.tally", "verification.metrics",
         "edits.calibrate", "verification.scores", "verification.counting", "verification.bounds",
         "verification.resampling", "verification.replicates", "verification.intervals",
         "verification.calibration", "verification.stored", "verification.familiarity", "verification.provenance",
         "verification.entries", "verification.thresholds",
         "verification.table", "verification.figures", "verification.protocols", "verification.folds",
         "verification.reliability", "verification.zoo", "verification.people", "verification.joining",
         "verification.embedding_files", "verification.score_files", "verification.tables",
         "verification.evaluation", "checkpoint", "verification.embeddings", "training", "verification.whose",
         "verification.reading", "verification.speed", "verification.systems", "verification.examples",
         "verification.earlier", "verification.flow", "verification.comparing", "explain", "inference", "web",
         "export", "report", "lookalikes", "prepare.page", "prepare.sheet", "prepare.run", "extraction", "demo",
         "ablation", "cli"]  # fmt: skip


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)


def test_import_is_quiet():
    done = run(
        "import sys, random, logging, warnings, socket\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "before = random.getstate(), list(warnings.filters), list(logging.root.handlers), logging.root.level\n"
        "import twin_dcal\n"
        "after = random.getstate(), list(warnings.filters), list(logging.root.handlers), logging.root.level\n"
        "assert before == after\n"
        "heavy = {'torch', 'numpy', 'timm', 'PIL', 'pydantic', 'tensorboard'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert 'twin_dcal' not in logging.root.manager.loggerDict"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_public_names_resolve_and_touch_no_rng():
    done = run(
        "import torch, numpy, random\n"
        "before = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate()\n"
        "import twin_dcal\n"
        "for name in twin_dcal.__all__: assert getattr(twin_dcal, name) is not None\n"
        "assert before == (torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate())"
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        twin_dcal.Nothing  # noqa: B018


def room_of(module):
    fits = [index for index, room in enumerate(ROOMS) if module == room or module.startswith(f"{room}.")]
    assert fits, f"module {module} is in no room; add it to ROOMS and docs/architecture.md"
    return max(fits)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    if not module or module == "verification":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("twin_dcal")):
            base = module.split(".")[: -node.level] if node.level else []
            target = ".".join([*base, (node.module or "").removeprefix("twin_dcal").lstrip(".")]).strip(".")
            if target in ("", "verification"):  # a package, of which modules are imported
                targets = [f"{target}.{alias.name}".strip(".") for alias in node.names]
            else:
                targets = [target]
            for target in targets:
                assert room_of(target) <= room_of(module), f"{module} imports {target}"
