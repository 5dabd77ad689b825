"""The web application: the page's files, the API, and the guard in front of both."""

import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twin_dcal._version import __version__
from twin_dcal.data.formats import FORMATS_READ
from twin_dcal.errors import TwinDcalError
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.inference.templates import Fuse

from . import LOOPBACK
from .access import ANSWER_HEADERS, Access, Refusal, access_for
from .decision import Explains, decide, model_answer, rates_answer
from .explaining import stoppable
from .queue import BoundedQueue, ClientLeft
from .schemas import Decision, ModelAnswer, Options, Problem, RatesAnswer, wrong_value_message
from .uploads import MAX_BODY_BYTES, MAX_PHOTOS, Body, Refused, announced_bytes, read_upload

logger = logging.getLogger(__name__)

_SCRIPTS = ("page.js", "templates.js", "drawing.js", "words.js", "camera.js", "faces.js")
PAGE = {
    "/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css"), "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}": (name, "text/javascript") for name in _SCRIPTS},
}  # fmt: skip
_LOGGED = (*PAGE, "/openapi.json", "/api/model", "/api/rates", "/api/verify")
_REASONS = {
    400: "The form is damaged.", 401: "No token, or a wrong one.", 403: "Another site's page, or an unknown Host.",
    408: "The upload took too long.", 411: "No Content-Length.", 413: "A photo is too large.",
    415: "Not a multipart form.", 422: "A photo cannot be read, or a field is wrong.",
    429: "Too many requests at once; ask again after Retry-After.",
    503: "Too many connections, or the page is being closed.",
}  # fmt: skip


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ONCE = ("Host", "Origin", "Authorization", "Sec-Fetch-Site", "Content-Type", "Content-Length")
_LEFT = 499  # as nginx writes it


def create_app(
    engine: TwinInferenceEngine, *, token: str | None = None, host: str = LOOPBACK, names: Iterable[str] = (),
    explains: Explains | None = None, workers: int = 1, max_waiting: int = 64,
    max_waiting_bytes: int = 8 * MAX_BODY_BYTES,
) -> FastAPI:  # fmt: skip
    """The page and its API around an engine.

    Args:
        token: what requests to the API must carry; needed unless `host`, where the app will listen, is loopback.
        names: further host names under which the page may be opened, behind a proxy.
        explains: functions that give maps of a pair, by what is asked for; the page offers these.
        workers: pairs judged at a time. max_waiting, max_waiting_bytes: requests, and bytes of theirs, held at a
            time; more are answered 429.
    ConfigError for a host without a token; ModelError for a model without a threshold.
    """
    access = access_for(host, token, names)
    explains = explains or {}
    model_answer(engine, explains)  # a model without a threshold is refused now, not later
    jobs = BoundedQueue(workers, max_waiting, max_waiting_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with stoppable(engine):
            yield
            app.state.jobs_ended = jobs.close()

    app = FastAPI(
        title="twin_dcal", version=__version__, summary="Decide whether two photos show one person.",
        docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan,
        dependencies=[Security(HTTPBearer(auto_error=False))] if token else [],
    )  # fmt: skip
    app.state.jobs, app.state.jobs_ended = jobs, True
    app.add_middleware(Guard, access=access)
    _add_errors(app)
    _add_page(app)
    _add_api(app, engine, explains, jobs)
    return app


class Guard:
    """Refuses what `Access` refuses, puts the answer headers on everything, and logs path and status, nothing else."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, path, body = time.perf_counter(), scope["path"], Body(receive)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.discard()
                MutableHeaders(scope=message).update(ANSWER_HEADERS)
                known = path if path in _LOGGED else "(unknown path)"
                method = scope["method"] if scope["method"] in _METHODS else "(unknown method)"
                spent = 1000 * (time.perf_counter() - began)
                logger.info("%s %s %d, %.0f ms", method, known, message["status"], spent)
            await send(message)

        headers = Headers(scope=scope)
        refusal = _contradictory(headers) or self.access.refusal(path, headers)
        answer = self.app if refusal is None else _refused(refusal)
        await answer(scope, body.receive, sending)


def _contradictory(headers: Headers) -> Refusal | None:
    """A proxy before the page may believe the other of two values: of an Origin, or of a body's length, and then take
    the rest for somebody else's request (RFC 9112, 6.3)."""
    for name in _ONCE:
        if len(headers.getlist(name)) > 1:
            return Refusal(400, f"{name} is given more than once", {"Connection": "close"})
    if "content-length" in headers and "transfer-encoding" in headers:
        reason = "Content-Length and Transfer-Encoding exclude each other"
        return Refusal(400, reason, {"Connection": "close"})
    return None


def _refused(refusal: Refusal) -> JSONResponse:
    return JSONResponse({"detail": refusal.reason}, refusal.status, dict(refusal.headers))


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _refused(error.refusal)

    @app.exception_handler(ClientDisconnect)
    @app.exception_handler(ClientLeft)
    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=_LEFT)  # for the log; nobody is there to read it

    @app.exception_handler(TwinDcalError)
    async def mistaken(request: Request, error: TwinDcalError) -> Response:
        return _refused(Refusal(422, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _refused(Refusal(422, wrong_value_message(str(first["loc"][-1]), first["input"])))

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        return _refused(Refusal(500, "a fault of ours; the server's log has the details", ANSWER_HEADERS))


def _add_page(app: FastAPI) -> None:
    static = files(__package__) / "static"

    def add(path: str, content: bytes, kind: str) -> None:
        async def file(request: Request) -> Response:
            return Response(content, media_type=kind)

        app.add_route(path, file, methods=["GET"], include_in_schema=False)

    for path, (name, kind) in PAGE.items():
        add(path, (static / name).read_bytes(), kind)


def _add_api(app: FastAPI, engine: TwinInferenceEngine, explains: Explains, jobs: BoundedQueue) -> None:
    @app.get("/api/model", responses=_documented(401, 403))
    async def model_in_use() -> ModelAnswer:
        """The model in use and where its threshold is from."""
        return model_answer(engine, explains)

    @app.get("/api/rates", responses=_documented(401, 403, 422))
    async def error_rates(
        threshold: Annotated[float | None, Query(ge=-1, le=1, allow_inf_nan=False)] = None,
        photos1: Annotated[int, Query(ge=1, le=MAX_PHOTOS)] = 1,
        photos2: Annotated[int, Query(ge=1, le=MAX_PHOTOS)] = 1,
        fuse: Fuse = "quality",
    ) -> RatesAnswer:
        """Error rates at every threshold, on the model's validation pairs: of one photo each, or of so many."""
        return rates_answer(engine, threshold, fuse, (photos1, photos2))

    @app.post("/api/verify", responses=_documented(*_REASONS), openapi_extra=_form())
    async def verify(request: Request) -> Decision:
        """Decide whether photos show one person: img1 and img2, each once, or several times for further photos of the
        same. They are kept in memory while the request lasts."""
        async with jobs.admitted(announced_bytes(request)):
            upload = await read_upload(request)
            wanted = upload.options.explain
            if wanted != "none" and wanted not in explains:
                offered = " and ".join(sorted(explains)) or "no maps"
                raise Refused.because(
                    422, f"explain: {wanted} is not offered for this model; what is: {offered}"
                )
            if wanted != "none" and len(upload.img1) + len(upload.img2) > 2:
                raise Refused.because(422, "explain: maps are of one photo each; leave it out for several")
            return await jobs.run(lambda: decide(engine, explains, upload), _gone(request))


async def _gone(request: Request) -> None:
    """Ends when the client has left; its request must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": _REASONS[status]} for status in statuses}


def _form() -> dict[str, Any]:
    """The request body of `POST /api/verify` for the OpenAPI schema; `uploads` reads it without FastAPI."""
    photo = {"type": "string", "format": "binary", "description": f"{FORMATS_READ} are read."}
    photos = {"type": "array", "items": photo, "minItems": 1, "maxItems": MAX_PHOTOS}
    properties = {"img1": photos, "img2": photos, **Options.model_json_schema()["properties"]}
    schema = {
        "type": "object", "required": ["img1", "img2"], "properties": properties, "additionalProperties": False,
    }  # fmt: skip
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
