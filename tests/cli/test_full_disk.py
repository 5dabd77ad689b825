"""A disk that is full: one line that names what could not be written."""

import errno
import os
import pickle
import tempfile

import pytest

from twin_dcal.cli.exits import MISTAKE, ended
from twin_dcal.files import DiskFullError, make_folder, replacing, write_text
from twin_dcal.training.trackers.jsonlines import JsonLines

NUMBERS = [errno.ENOSPC, errno.EDQUOT]


def full(number, *place):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), *place)

    return fail


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("call", ["fsync", "replace", "mkstemp"])
def test_a_file_that_finds_no_room_is_named(tmp_path, monkeypatch, number, call):
    write_text(tmp_path / "report.json", "old")
    owner = {"fsync": "twin_dcal.files.os", "replace": "pathlib.Path", "mkstemp": "twin_dcal.files.tempfile"}[
        call
    ]
    monkeypatch.setattr(f"{owner}.{call}", full(number, "/a/half/written.tmp"))
    with pytest.raises(DiskFullError) as told:
        write_text(tmp_path / "report.json", "new")
    assert str(told.value) == (
        f"{tmp_path / 'report.json'}: cannot be written, the disk is full ({os.strerror(number)}). "
        "Make room there and start again."
    )
    assert (tmp_path / "report.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_worker_process_can_tell_it():
    error = pickle.loads(pickle.dumps(DiskFullError(errno.ENOSPC, "No space left on device", "x.png")))
    assert str(error).startswith("x.png: cannot be written, the disk is full")


def test_a_folder_that_finds_no_room_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.mkdir", full(errno.ENOSPC))
    with pytest.raises(DiskFullError, match=rf"^{tmp_path}/run: cannot be written, the disk is full"):
        make_folder(tmp_path / "run")


def test_other_faults_of_writing_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied", "x")


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_a_log_that_grows_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = JsonLines.__new__(JsonLines)
    log._path, log._file = tmp_path / "metrics.jsonl", (tmp_path / "metrics.jsonl").open("a")
    with pytest.raises(DiskFullError, match=r"metrics\.jsonl: cannot be written, the disk is full"):
        log.log({"a": 1.0}, step=1, epoch=0.1)
    with pytest.raises(OSError, match="No space left"):
        log.close()


@pytest.mark.parametrize(
    ("place", "named"),
    [(("photo.jpg",), "photo.jpg"), ((), f"what this command writes, or {tempfile.gettempdir()}")],
)
@pytest.mark.parametrize("number", NUMBERS)
def test_what_a_library_says_of_a_full_disk_names_a_place_too(capsys, place, named, number):
    assert ended(full(number, *place)) == MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {named}: cannot be written, the disk is full ({os.strerror(number)})")
