"""Says what is missing on this machine, and how to get it."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from media_downloader.overview import versions
from media_downloader.settings import Settings
from media_downloader.tools import Tools


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
    findings = list(_findings(settings))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "ok " if finding.ok else ("MISSING " if finding.needed else "off ")
            typer.echo(f"{mark:<8} {finding.name:<18} {finding.detail}")
    return 0 if all(finding.ok or not finding.needed for finding in findings) else 1


def _findings(settings: Settings) -> Iterator[Finding]:
    found = versions()
    yield Finding("Python", sys.version_info >= (3, 11), found["python"])
    yield Finding("yt-dlp", "yt-dlp" in found, found.get("yt-dlp", "Install it again: make install"))
    for tool in Tools(settings).all():
        yield Finding(tool.name, tool.path is not None, tool.problem or str(tool.path), tool.needed)
    yield _folder("downloads folder", settings.downloads_dir, "YTDLP_OUTPUT_PATH")
    yield _folder("data folder", settings.data_dir, "MEDIA_DOWNLOADER_DATA_DIR")
    yield _space(settings)
    yield _port(settings)
    yield Finding("Redis", True, "Not configured, and not needed on one machine.", needed=False)


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _folder(name: str, folder: Path, setting: str) -> Finding:
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, False, f"{there} cannot be written. Change its owner, or set {setting}.")
    return Finding(name, True, f"{folder}" + ("" if folder.exists() else " (will be made)"))


def _space(settings: Settings) -> Finding:
    stat = os.statvfs(_existing(settings.downloads_dir))
    free = stat.f_bavail * stat.f_frsize
    ok = free >= settings.min_free_bytes
    return Finding("free space", ok, f"{free} bytes" + ("" if ok else f"; {settings.min_free_bytes} are kept free."))


def _port(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            told = f"{settings.host}:{settings.port}: {error.strerror}. A server may run already."
            return Finding("port", False, told, needed=False)
    return Finding("port", True, f"{settings.host}:{settings.port} is free")
