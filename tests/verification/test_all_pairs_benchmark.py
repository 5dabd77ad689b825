"""The evaluation benchmark runs, prints its verdict and says so in the exit code."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "all_pairs.py"


def run(*options):
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, timeout=60)


def test_small_run_passes():
    done = run("--images", "700", "--dim", "8", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "244,650 pairs" in done.stdout
    assert "PASS" in done.stdout


def test_too_few_images_are_the_users_mistake():
    assert run("--images", "10").returncode == 2
