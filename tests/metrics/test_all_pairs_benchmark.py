"""The benchmarks of the evaluation run, print their verdict and say so in the exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *options):
    command = [sys.executable, BENCHMARKS / script, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_small_run_passes():
    done = run("all_pairs.py", "--images", "700", "--dim", "8", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "244,650 pairs, 175 families" in done.stdout
    assert "headline: twin_fmr" in done.stdout
    assert "PASS" in done.stdout


@pytest.mark.parametrize("options", [("--images", "10"), ("--dim", "0"), ("--threads", "0")])
def test_impossible_sizes_are_the_users_mistake(options):
    assert run("all_pairs.py", *options).returncode == 2


@pytest.mark.slow
def test_a_few_repetitions_of_the_coverage_simulation():
    done = run(
        "coverage.py", "--repetitions", "3", "--processes", "1", "--designs", "15 families, 2–20 images"
    )
    assert done.returncode in (0, 1), done.stderr  # three repetitions prove nothing about coverage
    assert "| twin EER" in done.stdout
    assert "3 repetitions each" in done.stdout
