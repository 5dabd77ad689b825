"""A page served by uvicorn in a thread of the test, and requests to it as a browser or curl would send them."""

import http.client
import json
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass

from twin_dcal.web.app import create_app
from twin_dcal.web.connections import PageServer


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@contextmanager
def served(engine, *, most=None, **options):
    """The port of a running page, with at most so many connections."""
    server = PageServer(create_app(engine, **options), most)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def request(port, method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def form(*parts):
    """A multipart body and its headers, of (name, content): bytes are sent as a file, text as text."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, content in parts:
        file = '; filename="b\\"ob  und Zoë.png"' if isinstance(content, bytes) else ""
        data = content if isinstance(content, bytes) else content.encode()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }


def verify(port, img1, img2, headers=None, **texts):
    body, kind = form(("img1", img1), ("img2", img2), *texts.items())
    return request(port, "POST", "/api/verify", body, {**kind, **(headers or {})})
