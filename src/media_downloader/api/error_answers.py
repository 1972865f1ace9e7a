"""The one place where errors become answers: one body, one handler, documented on every route."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from media_downloader import errors
from media_downloader.api.schemas import ErrorBody

log = structlog.get_logger(__name__)

#: Problems that are named in one answer.
MAX_FIELDS = 20

_BY_STATUS: Mapping[int, type[errors.MediaDownloaderError]] = {
    400: errors.MalformedRequest,
    404: errors.NotFound,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
}


def error_response(error: errors.MediaDownloaderError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as an answer."""
    body = {**error.facts, "error": error.code, "detail": error.detail}
    extra = dict(headers or {})
    if isinstance(error, errors.RangeNotSatisfiable):
        extra["Content-Range"] = f"bytes */{error.facts['size_bytes']}"
    if error.status in {429, 503}:
        extra.setdefault("Retry-After", "5")
    return JSONResponse(body, error.status, extra)


def install(app: FastAPI, routes: Sequence[Route]) -> None:
    """Have every error of the app answered in the one shape."""

    async def not_allowed(request: Request, error: Exception) -> JSONResponse:
        """Name every method of the path: the framework names those of one of its routes."""
        found = {m for route in routes if route.path_regex.match(request.url.path) for m in route.methods or ()}
        return error_response(errors.MethodNotAllowed("This cannot be done here."), {"Allow": ", ".join(sorted(found))})

    app.add_exception_handler(405, not_allowed)
    app.add_exception_handler(errors.MediaDownloaderError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.MediaDownloaderError)
    if error.status >= 500:
        log.error("Request failed", error=error.code, detail=error.detail)
    return error_response(error)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Name what is wrong with a request, and never repeat its content: that may be long, or a secret."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return error_response(errors.MalformedRequest("The body is not JSON."))
    if any(problem["type"] == "missing" and problem["loc"] == ("body",) for problem in problems):
        return error_response(errors.MalformedRequest("A JSON body is needed."))
    fields = [
        {"field": ".".join(str(part) for part in problem["loc"][1:])[:100], "problem": _plain(problem["msg"])}
        for problem in problems[:MAX_FIELDS]
    ]
    first = fields[0]
    detail = f"{first['field']}: {first['problem']}" if first["field"] else first["problem"]
    return error_response(errors.RequestError(_printable(detail), fields=[_clean(field) for field in fields]))


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")[:200]


def _clean(field: Mapping[str, str]) -> dict[str, str]:
    return {name: _printable(value) for name, value in field.items()}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, errors.RequestError)
    details = {
        404: "There is nothing here.",
        400: "The body is not JSON that can be read.",
    }
    return error_response(kind(details.get(error.status_code, str(error.detail))), error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """A mistake of ours: the log gets the trace, the client does not."""
    log.error("Request failed unexpectedly", path=request.url.path, exc_info=error)
    told = errors.MediaDownloaderError("Something went wrong inside. It is in the server's log.")
    # The server closes a connection on which something went wrong: a client must not send its next request on it.
    return error_response(told, {"Connection": "close"})


def documented(*kinds: type[errors.MediaDownloaderError]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the errors that a route may answer, beside those that every route may."""
    everywhere = (
        errors.MalformedRequest,
        errors.HostNotAllowed,
        errors.OriginNotAllowed,
        errors.RequestError,
        errors.StoreUnavailable,
    )
    found: dict[int | str, dict[str, Any]] = {}
    kind: type[errors.MediaDownloaderError]
    for kind in (*kinds, *everywhere):
        entry = found.setdefault(kind.status, {"model": ErrorBody, "description": "", "content": {}})
        said = (kind.__doc__ or "").splitlines()[0].replace("``", "`").rstrip(".")
        entry["description"] = "; ".join(filter(None, (entry["description"], f"`{kind.code}`: {said}")))
        examples = entry["content"].setdefault("application/json", {}).setdefault("examples", {})
        examples[kind.code] = {"value": {"error": kind.code, "detail": f"{said}."}}
    return found
