"""One process at a time in an output folder: who is refused, who is not, and what stays behind."""

import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from twin_dcal import locking
from twin_dcal.errors import ConfigError
from twin_dcal.locking import locked

HOLD = """
import os, sys, time
from twin_dcal.locking import locked
with locked(sys.argv[1], "at work"):
    if sys.argv[2:]:  # a worker that outlives its parent, as DataLoader's do for a while
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(child)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(path, *more):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(path), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline().strip()
            process.worker = int(first) if first.isdigit() else None
            assert first == "held" or process.stdout.readline().strip() == "held"
            yield process
        finally:
            process.kill()


@pytest.fixture
def place(tmp_path):
    return tmp_path / "run" / ".lock"


def owner(**changed):
    told = {"pid": os.getpid(), "host": socket.gethostname(), "since": "2020-01-01T00:00:00+00:00"}
    return json.dumps(told | changed)


def dead():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_second_process_is_refused_and_told_who_is_first(place):
    with held_elsewhere(place) as first:
        with pytest.raises(ConfigError) as caught, locked(place, "at work", "--output"):
            pass
        told = str(caught.value)
        assert f"process {first.pid} on {socket.gethostname()}, since 20" in told
        assert "at work already" in told
        assert "another --output" in told
        assert "\n" not in told
        assert place.exists()
        assert place.stat().st_mode & 0o777 == 0o600


def test_the_lock_ends_with_its_process_however_that_ends_and_whatever_its_workers_do(place, caplog):
    caplog.set_level(logging.INFO)
    with held_elsewhere(place, "with a worker") as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        try:
            with locked(place, "at work"):
                assert json.loads(place.read_text())["pid"] == os.getpid()
        finally:
            os.kill(first.worker, signal.SIGKILL)
    assert f"process {first.pid} on {socket.gethostname()} ended without removing it" in caplog.text


@pytest.mark.parametrize("guarded", [None, "set", "set/features.npz"])
def test_what_a_killed_owner_had_half_written_is_removed(place, guarded):
    guarded = None if guarded is None else place.parent / guarded
    folder = place.parent if guarded is None else place.parent / "set"
    halves = [folder / ".features.npz.awe80j4p.tmp"]
    if guarded is None or guarded == folder:
        halves += [folder / "deep" / ".report.html.5hrgxxe9.tmp"]
    others = [folder / name for name in (".notes.tmp", "features.npz.awe80j4p.tmp", ".features.npz")]
    for path in [*halves, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with locked(place, "at work", guarded=guarded):
        assert all(path.exists() for path in halves), "nobody was killed here"
    place.write_text(owner(pid=dead()))
    with locked(place, "at work", guarded=guarded):
        assert not any(path.exists() for path in halves)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(
    "left",
    ["", "no json", "[]", '{"pid": 1}', owner(host="elsewhere"), owner(pid=10**30)],
    ids=["empty", "no json", "a list", "no host", "another machine", "no such pid"],
)
def test_what_is_left_in_the_file_keeps_nobody_out(place, left):
    place.parent.mkdir()
    place.write_text(left)
    with locked(place, "at work"):
        pass
    assert not place.exists()


def test_it_removes_what_it_made_and_nothing_else(place):
    with locked(place.parent / "deep" / "er" / ".lock", "at work"):
        pass
    assert not place.parent.exists()
    with locked(place, "at work"):
        assert place.parent.is_dir()
    assert not place.parent.exists()
    place.parent.mkdir()
    with locked(place, "at work"):
        pass
    assert place.parent.is_dir()
    (place.parent / "result").write_text("")
    with pytest.raises(ZeroDivisionError), locked(place, "at work"):
        1 / 0  # noqa: B018
    assert [path.name for path in place.parent.iterdir()] == ["result"]


def test_one_thread_may_enter_twice_and_another_may_not(place):
    caught = []

    def other():
        try:
            with locked(place, "at work"):
                pass
        except ConfigError as error:
            caught.append(str(error))

    with locked(place, "at work"), locked(place, "at work"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert f"process {os.getpid()} on" in caught[0]
    with locked(place, "at work"):
        pass


def test_a_forked_child_does_not_take_its_parents_lock_for_its_own(place):
    with locked(place, "at work"):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with locked(place, "at work"):
                    pass
            except ConfigError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("left", "is_refused"),
    [("", False), (owner(), False), (owner(pid=dead()), False), (owner(pid=os.getppid()), True),
     (owner(host="elsewhere"), True), (owner(pid=10**30), True)],
    ids=["nobody", "ones own number", "dead", "alive", "elsewhere", "no number of a process"],
)  # fmt: skip
def test_without_locks_of_the_file_system_the_owner_in_the_file_decides(place, monkeypatch, left, is_refused):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locking.fcntl, "lockf", lockf)
    place.parent.mkdir()
    place.write_text(left)
    if is_refused:
        with pytest.raises(ConfigError, match=r"If it is gone, delete .*\.lock\."), locked(place, "at work"):
            pass
        assert place.read_text() == left
    else:
        with locked(place, "at work"):
            assert json.loads(place.read_text())["pid"] == os.getpid()
        assert not place.exists()
