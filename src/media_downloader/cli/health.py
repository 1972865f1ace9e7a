"""Whether the server or the worker of this machine does its work: what a container's health check asks."""

import asyncio
import http.client
import json
import socket
from typing import Any

import typer

from media_downloader.errors import MediaDownloaderError
from media_downloader.settings import Settings

#: A check that takes longer than this is no sign of health; container engines give it about as long.
ANSWER_SECONDS = 5.0
#: Addresses that mean "every one of this machine": listened on, but not to be called.
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here


def check(settings: Settings, *, worker: bool) -> int:
    """Print one line; return 0 when all is well, 1 when not."""
    problem = _worker_problem(settings) if worker else _server_problem(settings)
    typer.echo(problem or "ok", err=problem is not None)
    return 0 if problem is None else 1


def _server_problem(settings: Settings) -> str | None:
    """Ask the server whether its process answers.

    Not whether all is well behind it: restarting a server does not bring its Redis back.
    """
    host = EVERY_ADDRESS.get(settings.host, settings.host)
    place = f"{host}:{settings.port}"
    connection = http.client.HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/health/live")
        response = connection.getresponse()
        body: Any = json.loads(response.read(1024))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"No server answers at {place}: {error or type(error).__name__}."
    finally:
        connection.close()
    if response.status != http.client.OK or body != {"status": "ok"}:
        return f"What answers at {place} ({response.status}) is no Media Downloader that is well."
    return None


def _worker_problem(settings: Settings) -> str | None:
    """Look for a worker of this host among those that tell Redis that they live.

    A worker has no port to ask at, and a process that is there says little: it may be deaf.
    """
    from media_downloader.bootstrap.cluster import registry_of

    async def workers() -> Any:
        registry = registry_of(settings)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await registry.workers()
        finally:
            await registry.close()

    host = socket.gethostname()
    try:
        ours = [one for one in asyncio.run(workers()) if one.host == host and one.alive]
    except TimeoutError:
        return "Redis does not answer."
    except MediaDownloaderError as error:
        return error.detail
    if not ours:
        return f"No worker of this host ({host}) has told Redis lately that it lives."
    if all(one.problems for one in ours):
        return " ".join(problem for one in ours for problem in one.problems)
    return None
