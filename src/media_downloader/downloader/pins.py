"""What was chosen at the first start of a job, and must still be so on the server when it is resumed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from media_downloader.downloader.validators import Validators


class Source(BaseModel):
    """One file that comes over the network: a format, by the name of its file in ``work/``."""

    model_config = ConfigDict(extra="forbid")

    format_id: str
    ext: str
    protocol: str
    #: What the extractor announced.
    announced_bytes: int | None = None
    #: Strong validators of the first answer (RFC 9110 section 8.8), and its whole length.
    etag: str | None = None
    last_modified: str | None = None
    total_bytes: int | None = None
    #: For fragmented sources: how many, and digests of what makes the list and of the paths in it.
    fragment_count: int | None = None
    fragments_digest: str | None = None
    paths_digest: str | None = None
    #: Fragments are encrypted, so that the file is a little smaller than they are together.
    encrypted: bool = False
    #: How long the fragments play together, as the manifest says.
    media_seconds: float | None = None
    #: Size of the file that was made of all fragments, once it was.
    assembled_bytes: int | None = None
    #: A live stream: it cannot be resumed, only recorded on.
    live: bool = False
    #: Whether an answer has been seen, so that the validators say something.
    seen: bool = False

    @property
    def said(self) -> Validators:
        """Return what the server said of the file."""
        return Validators(etag=self.etag, last_modified=self.last_modified, total_bytes=self.total_bytes)


class Pins(BaseModel):
    """The pins of a job, kept in ``state/pins.json``."""

    model_config = ConfigDict(extra="forbid")

    extractor: str | None = None
    media_id: str | None = None
    #: "137+140": what a new extraction must ask for.
    format: str | None = None
    duration_seconds: float | None = None
    sources: dict[str, Source] = {}

    def matches(self, info: Mapping[str, Any]) -> bool:
        """Say whether freshly extracted info is of the very same media and formats."""
        chosen = chosen_formats(info)
        if self.format is None or info.get("id") != self.media_id or info.get("extractor_key") != self.extractor:
            return False
        duration = info.get("duration")
        if self.duration_seconds is not None and duration is not None and abs(duration - self.duration_seconds) > 1:
            return False
        pinned = {source.format_id: source for source in self.sources.values()}
        for found in chosen:
            source = pinned.get(str(found.get("format_id")))
            if source is None:
                continue
            size = found.get("filesize")
            if (source.ext, source.protocol) != (str(found.get("ext")), str(found.get("protocol"))):
                return False
            if None not in (size, source.announced_bytes) and size != source.announced_bytes:
                return False
        return True


def chosen_formats(info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the formats that were chosen: several when they are merged, else the info itself."""
    return info.get("requested_formats") or [info]


class PinFile:
    """Reads and durably writes the pins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.pins = self._read()

    def _read(self) -> Pins:
        try:
            return Pins.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return Pins()

    def save(self) -> None:
        """Write the pins so that they are on the disk before the bytes that they speak of."""
        write_durably(self._path, self.pins.model_dump_json().encode())

    def forget(self) -> None:
        """Start anew: nothing is pinned."""
        self.pins = Pins()
        self._path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small private file: whole or not at all, also after a power cut."""
    part = path.with_name(path.name + ".new")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
