"""Lists a playlist: its entries are sent as they are found, and nothing is downloaded."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.utils import DownloadError, ExtractorError

from media_downloader.downloader.protocol import EntriesFound, Entry, Finished, MediaFound, Spec
from media_downloader.downloader.voice import Voice
from media_downloader.jobs.model import Media
from media_downloader.netguard import redact_links

#: Entries in one message.
BATCH = 50
#: How deep lists in lists are followed, and how many of them are asked for.
MAX_DEPTH = 3
MAX_NESTED = 50
#: Ends of links to feeds, which nothing else tells from links to media.
FEEDS = (".rss", ".xml", ".atom", "/rss", "/feed", "/rss/", "/feed/")
#: What is kept of an id, a title or a name.
MAX_TEXT_CHARS = 2000


def text_of(value: object) -> str | None:
    """Return what a site says as valid text; an id or a title can be a link, with all its secrets."""
    if value is None or value == "":
        return None
    return redact_links(str(value).encode("utf-8", "replace").decode())[:MAX_TEXT_CHARS]


def is_playlist(info: Mapping[str, Any]) -> bool:
    """Say whether what was found is a list of media."""
    return info.get("_type") in {"playlist", "multi_video"}


def list_entries(info: Mapping[str, Any], spec: Spec, voice: Voice, ydl: YoutubeDL) -> Finished:
    """Send every entry, those of lists within the list too, up to the limit."""
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
    for entry in entries_of(_flat(info, _Nested(ydl, spec.url)), spec.playlist_limit):
        batch.append(entry)
        if len(batch) == BATCH:
            voice.say(EntriesFound(entries=tuple(batch)))
            batch = []
    if batch:
        voice.say(EntriesFound(entries=tuple(batch)))
    return Finished(is_playlist=True)


def entries_of(info: Mapping[str, Any] | Iterable[Any], limit: int) -> Iterator[Entry]:
    """Yield the entries that have a link, numbered from 1 in the playlist's own order."""
    found = (info.get("entries") or []) if isinstance(info, Mapping) else info
    for index, raw in enumerate(found, start=1):
        if index > limit:
            return
        url = _link_of(raw)
        if not url or urlsplit(url).scheme not in {"http", "https"}:
            continue
        duration = raw.get("duration")
        yield Entry(
            index=index,
            url=url,
            id=text_of(raw.get("id")),
            title=text_of(raw.get("title")),
            duration_seconds=float(duration) if isinstance(duration, int | float) else None,
        )


def _link_of(raw: Mapping[str, Any] | None) -> str:
    return str((raw or {}).get("url") or (raw or {}).get("webpage_url") or "")


class _Nested:
    """Looks into entries that are lists themselves: the tabs of a channel, a feed in a feed."""

    def __init__(self, ydl: YoutubeDL, outermost: str) -> None:
        self._ydl = ydl
        self._left = MAX_NESTED
        #: By link: whether a list was found behind it.
        self._known = {outermost: True}

    def look_into(self, raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the list behind an entry, an empty one for a list that was met before.

        None for what is one piece of media, as far as can be told cheaply.
        """
        if is_playlist(raw):
            return raw
        url = _link_of(raw)
        if url in self._known:
            return {} if self._known[url] else None
        if self._left <= 0 or not self._is_list(raw, url):
            return None
        self._left -= 1
        try:
            found: dict[str, Any] | None = self._ydl.extract_info(url, download=False)
        except (DownloadError, ExtractorError):
            # The job that is made of it will say what is wrong.
            found = None
        inner = found if found is not None and is_playlist(found) else None
        self._known[url] = inner is not None
        return inner

    def _is_list(self, raw: Mapping[str, Any], url: str) -> bool:
        if raw.get("_type", "video") not in {"url", "url_transparent"}:
            return False
        key = raw.get("ie_key")
        if key in {None, "Generic"}:
            return urlsplit(url).path.lower().endswith(FEEDS)
        try:
            extractor = self._ydl.get_info_extractor(key)
        except KeyError:
            return False
        # A site's lists are told from its media by their extractor.
        return extractor.is_single_video(url) is False or str(key).endswith(("Tab", "Playlist", "Channel", "User"))


def _flat(info: Mapping[str, Any], nested: _Nested, depth: int = 0) -> Iterator[Any]:
    for raw in info.get("entries") or []:
        inner = nested.look_into(raw) if raw and depth < MAX_DEPTH else None
        if inner is None:
            yield raw
        else:
            yield from _flat(inner, nested, depth + 1)
