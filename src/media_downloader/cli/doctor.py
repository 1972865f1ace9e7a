"""Says what is missing on this machine, and how to get it."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from media_downloader.bootstrap import look_at_redis, storage_of
from media_downloader.cli.render import plain, size
from media_downloader.downloader import landlock
from media_downloader.errors import BackendError, ConfigurationError, StorageUnavailable
from media_downloader.logs import configure_logging
from media_downloader.overview import versions
from media_downloader.settings import Settings
from media_downloader.tools import Tool, Tools

if TYPE_CHECKING:
    from media_downloader.objects import ObjectStorage

#: Where the details begin.
INDENT = 28
#: A tool that takes longer to tell its version is broken.
VERSION_SECONDS = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    #: Whether downloads need it.
    needed: bool = True


def examine(settings: Settings, *, as_json: bool) -> int:
    """Print the findings; return 0 when everything that is needed is here."""
    # What is logged on the way is not of the findings, which programs read from standard output.
    configure_logging(settings.model_copy(update={"log_dir": None}))
    findings = list(_findings(settings))
    missing = [finding.name for finding in findings if finding.needed and not finding.ok]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
        typer.echo(f"\nMissing: {', '.join(missing)}." if missing else "\nEverything that downloads need is here.")
    return 1 if missing else 0


def _print(findings: Sequence[Finding]) -> None:
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for finding in findings:
        mark = "ok" if finding.ok else ("MISSING" if finding.needed else "off")
        head = f"{mark:<8} {finding.name:<{INDENT - 10}} "
        typer.echo(
            textwrap.fill(
                plain(finding.detail),
                max(60, columns),
                initial_indent=head,
                subsequent_indent=" " * INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _findings(settings: Settings) -> Iterator[Finding]:
    found = versions()
    yield Finding("Python", sys.version_info >= (3, 11), found["python"])
    yield Finding("yt-dlp", "yt-dlp" in found, found.get("yt-dlp", "It is missing. Install it again: make install"))
    for tool in Tools(settings).all():
        yield _tool(tool)
    live = landlock.as_tool(unconfined_allowed=settings.allow_unconfined_ffmpeg)
    yield Finding("live streams", live.path is not None, live.problem or f"can be recorded ({live.path})", needed=False)
    yield _folder("downloads folder", settings.downloads_dir, "YTDLP_OUTPUT_PATH")
    yield _folder("data folder", settings.data_dir, "MEDIA_DOWNLOADER_DATA_DIR")
    yield _space(settings)
    yield _port(settings)
    yield _redis(settings)
    yield _object_storage(settings)


def _tool(tool: Tool) -> Finding:
    if tool.path is None:
        return Finding(tool.name, False, tool.problem or "It is missing.", tool.needed)
    asked = "--version" if tool.name == "js_runtime" else "-version"
    try:
        told = subprocess.run([tool.path, asked], capture_output=True, timeout=VERSION_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(tool.name, False, f"{tool.path} is there but does not run: {error}", tool.needed)
    lines = told.stdout.decode("utf-8", "replace").splitlines()
    return Finding(tool.name, True, f"{tool.path} ({_version(lines[0] if lines else '')})", tool.needed)


def _version(line: str) -> str:
    """Return "ffmpeg 7.1" of "ffmpeg version 7.1 Copyright (c) ..."."""
    return " ".join(line.replace(" version", "").split()[:2]) or "it tells no version"


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _folder(name: str, folder: Path, setting: str) -> Finding:
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is no folder"
        return Finding(name, False, f"{there} {why}. Change its owner (chown), or set {setting} to another folder.")
    return Finding(name, True, f"{folder}" + ("" if folder.exists() else " (will be made)"))


def _space(settings: Settings) -> Finding:
    stat = os.statvfs(_existing(settings.downloads_dir))
    free = stat.f_bavail * stat.f_frsize
    floor = settings.min_free_bytes
    if free >= floor:
        return Finding("free space", True, f"{size(free)}, of which {size(floor)} are kept free")
    told = f"{size(free)}, but {size(floor)} are kept free: make room, or lower MEDIA_DOWNLOADER_MIN_FREE_BYTES."
    return Finding("free space", False, told)


def _port(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            told = f"{settings.host}:{settings.port}: {error.strerror}. A server may run already; see: mdl jobs list"
            return Finding("port", False, told, needed=False)
    return Finding("port", True, f"{settings.host}:{settings.port} is free")


def _redis(settings: Settings) -> Finding:
    """Redis is needed by many machines alone."""
    needed = settings.mode == "celery"
    if settings.redis_url is None:
        told = "MEDIA_DOWNLOADER_MODE=celery needs REDIS_URL." if needed else "one machine needs no Redis."
        return Finding("Redis", not needed, f"REDIS_URL is not set; {told}", needed)
    try:
        alive = asyncio.run(look_at_redis(settings))
    except (ConfigurationError, BackendError) as error:
        rest = "" if needed else " One machine does not need it: start it, or unset REDIS_URL."
        return Finding("Redis", False, error.detail + rest, needed)
    return Finding("Redis", True, f"it answers, and {alive} workers live", needed)


def _object_storage(settings: Settings) -> Finding:
    """A bucket is a wish of its own: who has set one wants his files there."""
    name = "object storage"
    if settings.s3_bucket is None:
        return Finding(name, True, "No bucket is set: files stay in the downloads folder.", needed=False)
    try:
        storage = storage_of(settings)
        assert storage is not None
        asyncio.run(_ask(storage))
    except (ConfigurationError, StorageUnavailable) as error:
        return Finding(name, False, error.detail)
    return Finding(name, True, f'the bucket "{settings.s3_bucket}" answers')


async def _ask(storage: "ObjectStorage") -> None:
    try:
        await storage.check()
    finally:
        await storage.close()
