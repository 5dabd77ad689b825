"""Promises of the package as a whole: a quiet import, and rooms that import one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import twin_dcal

SOURCE = Path(twin_dcal.__file__).parent

# From the bottom up; a room imports only rooms before it (or itself). `cli` may import everything.
ROOMS = ["_version", "percent", "plural", "names", "errors", "metrics", "progress", "notebook", "workers",
         "environment", "csvfile", "files", "locking", "model_file.archive", "model_file.onnx_bytes",
         "model_file.pickled", "model_file.room", "privacy", "hub", "jsontext", "spelling", "presets", "config_text",
         "image_size", "config_sections", "config", "distributed", "device", "edits", "data", "prepare", "synth",
         "edits.looking", "edits.landmarks",
         "data.virtual", "data.dataset", "data.datamodule", "edits.folder", "edits.truth", "edits.dataset",
         "edits.sheet", "models", "losses", "edits.calibrate", "evaluation.result",
         "evaluation.identification", "evaluation.achieved", "model_file.familiarity",
         "model_file.provenance", "model_file.entries", "evaluation.headline", "evaluation.behind",
         "evaluation.table", "evaluation.report_schema",
         "evaluation.failures", "evaluation.protocol", "evaluation.folds", "evaluation.reliability",
         "evaluation.error_analysis",
         "evaluation.match_names", "evaluation.sampling", "evaluation.metadata",
         "evaluation.breakdown", "evaluation.embedding_files", "evaluation.score_columns",
         "evaluation.score_files", "evaluation.tables",
         "evaluation.watched", "evaluation.evaluate", "checkpoint", "embed", "training", "evaluation.identities",
         "evaluation.inputs", "evaluation.speed", "evaluation.systems", "evaluation.templates", "evaluation.examples",
         "evaluation.earlier",
         "evaluation.run", "evaluation.comparison_table", "evaluation.compare", "evaluation.fuse",
         "evaluation.disagreement", "explain", "inference", "web", "export", "report", "lookalikes",
         "prepare.page", "prepare.sheet", "prepare.run", "extraction", "verify", "ablation", "cli"]  # fmt: skip


PACKAGES = {"evaluation", "model_file"}
"""Packages whose modules are rooms of their own."""


def test_the_page_of_places_names_files_that_exist():
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = page.partition("## Where do I change X?")[2].partition("\n## ")[0]
    named = re.findall(r"`([\w/]+\.py)`", places)
    assert len(named) > 30
    assert [name for name in named if not (SOURCE / name).exists()] == []


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
        "heavy = {'torch', 'numpy', 'timm', 'PIL', 'pydantic', 'tensorboard', 'faiss'} & sys.modules.keys()\n"
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
    if not module or module in PACKAGES:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("twin_dcal")):
            base = module.split(".")[: -node.level] if node.level else []
            target = ".".join([*base, (node.module or "").removeprefix("twin_dcal").lstrip(".")]).strip(".")
            if target in PACKAGES | {""}:  # a package, of which modules are imported
                targets = [f"{target}.{alias.name}".strip(".") for alias in node.names]
            else:
                targets = [target]
            for target in targets:
                assert room_of(target) <= room_of(module), f"{module} imports {target}"


def test_progress_is_shown_in_one_way():
    """A bar on a terminal and lines without one: only `progress` knows the library of bars."""
    using = [path.name for path in SOURCE.rglob("*.py") if re.search(r"(import|from) tqdm", path.read_text())]
    assert using == ["progress.py"]


def test_no_module_is_longer_than_can_be_read():
    lines = {str(path.relative_to(SOURCE)): path.read_text().count("\n") for path in SOURCE.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > 400} == {}
