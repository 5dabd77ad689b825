"""Progress: a bar with rate and time left on a terminal, lines without one, in every command that takes long."""

import logging
import os
import pty
import re
import sys
import threading
from contextlib import contextmanager

import pytest
from tiny import tiny_model

from twin_dcal import progress
from twin_dcal.cli import evaluate, export, extract
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.progress import ProgressBar, lasting, track


@contextmanager
def terminal(monkeypatch):
    """stderr as a terminal; gives a function that closes it and returns what was written there."""
    ours, theirs = pty.openpty()
    parts = []

    def read():
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # closed at the other end
                return
            if not part:
                return
            parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(progress, "BAR_AFTER_S", 0.0)
        written = []

        def end():
            if not stream.closed:
                stream.close()
                reader.join()
                written.append(b"".join(parts).decode())
            return written[0]

        yield end
        end()
    os.close(ours)


def test_a_bar_has_share_rate_and_time_left(monkeypatch):
    with terminal(monkeypatch) as end:
        with ProgressBar(4, "extracting", "images", done=1) as bar:
            bar._bar.mininterval = 0
            bar.note("few")
            bar.update(2)
        told = end()
    assert re.search(r"extracting:\s+25%.*1/4", told)
    assert re.search(r"extracting:\s+75%.*3/4 \[\d\d:\d\d<\d\d:\d\d, .* images/s, few\]", told)


def test_what_is_quick_shows_no_bar(monkeypatch):
    with terminal(monkeypatch) as end:
        with ProgressBar(4, "extracting", "images", after_s=60) as bar:
            bar.update(4)
        assert "extracting" not in end()


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch, caplog):
    clock = iter([0.0, 10.0, 31.0, 45.0, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO), ProgressBar(2000, "embedding", "images", done=380) as bar:
        for _ in range(4):
            bar.update(310)
    assert [record.getMessage() for record in caplog.records] == [
        "embedding: 1,000 of 2,000 images, 20 a second, 50 s left",
        "embedding: 1,620 of 2,000 images, 12.4 a second, 31 s left",
    ]


def test_another_process_than_the_first_says_nothing(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO), ProgressBar(2, "embedding", "images", shown=False) as bar:
        bar.update()
    assert not caplog.records


def test_items_pass_unchanged():
    assert list(track([3, 1, 2], "sorting", "numbers")) == [3, 1, 2]
    assert list(track(iter("ab"), "spelling", "letters", total=2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (3569, "59 min"), (3600, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations(seconds, told):
    assert lasting(seconds) == told


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("progress"), threshold=Threshold(0.5, {}))


def bars(monkeypatch, command, *arguments):
    """The names of the bars that a command draws on a terminal."""
    with terminal(monkeypatch) as end:
        assert command.main([*map(str, arguments)]) == 0
        told = end()
    return set(re.findall(r"[\r^]([a-z ]+):\s+\d+%", told))


def test_extract_shows_how_far_it_is(monkeypatch, model, tiny_faces, tmp_path, capsys):
    given = ["--model", model, "--images_dir", tiny_faces / "test", "--align", "never", "--num_workers", 0]
    assert bars(monkeypatch, extract, *given, "--output", tmp_path / "f.npz") == {"extracting"}


def test_evaluate_shows_how_far_it_is(monkeypatch, model, tiny_faces, tmp_path, capsys):
    given = [
        "--model",
        model,
        "--data_dir",
        tiny_faces,
        "--num_workers",
        0,
        "--visualize",
        "--output_dir",
        tmp_path,
    ]
    assert {"embedding", "comparing", "drawing plots"} <= bars(monkeypatch, evaluate, *given)


def test_compare_shows_how_far_it_is(monkeypatch, model, tiny_faces, tmp_path, capsys):
    for name in "ab":
        given = ["--model", model, "--data_dir", tiny_faces, "--num_workers", 0]
        assert evaluate.main([*map(str, given), "--output_dir", str(tmp_path / name)]) == 0
    given = ["--compare", tmp_path / "a", tmp_path / "b", "--output_dir", tmp_path / "c"]
    assert {"judging", "comparing"} <= bars(monkeypatch, evaluate, *given)


@pytest.mark.slow
def test_export_shows_how_far_it_is(monkeypatch, model, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    assert "exporting" in bars(monkeypatch, export, "--model", model, "--output", tmp_path / "m.onnx")
