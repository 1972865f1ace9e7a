"""Lists a playlist: its entries are sent as they are found, and nothing is downloaded."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from media_downloader.downloader.protocol import EntriesFound, Entry, Finished, MediaFound, Spec
from media_downloader.downloader.voice import Voice
from media_downloader.jobs.model import Media
from media_downloader.jobs.options import JobOptions
from media_downloader.netguard import redact_links

#: Entries in one message.
BATCH = 50
#: What is kept of an id, a title or a name.
MAX_TEXT_CHARS = 2000


def text_of(value: object) -> str | None:
    """Return what a site says as valid text; an id or a title can be a link, with all its secrets."""
    if value is None or value == "":
        return None
    return redact_links(str(value).encode("utf-8", "replace").decode())[:MAX_TEXT_CHARS]


def is_playlist(info: Mapping[str, Any], options: JobOptions) -> bool:
    """Say whether what was found is a playlist, and is to be taken as one."""
    return info.get("_type") in {"playlist", "multi_video"} and options.playlist is not False


def list_entries(info: Mapping[str, Any], spec: Spec, voice: Voice) -> Finished:
    """Send every entry, up to the limit."""
    voice.say(
        MediaFound(
            media=Media(
                id=text_of(info.get("id")),
                title=text_of(info.get("title")),
                uploader=text_of(info.get("uploader") or info.get("channel")),
                site=info.get("extractor_key"),
            )
        )
    )
    batch: list[Entry] = []
    for entry in entries_of(info, spec.playlist_limit):
        batch.append(entry)
        if len(batch) == BATCH:
            voice.say(EntriesFound(entries=tuple(batch)))
            batch = []
    if batch:
        voice.say(EntriesFound(entries=tuple(batch)))
    return Finished(is_playlist=True)


def entries_of(info: Mapping[str, Any], limit: int) -> Iterator[Entry]:
    """Yield the entries that have a link, numbered from 1 in the playlist's own order."""
    for index, raw in enumerate(info.get("entries") or [], start=1):
        if index > limit:
            return
        url = (raw or {}).get("url") or (raw or {}).get("webpage_url")
        if not url or urlsplit(str(url)).scheme not in {"http", "https"}:
            continue
        duration = raw.get("duration")
        yield Entry(
            index=index,
            url=str(url),
            id=text_of(raw.get("id")),
            title=text_of(raw.get("title")),
            duration_seconds=float(duration) if isinstance(duration, int | float) else None,
        )
