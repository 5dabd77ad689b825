"""The API over a socket: decisions, maps, limits, hostile uploads, and that photos stay in memory."""

import asyncio
import base64
import io
import json
import logging
import os
import queue
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from types import MappingProxyType

import made_engine
import pytest
from made_engine import CURVE, THRESHOLD, photo
from PIL import Image
from talking import form, request, served, verify

from twin_dcal._version import __version__
from twin_dcal.errors import ModelError
from twin_dcal.web import schemas, uploads
from twin_dcal.web.access import ANSWER_HEADERS
from twin_dcal.web.app import create_app
from twin_dcal.web.queue import BoundedQueue
from twin_dcal.web.schemas import Maps, Match

ONE, TWO = photo(1), photo(2)


def test_a_decision_is_the_engines(port, web_engine):
    answer = verify(port, ONE, TWO)
    assert answer.status == 200
    told, expected = answer.json, web_engine.verify_pair(ONE, TWO)
    for name in ("similarity", "verification_score", "estimated_fmr", "estimated_fnmr", "threshold"):
        assert told[name] == pytest.approx(expected[name], abs=1e-6), name
    assert told["same_person"] is told["verification_decision"] is expected.same_person
    assert told["prediction"] == expected.prediction
    assert told["warnings"] == list(expected.warnings)
    assert told["threshold_source"]["criterion"] == "eer"
    assert told["elapsed_ms"] > 0
    assert told["attention_maps"] is told["crops"] is None


def test_the_same_photo_is_one_person(port):
    told = verify(port, ONE, ONE).json
    assert told["similarity"] == pytest.approx(1, abs=1e-5)
    assert told["same_person"] is True


def test_a_threshold_of_the_request_is_for_that_request(port, web_engine):
    similarity = verify(port, ONE, TWO).json["similarity"]
    for threshold, same in {
        similarity - 0.01: True,
        similarity: True,
        min(1, similarity + 0.001): False,
    }.items():
        told = verify(port, ONE, TWO, threshold=str(threshold)).json
        assert told["same_person"] is same
        assert told["threshold"] == threshold
        assert told["threshold_source"]["set_by"] == "request"
    assert told["threshold_source"]["fmr"] == web_engine.rates(min(1, similarity + 0.001)).fmr
    assert web_engine.threshold == verify(port, ONE, TWO).json["threshold"] == THRESHOLD


def test_maps_and_crops_on_request(port, web_engine):
    told = verify(port, ONE, TWO, explain="pair", crops="1").json
    assert len(told["attention_maps"]["pair"][0]) == 8
    assert told["attention_maps"]["glca_attention"] is None
    assert verify(port, ONE, TWO, explain="attention").json["attention_maps"]["pair"] is None
    assert told["attention_maps"]["matches"][0]["weight"] == 0.2
    head, _, data = told["crops"][1].partition(",")
    assert head == "data:image/png;base64"
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (web_engine.look(TWO).shown() == seen).all()
    assert seen.width == 64 > web_engine.source.image_size  # not the network's input


def test_no_maps_where_none_are_offered(web_engine):
    with served(web_engine) as plain:
        assert request(plain, "GET", "/api/model").json["explains"] == []
        answer = verify(plain, ONE, TWO, explain="pair")
        assert answer.status == 422
        assert "pair is not offered for this model; what is: no maps" in answer.json["detail"]


def test_maps_that_cannot_be_sent_do_not_cost_the_decision(web_engine):
    nan = [[float("nan")]]
    broken = made_engine.explains(web_engine, attention=lambda one, two: {"rollout": (nan, nan)})
    with served(web_engine, explains=broken) as port:
        told = verify(port, ONE, TWO, explain="attention").json
    assert told["attention_maps"] is None
    assert any("could not be made" in text for text in told["warnings"])


def test_maps_of_an_explanation():
    told = {
        "similarity": 0.5, "method": "m", "attribution1": [[0.1]], "attribution2": [[-0.2]], "rollout1": [[0.3]],
        "rollout2": [[0.4]], "glca1": None, "glca2": None, "glca_chosen1": [[True]], "glca_chosen2": [[False]],
        "glca_uses_chosen": False, "matches": [{"first": [1, 2], "second": [3, 4], "strength": 0.5}], "metadata": {},
    }  # fmt: skip
    maps = Maps.of_explanation(told)
    assert maps.pair == ([[0.1]], [[-0.2]])
    assert maps.rollout == ([[0.3]], [[0.4]])
    assert maps.glca_attention is None
    assert maps.glca_regions == ([[1]], [[0]])
    assert maps.regions_count is False
    assert maps.matches == [Match(row1=1, col1=2, row2=3, col2=4, weight=0.5)]


def test_model_and_rates(port, web_engine):
    model = request(port, "GET", "/api/model").json
    assert model["file"] == "best_model.pth"  # no folder
    assert (model["sha256"], model["threshold"]) == (web_engine.source.sha256, THRESHOLD)
    assert model["version"] == __version__
    rates = request(port, "GET", "/api/rates?threshold=0.5").json
    assert rates["curve"] == CURVE
    assert (rates["at"]["fmr"], rates["at"]["fnmr"]) == (0.3, 0.2)
    assert request(port, "GET", "/api/rates").json["at"] is None
    for bad in ("2", "nan", "x", ""):
        assert request(port, "GET", f"/api/rates?threshold={bad}").status == 422


def test_folders_of_data_sets_are_not_told(tmp_path, monkeypatch):
    engine = made_engine.engine(tmp_path)
    monkeypatch.setattr(
        type(engine), "threshold_source", {"data": "/home/me/secret faces/val: 3 people", "fmr": 0.1}
    )
    with served(engine) as port:
        told = request(port, "GET", "/api/model").json["threshold_source"]
    assert told == {"data": "val: 3 people", "fmr": 0.1}


def test_a_model_without_a_curve_says_so(tmp_path):
    with served(made_engine.engine(tmp_path, curve=False)) as port:
        assert request(port, "GET", "/api/rates?threshold=0.5").json == {
            "curve": None, "at": None, "threshold": THRESHOLD, "photographs": [1, 1],
        }  # fmt: skip
        told = verify(port, ONE, TWO, threshold="0.1").json
        assert told["estimated_fmr"] is None
        assert any("no error curve" in text for text in told["warnings"])


def test_a_model_without_a_threshold_is_refused_at_the_start(tmp_path):
    with pytest.raises(ModelError, match="no threshold is stored"):
        create_app(made_engine.engine(tmp_path, threshold=False))


# ---- hostile uploads ----


def png_header(width, height):
    """A PNG of that size whose data is one run of zeros, some 200 KB for 30,000 by 30,000."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif():
    file = io.BytesIO()
    frames = [Image.new("P", (32, 32), colour) for colour in (1, 2, 3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


HOSTILE = {
    "not an image": (b"GARBAGE" * 50, "not an image"),
    "empty": (b"", "empty file"),
    "JPEG without its second half": (photo(1, 256, "JPEG")[:1200] + b"\xff\xd9", "truncated or damaged"),
    "truncated JPEG": (photo(1, 256, "JPEG")[:900], "truncated or damaged"),
    "a million comments": (
        photo(1, 64, "JPEG")[:2] + b"\xff\xfe\0\2" * 1_000_000 + photo(1, 64, "JPEG")[2:],
        "would take too long to decode",
    ),
    "30,000 x 30,000": (png_header(30_000, 30_000), "more than 50,000,000 pixels"),
    "GIF with frames": (gif(), "not an image (JPEG"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "not an image"),
    "PDF": (b"%PDF-1.4\n1 0 obj", "not an image"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("side", ["img1", "img2"])
def test_hostile_uploads_get_the_reason_and_the_page_stays_up(port, name, side):
    data, reason = HOSTILE[name]
    pair = (data, ONE) if side == "img1" else (ONE, data)
    answer = verify(port, *pair)
    assert answer.status == 422
    assert answer.json["detail"].startswith(f"{side}: ")
    assert reason in answer.json["detail"]
    assert "\n" not in answer.json["detail"]
    assert "Zo" not in answer.json["detail"]  # the file's name is not repeated
    assert verify(port, ONE, ONE).status == 200


def test_the_bomb_is_small():
    assert len(HOSTILE["30,000 x 30,000"][0]) < 250_000


def test_photos_of_many_kinds_are_read(port):
    cmyk = io.BytesIO()
    Image.open(io.BytesIO(ONE)).convert("CMYK").save(cmyk, "JPEG", quality=95)
    assert verify(port, ONE, cmyk.getvalue()).json["similarity"] > 0.9
    for kind in ("JPEG", "WEBP", "BMP", "PPM"):
        assert verify(port, ONE, photo(1, 64, kind)).status == 200


def test_exif_rotation_is_applied(port):
    upright = Image.open(io.BytesIO(ONE))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned right
    file = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    assert verify(port, ONE, file.getvalue()).json["similarity"] == pytest.approx(1, abs=1e-5)


# ---- damaged and oversized forms ----


def post(port, body, headers):
    return request(port, "POST", "/api/verify", body, headers)


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        ([("img1", ONE)], 422, "img2: missing"),
        ([("img1", ONE), ("img2", "text")], 422, "img2: sent as text"),
        ([("img1", ONE), ("img1", ONE)], 422, "img2: missing"),
        ([*[("img1", ONE)] * 11, ("img2", ONE)], 422, "img1: more than 10 photos of one person"),
        ([("img1", ONE), ("img2", ONE), ("fuse", "max"), ("fuse", "max")], 422, "fuse: given more than once"),
        (
            [("img1", ONE), ("img2", ONE), ("fuse", "best")],
            422,
            "fuse: 'best' given; give quality, mean, max or scores",
        ),
        (
            [("img1", ONE), ("img2", ONE), ("face1", "1,2")],
            422,
            "face1: 2 choices for 1 photo; give one for all",
        ),
        (
            [("img1", ONE), ("img2", ONE), ("face1", "1,")],
            422,
            "face1: '1,' given; give largest, or a number",
        ),
        ([("img1", ONE), ("img2", ONE), ("img3", ONE)], 422, "field 'img3' is unknown"),
        ([("x", "")] * 28, 400, "more than 27 parts"),
        ([("img1", ONE), ("img2", ONE), ("limit", "1")], 422, "field 'limit' is unknown"),
        ([("img1", ONE), ("img2", ONE), ("threshold", "high")], 422, "threshold: "),
        ([("img1", ONE), ("img2", ONE), ("threshold", "nan")], 422, "threshold: "),
        ([("img1", ONE), ("img2", ONE), ("threshold", "-1.01")], 422, "threshold: "),
        ([("img1", ONE), ("img2", ONE), ("explain", "perhaps")], 422, "explain: "),
        ([("img1", ONE), ("img2", ONE), ("threshold", "0" * 5000)], 422, "5,000 bytes"),
        ([("img1", ONE), ("threshold", ONE)], 422, "threshold: sent as a file"),
        ([], 422, "img1: missing"),
    ],
)
def test_wrong_fields(port, parts, status, reason):
    answer = post(port, *form(*parts))
    assert (answer.status, reason in answer.json["detail"]) == (status, True), answer.body


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("threshold", "high", "a number from -1 to 1"),
        ("threshold", "nan", "a number from -1 to 1"),
        ("threshold_probability", "2", "a number from 0 to 1"),
        ("face1", "abc", "largest, or a number from the left (1 to 1000)"),
        ("face2", "0", "largest, or a number from the left (1 to 1000)"),
        ("explain", "perhaps", "none, attention or pair"),
        ("crops", "2", "true or false"),
    ],
)
def test_a_wrong_field_is_told_what_it_may_be(port, name, value, allowed):
    answer = verify(port, ONE, ONE, **{name: value})
    assert (answer.status, answer.json["detail"]) == (422, f"{name}: {value!r} given; give {allowed}")
    if name == "threshold":
        assert request(port, "GET", f"/api/rates?threshold={value}").json["detail"] == answer.json["detail"]


def test_every_field_says_what_it_may_be(port):
    assert schemas.ALLOWED.keys() == {*schemas.Options.model_fields, "photos1", "photos2"}
    answer = verify(port, ONE, ONE, align="always")
    told = (
        "field 'align' is unknown; the fields are img1, img2, threshold, threshold_probability, fuse, face1"
    )
    assert answer.json["detail"].startswith(told)


def test_a_long_wrong_value_is_shortened(port):
    told = verify(port, ONE, ONE, explain="\x1b" * 900).json["detail"]
    assert len(told) < 250
    assert "\x1b" not in told


def test_damaged_forms(port):
    body, headers = form(("img1", ONE), ("img2", ONE))
    for damaged, kind, status in [
        (body, {}, 415),
        (body, {"Content-Type": "application/json"}, 415),
        (body, {"Content-Type": "multipart/form-data"}, 400),
        (body, {"Content-Type": "multipart/form-data; boundary=other"}, 400),
        (b"\x00" * 100, headers, 400),
        (body[: len(body) // 2], headers, 400),
        (body[: -len("--\r\n")], headers, 400),
        (body.replace(b'"img1"', b'"\xff\xfe"'), headers, 422),
        (body.replace(b"Content-Disposition", b"Content-Nothing"), headers, 422),
        (b"", headers, 400),
    ]:
        answer = post(port, damaged, kind)
        assert answer.status == status, (kind, answer.body)
        assert status == 200 or answer.json["detail"]


def test_uploads_of_unknown_size_are_refused(port):
    body, headers = form(("img1", ONE), ("img2", ONE))
    answer = post(port, iter([body]), {**headers, "Transfer-Encoding": "chunked"})
    assert answer.status in (400, 411)
    answer = post(port, iter([body]), headers)  # http.client sends chunks of its own accord
    assert answer.status == 411


def test_too_much_is_refused_before_it_is_kept(port):
    large = ONE + bytes(uploads.MAX_PHOTO_BYTES)
    answer = verify(port, large, ONE)
    assert answer.status == 413
    assert "20 MB" in answer.json["detail"]
    answer = verify(port, large, large + ONE)
    assert answer.status == 413  # read to its end and thrown away, so that the sender sees the answer
    assert "20 MB" in answer.json["detail"]


def test_an_announced_size_is_refused_before_the_upload(port, monkeypatch):
    monkeypatch.setattr(uploads, "DISCARD_SECONDS", 0.2)
    head = "POST /api/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as talk:
        talk.sendall(f"{head}Content-Length: {uploads.MAX_BODY_BYTES + 1}\r\n\r\n--".encode())
        assert talk.recv(4096).startswith(b"HTTP/1.1 413")


def test_more_than_was_announced_is_cut_off():
    async def stream():
        for _ in range(1 + uploads.MAX_BODY_BYTES // 2**20):
            yield b"\r\n" * 2**19

    with pytest.raises(uploads.Refused) as caught:
        asyncio.run(uploads._parts("multipart/form-data; boundary=x", stream()))
    assert caught.value.refusal.status == 413


def test_a_slow_upload_ends(port, monkeypatch):
    monkeypatch.setattr(uploads, "READ_SECONDS", 0.2)
    monkeypatch.setattr(uploads, "DISCARD_SECONDS", 0.2)
    _, headers = form(("img1", ONE), ("img2", ONE))
    head = f"POST /api/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: {headers['Content-Type']}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as talk:
        talk.sendall(f"{head}Content-Length: 5000\r\n\r\n--".encode())
        assert talk.recv(4096).startswith(b"HTTP/1.1 408")


def test_photos_never_reach_a_disk(port, monkeypatch):
    def spilled(*_, **__):
        raise AssertionError("a temporary file")

    for name in ("SpooledTemporaryFile", "NamedTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, spilled)
    opened = []
    sys.addaudithook(
        lambda event, arguments: opened.append(arguments) if event == "open" and watching else None
    )
    watching = True
    big = photo(3, 1600, "BMP")  # 7.7 MB
    assert len(big) > 5 * 2**20
    assert verify(port, big, ONE, crops="true").status == 200
    watching = False
    written = [path for path, mode, flags in opened if flags & (os.O_WRONLY | os.O_RDWR)]
    assert written == []


# ---- access, headers, log ----


def test_every_answer_carries_the_headers(port):
    answers = [
        request(port, "GET", "/"), request(port, "GET", "/api/model"), request(port, "GET", "/nothing"),
        request(port, "DELETE", "/api/verify"), verify(port, b"", ONE), verify(port, ONE, ONE),
        request(port, "GET", "/", headers={"Host": "evil.example"}),
    ]  # fmt: skip
    assert [answer.status for answer in answers] == [200, 200, 404, 405, 422, 200, 403]
    for answer in answers:
        for name, value in ANSWER_HEADERS.items():
            assert answer.headers[name.lower()] == value
        assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"
    assert "unsafe" not in ANSWER_HEADERS["Content-Security-Policy"]


def test_a_fault_of_ours_is_told_without_details_and_is_the_only_500(web_engine, monkeypatch):
    class Broken:
        source, backend, threshold = web_engine.source, web_engine.backend, 0.5
        deciding = web_engine.deciding
        threshold_source = MappingProxyType({})

        def look(self, *_):
            raise RuntimeError("secret")

    with served(Broken()) as port:
        answer = verify(port, ONE, TWO)
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert answer.headers["cache-control"] == "no-store"
        assert request(port, "GET", "/api/model").status == 200


def test_other_pages_and_hosts_are_refused(port):
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert verify(port, ONE, TWO, headers).status == 403


def test_the_token(web_engine):
    token = "a-token-long-enough"
    with served(web_engine, token=token, host="0.0.0.0") as port:
        assert request(port, "GET", "/").status == 200
        assert verify(port, ONE, TWO).status == 401
        assert verify(port, ONE, TWO, {"Authorization": f"Bearer {token}"}).status == 200
        schema = request(port, "GET", "/openapi.json").json
        assert schema["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}


def test_the_log_has_no_names(port, caplog):
    with caplog.at_level(logging.INFO, "twin_dcal.web"):
        verify(port, ONE, TWO)
        request(port, "GET", "/alice-and-bob.jpg?who=alice")
    assert "POST /api/verify 200" in caplog.text
    assert "GET (unknown path) 404" in caplog.text
    assert "Zo" not in caplog.text
    assert "alice" not in caplog.text


def test_no_interactive_documentation_but_a_schema(port):
    for path in ("/docs", "/redoc"):
        assert request(port, "GET", path).status == 404
    schema = request(port, "GET", "/openapi.json").json
    operation = schema["paths"]["/api/verify"]["post"]
    assert set(operation["responses"]) == {
        "200",
        "400",
        "401",
        "403",
        "408",
        "411",
        "413",
        "415",
        "422",
        "429",
        "503",
    }
    fields = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(fields["properties"]) == {
        "img1", "img2", "threshold", "threshold_probability", "fuse", "face1", "face2", "explain", "crops",
    }  # fmt: skip
    assert "http://" not in json.dumps(schema)
    assert "https://" not in json.dumps(schema)


# ---- many at a time ----


class SlowEngine:
    """The engine, which waits for a signal before every pair and counts how many are judged at a time."""

    def __init__(self, engine):
        self.engine, self.go = engine, threading.Event()
        self.now = self.most = 0

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def decide(self, *pair):
        self.now += 1
        self.most = max(self.most, self.now)
        self.go.wait(20)
        try:
            return self.engine.decide(*pair)
        finally:
            self.now -= 1


def test_a_full_queue_answers_429_and_the_page_goes_on(web_engine):
    engine = SlowEngine(web_engine)
    answers = queue.SimpleQueue()
    with served(engine, max_waiting=3) as port:
        threads = [threading.Thread(target=lambda: answers.put(verify(port, ONE, TWO))) for _ in range(5)]
        for thread in threads:
            thread.start()
        refused = [answers.get(timeout=20) for _ in range(2)]  # three are kept waiting
        assert [answer.status for answer in refused] == [429, 429]
        assert refused[0].headers["retry-after"] == "2"
        assert request(port, "GET", "/api/model").status == 200  # the event loop is free
        engine.go.set()
        assert [answers.get(timeout=20).status for _ in range(3)] == [200, 200, 200]
        for thread in threads:
            thread.join(20)
        assert engine.most == 1
        assert verify(port, ONE, TWO).status == 200  # room again


def test_waiting_bytes_are_bounded_too(web_engine):
    engine = SlowEngine(web_engine)
    with served(engine, max_waiting_bytes=1000 + len(ONE)) as port:
        thread = threading.Thread(
            target=verify, args=(port, ONE, TWO)
        )  # alone, it is larger than the bound: served
        thread.start()
        while not engine.now:
            time.sleep(0.01)
        assert verify(port, ONE, TWO).status == 429
        engine.go.set()
        thread.join(20)
        assert verify(port, ONE, TWO).status == 200


def test_room_is_given_back():
    async def use():
        bounded = BoundedQueue(1, 2, 100)
        try:
            async with bounded.admitted(60):
                with pytest.raises(uploads.Refused):
                    async with bounded.admitted(60):
                        pass
                async with bounded.admitted(40):
                    assert (bounded.requests, bounded.bytes) == (2, 100)
            with pytest.raises(RuntimeError):
                async with bounded.admitted(60):
                    raise RuntimeError
            return bounded.requests, bounded.bytes
        finally:
            bounded.close()

    assert asyncio.run(use()) == (0, 0)


@pytest.mark.parametrize("read_before", [0, 1, 3])
def test_what_was_left_unread_is_read_to_its_end_and_no_further(read_before):
    messages = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, True, False)]

    async def receive():
        return messages.pop(0)  # an IndexError past the end

    async def use():
        body = uploads.Body(receive)
        for _ in range(read_before):
            await body.receive()
        await body.discard()

    asyncio.run(use())
    assert messages == []
