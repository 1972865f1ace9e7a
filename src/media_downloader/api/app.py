"""Puts the HTTP face together: routes, guards, the one error handler, start and stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from media_downloader import __version__
from media_downloader.api import docs_page, error_answers, events, files, info, jobs, system
from media_downloader.api.auth import Guard
from media_downloader.bootstrap import Container

DESCRIPTION = """
Downloads media from any site yt-dlp knows. A link becomes a **job** that can be paused, resumed, canceled, reordered
and retried, and that survives restarts and crashes.

Every error has one body: `{"error": "code", "detail": "for people", ...}`. Codes never change their meaning.
"""


def create_app(container: Container) -> FastAPI:
    """Return the app over a container; the container starts and stops with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await container.start()
        app.state.events = events.EventStream(container.bus, container.service)
        try:
            yield
        finally:
            app.state.events.close()
            await container.stop()

    app = FastAPI(
        title="Media Downloader",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.container = container
    routers = [module.router for module in (jobs, files, info, events, system, docs_page)]
    for router in routers:
        app.include_router(router)
    error_answers.install(app, [route for router in routers for route in router.routes if isinstance(route, Route)])
    app.add_middleware(Guard, settings=container.settings)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the schema without FastAPI's own error body, which this API never sends."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema
