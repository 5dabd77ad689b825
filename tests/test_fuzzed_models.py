"""A sample of benchmarks/fuzz_models.py: files that nobody made are refused in one line, or decide as they say."""

import io
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

pytest.importorskip("onnx2pytorch", reason="needs the extra 'face'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("measures memory by the files of a Linux kernel", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz_models
from fuzzing import checkpoints
from fuzzing.watched import Case, watched

from twin_dcal.errors import ModelError

FORMATS = (
    "checkpoint", "exported model", "weights, .safetensors", "weights, .pth", "training state", "model.init_from",
)  # fmt: skip


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    level = logging.getLogger("twin_dcal").level
    found = fuzz_models.groups(tmp_path_factory.mktemp("fuzzed"), exported=False)
    yield found
    logging.getLogger("twin_dcal").setLevel(level)


@pytest.mark.parametrize("name", FORMATS)
def test_a_sample(groups, name):
    group = groups[name]
    tallies, _ = fuzz_models.tallied(group, fuzz_models.cases_of(group, seed=1, share=0.005))
    assert set(tallies) == set(group.kinds)
    assert [told for kind_counts in tallies.values() for told in kind_counts.other] == []
    assert sum(kind_counts.refused for kind_counts in tallies.values()) > 0


def test_operators_without_bounds_take_no_memory(groups):
    """Twelve of 2,000 once took up to 763 MiB, most of them before a network ran at all."""
    kind = "operators without bounds"
    group = groups["exported model"]
    group = replace(group, kinds={kind: group.kinds[kind]})
    tallies, _ = fuzz_models.tallied(group, fuzz_models.cases_of(group, seed=0, share=0.5))
    assert (tallies[kind].files, tallies[kind].other) == (50, [])


def ends(tmp_path, call):
    """How one call is seen."""
    (seen,) = watched([Case("any", "file", lambda: bytes(100))], call)
    return seen.outcome, seen.told


def refuse(path):
    raise ModelError(f"{path}: no")


def log_and_accept(path):
    os.write(2, b"a second line")  # as a compiled library does


def touch(path):
    bytearray(300 * 2**20)


def ask_for_more(path):
    bytearray(3 * 2**30)


def fall(path):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_the_watch_sees(tmp_path):
    """The judge can say no: each of these would be counted as anything else."""
    assert ends(tmp_path, refuse) == ("refused", "file: no")
    assert ends(tmp_path, lambda path: None) == ("accepted", "")
    assert ends(tmp_path, lambda path: "other") == ("wrong", "other")
    assert ends(tmp_path, lambda path: 1 / 0)[0] == "traceback"
    assert ends(tmp_path, log_and_accept)[0] == "wrote to stderr"
    assert ends(tmp_path, ask_for_more)[0] == "asked for too much memory"
    assert ends(tmp_path, fall)[0] == "the process ended with -9"
    (seen,) = watched([Case("any", "file", lambda: bytes(100))], touch)
    assert seen.peak > 290 * 2**20
    kind_counts = fuzz_models.Tally()
    fuzz_models._count(kind_counts, seen, 0, "any")
    assert len(kind_counts.other) == 1


def test_a_mutation_that_fails_is_told_as_such_and_the_next_file_is_read():
    fails = Case("any", "file", lambda: bytes(1 // 0))
    broken, sound = watched([fails, Case("any", "file", lambda: b"x")], lambda path: None)
    assert broken.outcome == "not made"
    assert "ZeroDivisionError" in broken.told
    assert sound.outcome == "accepted"


def test_tensors_without_axes_are_mutated_too():
    buffer = io.BytesIO()
    torch.save({"weights": {"count": torch.tensor(3), "rate": torch.tensor(0.5)}}, buffer)
    for number in range(200):
        assert checkpoints.with_tensors(Random(number), buffer.getvalue())


def test_several_lines_are_not_one(tmp_path):
    class TwoLinesError(ModelError):  # the project's own errors make one line of any message
        __str__ = Exception.__str__

    def two_lines(path):
        raise TwoLinesError("one\ntwo")

    def too_long(path):
        raise ModelError("x" * 1000)

    assert ends(tmp_path, two_lines)[0] == "not one line"
    assert ends(tmp_path, too_long)[0] == "not one line"
