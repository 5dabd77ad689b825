"""`dcal-synth` stopped by Ctrl-C, by kill -9 and by a full disk: what is left is usable, and ends in the same bytes."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twin_dcal.synth.generate import Settings, generate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, /proc and tmpfs of Linux"),
]
OPTIONS = ["--families", "60", "--images", "4", "--image_size", "48", "--difficulty", "hard", "--seed", "8"]
SETTINGS = Settings(families=60, images=4, image_size=48, difficulty="hard", seed=8)
DESCRIPTIONS = ["dataset_infor.json", "twin_pairs_infor.json", "test_pairs.json", "meta.jsonl"]


def command(folder, *options):
    return [sys.executable, "-m", "twin_dcal.cli.synth", "--output", str(folder), *OPTIONS, *options]


def start(folder, *options):
    """A process in a group of its own, as a terminal would start it."""
    process = subprocess.Popen(
        command(folder, *options),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(list(Path(folder).glob(".unfinished/*.jsonl"))) >= 3, 60)
    assert process.poll() is None, "it was done before it could be stopped; use more families"
    return process


def wait_for(ready, seconds):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.02)


def members(group):
    """Processes of a process group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(path.parent.name)
    return found


def digest(folder):
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "set"
    generate(folder, SETTINGS)
    return digest(folder)


def resume(folder):
    done = subprocess.run(command(folder, "--resume"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_is_one_line_and_leaves_no_process_and_no_description(workers, whole, tmp_path):
    folder = tmp_path / "set"
    process = start(folder, "--workers", workers)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody in the group
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.strip().splitlines() == ["interrupted; go on with the same command and --resume"]
    wait_for(lambda: members(process.pid) == [], 10)  # on a busy machine the last worker ends a moment later
    assert not [name for name in DESCRIPTIONS if (folder / name).exists()]
    resume(folder)
    assert digest(folder) == whole


def test_workers_end_with_a_process_that_is_killed_and_the_set_can_be_finished(whole, tmp_path):
    folder = tmp_path / "set"
    process = start(folder, "--workers", "2")
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: members(process.pid) == [], 20)
    (folder / ".meta.jsonl.abc.tmp").write_text('{"half')  # as a kill while describing leaves one
    resume(folder)
    assert digest(folder) == whole


def test_a_full_disk_is_one_line_and_the_set_can_be_finished_elsewhere(whole, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(mount)], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("a file system of limited size can only be mounted by root")
    try:
        done = subprocess.run(command(mount / "set"), capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: ")
        assert f"{mount / 'set'}" in line
        assert "cannot be written, the disk is full (No space left on device)" in line
        assert not [name for name in DESCRIPTIONS if (mount / "set" / name).exists()]
        shutil.copytree(mount / "set", tmp_path / "set")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    resume(tmp_path / "set")
    assert digest(tmp_path / "set") == whole
