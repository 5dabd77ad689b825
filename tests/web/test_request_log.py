"""The page's terminal: what is written there is bounded, whoever asks for what, however often."""

import logging
import re
import signal
import socket
import subprocess
import sys

import made_engine
import pytest
from talking import form, request

from twin_dcal.cli.common import _Printable
from twin_dcal.web import request_log
from twin_dcal.web.request_log import Bounded, shown

SERVE = """
import logging, sys
logging.basicConfig(format="%(message)s", level=logging.INFO)
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.web.server import serve
serve(TwinInferenceEngine(sys.argv[1], device="cpu", align="never"), port=0)
"""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def log():
    """A logger whose lines are kept in a list, and its clock."""
    logger, clock, lines = logging.Logger("twin_dcal.web.app"), Clock(), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.extend(handler.format(record).splitlines())
    handler.addFilter(Bounded(clock))
    logger.addHandler(handler)
    return logger, clock, lines


def test_lines_are_bounded_and_those_left_out_counted(log):
    logger, clock, lines = log
    for number in range(10_000):
        logger.info("GET / %d", number)
    assert len(lines) == request_log.LINES_AT_ONCE
    clock.now += request_log.SECONDS_PER_LINE
    logger.info("later")
    logger.info("too soon")
    assert lines[request_log.LINES_AT_ONCE :] == ["(9,800 entries of this log left out here)", "later"]


def test_at_the_end_those_left_out_are_counted_as_every_command_writes_them(monkeypatch):
    lines, handler = [], logging.Handler()
    handler.setFormatter(_Printable())
    handler.emit = lambda record: lines.append(handler.format(record))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with request_log.bounded_log():
        for number in range(request_log.LINES_AT_ONCE + 7):
            logging.getLogger("twin_dcal.web.app").warning("GET / %d", number)
    assert lines[request_log.LINES_AT_ONCE :] == ["(7 entries of this log left out here)"]


def test_a_day_of_requests_is_bounded(log):
    logger, clock, lines = log
    for _ in range(24 * 3600):
        clock.now += 1
        logger.info("GET / 200")
    assert len(lines) <= request_log.LINES_AT_ONCE + 2 * 24 * 3600 / request_log.SECONDS_PER_LINE


def test_tracebacks_count_by_their_lines(log):
    logger, _, lines = log

    def deep(number):
        if number:
            deep(number - 1)
        raise ValueError("x" * 10_000 + "\x1b[2J")

    for _ in range(1000):
        try:
            deep(200)
        except ValueError:
            logger.exception("a fault of ours")
    assert len(lines) <= request_log.LINES_AT_ONCE + 62
    assert max(map(len, lines)) <= request_log.MAX_LINE
    assert "a fault of ours" in lines
    assert any(line.startswith("ValueError: xxx") for line in lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("text", ["a" * 10_000, "\n\x1b[31m\x9b\u202e" * 1000, "\udcfc" * 10_000])
def test_long_texts_and_control_characters(text):
    line = shown(text)
    assert len(line) == request_log.MAX_LINE
    assert line.endswith("…")
    assert line.isprintable()
    line.encode()


def test_what_is_short_and_printable_stays():
    assert shown("POST /api/verify 200, 3 ms – Zoë") == "POST /api/verify 200, 3 ms – Zoë"
    assert shown("a\tb\x00") == "a\\tb\\x00"


def test_libraries_do_not_warn_of_what_clients_send(log):
    logger, _, lines = log
    for name in ("uvicorn.error", "python_multipart.multipart", "asyncio"):
        logger.name = name
        logger.warning("Invalid HTTP request received.")
        logger.error("a fault")
    assert lines == ["a fault"] * 3


def test_a_client_cannot_fill_the_terminal(tmp_path):
    """All it can send: no HTTP, long paths and methods, damaged forms, thousands of requests."""
    command = [sys.executable, "-W", "error", "-c", SERVE, made_engine.model_file(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = int(re.match(r"Page at http://127\.0\.0\.1:(\d+)/", process.stderr.readline())[1])
            for said in (b"\x00\xff\x1b[2J\r\n\r\n", b"GET /" + b"%1b" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                         b"X" * 9000 + b" / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):  # fmt: skip
                with socket.create_connection(("127.0.0.1", port), timeout=20) as talk:
                    talk.sendall(said)
                    assert talk.recv(100).startswith(b"HTTP/1.1 4")
            body, headers = form(("img1", b"1"), ("img2", b"2"))
            for wrong in (body.replace(b"\r\n", b"\n"), body + b"rest" * 1000, body[:-9] + b"xx\x1b"):
                assert request(port, "POST", "/api/verify", wrong, headers).status in (400, 422)
            with socket.create_connection(("127.0.0.1", port), timeout=20) as talk:
                answers = b""
                for _ in range(50):
                    talk.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 10)
                talk.sendall(b"GET /end HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                while part := talk.recv(1 << 20):
                    answers += part
            assert answers.count(b"HTTP/1.1 200") == 500
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
    lines = said.splitlines()
    assert "GET (unknown path) 404" in said
    assert "(unknown method) / 405" in said
    assert request_log.LINES_AT_ONCE <= len(lines) <= request_log.LINES_AT_ONCE + 20
    assert "left out here" in lines[-1]
    assert "Invalid HTTP" not in said
    assert "boundary" not in said
    assert "\x1b" not in said
    assert max(map(len, lines)) < 100
