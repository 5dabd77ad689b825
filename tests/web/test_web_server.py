"""`serve`: the process a user starts, its address, its end, and its one-line refusals."""

import re
import signal
import socket
import subprocess
import sys
from mimetypes import types_map
from pathlib import Path

import made_engine
import pytest
from talking import request, verify

from twin_dcal.cli import verify as verify_command
from twin_dcal.data.formats import IMAGE_EXTENSIONS
from twin_dcal.errors import ConfigError
from twin_dcal.web import server

SERVE = """
import logging, sys
logging.basicConfig(format="%(message)s", level=logging.INFO)
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.web.server import serve
serve(TwinInferenceEngine(sys.argv[1], device="cpu", align="never"), port=0, token=sys.argv[2] or None)
"""


@pytest.mark.parametrize("token", ["", "a-token-long-enough"])
def test_it_serves_on_loopback_until_ctrl_c(tmp_path, token):
    command = [sys.executable, "-W", "error", "-c", SERVE, made_engine.model_file(tmp_path), token]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            found = re.match(r"Page at http://127\.0\.0\.1:(\d+)/(\S*) ", line)
            assert found, line
            assert found[2] == (f"#token={token}" if token else "")
            port = int(found[1])
            assert request(port, "GET", "/").status == 200
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = verify(port, made_engine.photo(1), made_engine.photo(2), headers)
            assert answer.status == 200
            assert "server" not in answer.headers
            others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)]
            for address in {found for found in others if not found.startswith("127.")}:
                with pytest.raises(ConnectionError):
                    socket.create_connection((address, port), timeout=2).close()
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"host": "0.0.0.0"}, "give a token"), ({"port": 70000}, "port 70000"), ({"token": "short"}, "16 or more"),
     ({"host": "no such host", "token": "a-token-long-enough"}, "cannot listen there")],
)  # fmt: skip
def test_refusals(web_engine, options, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        server.serve(web_engine, **options)
    assert "\n" not in str(caught.value)


def test_a_port_in_use(web_engine):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="cannot listen there"),
    ):
        server.serve(web_engine, port=taken.getsockname()[1])


def test_a_missing_package_names_the_extra(web_engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'twin-dcal\[web\]'"):
        server.serve(web_engine)


def test_the_page_lets_every_kind_of_file_be_chosen_that_is_read():
    page = (Path(server.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    choices = re.findall(r'accept="([^"]*)"', page)
    assert len(choices) == 2
    for choice in choices:
        offered = choice.split(",")
        names = {kind: {kind, f"image/{kind[1:]}", types_map.get(kind)} for kind in IMAGE_EXTENSIONS}
        assert [kind for kind, named in names.items() if not named & {*offered}] == []


def test_importing_the_server_loads_no_web_framework():
    code = (
        "import sys, twin_dcal.web.server\n"
        "assert not {'fastapi', 'uvicorn', 'starlette', 'torch'} & sys.modules.keys(), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize(
    ("typed", "kept", "token"),
    [
        ([], {}, None),
        ([], {"TWIN_DCAL_TOKEN": ""}, None),
        ([], {"TWIN_DCAL_TOKEN": "of-the-environment"}, "of-the-environment"),
        (["--token", "a-token-long-enough"], {"TWIN_DCAL_TOKEN": "other"}, "a-token-long-enough"),
    ],
    ids=range(4),
)
def test_the_token_may_come_from_the_environment(tmp_path, monkeypatch, typed, kept, token):
    given = []
    monkeypatch.delenv("TWIN_DCAL_TOKEN", raising=False)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(server, "serve", lambda *arguments, **_: given.append(arguments[3]))
    monkeypatch.setattr(verify_command, "end_at_once", lambda _: None)
    model = made_engine.model_file(tmp_path)
    verify_command.main(["--model", str(model), "--align", "never", "--web", *typed])
    assert given == [token]
