"""`Service` over HTTP: Starlette's routes, run by uvicorn. Needs the extra `serve`."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.serving.service import MOST_BYTES, Service

BODY_SECONDS = 5
"""Time within which a body must arrive [s]."""
GRACE_SECONDS = BODY_SECONDS + 1
"""Time that started requests may still take after the server was told to stop [s]."""


class _Answer(JSONResponse):
    """Response in ASCII JSON, as with `--stdin`: an error message may repeat half of a surrogate pair, which UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def application(service: Service) -> Starlette:
    """Return the application with `POST /act`, `POST /reset` and `GET /health`; every answer is JSON, an error is `{"error": sentence}`.

    Status of errors: 400 for text that is no observation, or one that the guards refuse; 413 for more than `MOST_BYTES`; 408 for a body
    slower than `BODY_SECONDS`; 403 for a request from a page in a browser.
    """

    async def act(request: Request) -> Response:
        _refuse_pages(request)
        body = await _body(request)
        try:
            return _Answer(service.act(body))  # without awaiting: requests are answered one after another
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    async def reset(request: Request) -> Response:
        _refuse_pages(request)
        return _Answer(service.reset())

    async def health(request: Request) -> Response:
        return _Answer(service.health())

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if request.url.path == "/act":
            service.refuse()
        return _Answer({"error": error.detail}, error.status_code, error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        return _Answer({"error": "the server failed at this; what it printed says why"}, 500)

    handlers: dict[Any, Callable[..., Any]] = {HTTPException: http_error, Exception: failed}
    routes = [
        Route("/act", act, methods=["POST"]),
        Route("/reset", reset, methods=["POST"]),
        Route("/health", health),
    ]
    return Starlette(routes=routes, exception_handlers=handlers)


def run(service: Service, bound: socket.socket) -> None:
    """Answer requests at a bound socket until SIGINT, SIGTERM or SIGUSR1 arrives; then finish the started requests."""
    config = uvicorn.Config(
        application(service),
        loop="asyncio",
        http="auto",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again after it has stopped: without this outer handler the process would be killed by it.
    with SignalHandler().installed(lambda: setattr(server, "should_exit", True)):
        server.run(sockets=[bound])


def _refuse_pages(request: Request) -> None:
    """Raise HTTPException for requests with an Origin header, since any web page could otherwise command a policy on its reader's machine."""
    if "origin" in request.headers:
        raise HTTPException(403, "requests of pages in a browser are not answered")


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:  # uvicorn reads the rest and discards it
                    raise HTTPException(413, f"the body is larger than {MOST_BYTES} bytes: send smaller batches")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS} s") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the request ended before its body") from error
    return bytes(body)
