"""yt-dlp with exact resumes: pins what comes over the wire, and lets no byte be appended to another file's."""

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import parse_http_range

from media_downloader.downloader.options import PROTOCOLS
from media_downloader.downloader.pins import PinFile, Source, fragments_digest
from media_downloader.downloader.problems import Incomplete, Refused, UnsupportedProtocol, chain
from media_downloader.downloader.resume import Folders, keep, wipe_source
from media_downloader.downloader.reticent import ReticentYoutubeDL, shorten_referer
from media_downloader.netguard import BlockedAddress

CHANGED = "Restarted from the beginning: the file on the server has changed."
NO_PROOF = "Restarted from the beginning: the server gives no way to prove that the file is still the same."
NO_RANGES = "Restarted from the beginning: the server cannot continue a download."

#: Answers that asking again at once does not change: no right, gone, too fast.
LASTING_REFUSALS = frozenset({401, 403, 410, 429, 451})
#: A date is a strong validator when the file was at rest for so long before it was sent (RFC 9110 section 8.8.2.2).
STRONG_DATE_SECONDS = 60


@dataclass(frozen=True)
class Told:
    """Who is told what is found out on the way."""

    #: Something that the user should know.
    notice: Callable[[str], None]
    #: The size of a source that nobody had announced; called before a byte of it is written.
    sized: Callable[[str, int], None]


class GuardedYoutubeDL(ReticentYoutubeDL):
    """Watches the two places through which every byte of media comes: ``dl`` for a file, ``urlopen`` for an answer."""

    def __init__(self, parameters: dict[str, Any], pin_file: PinFile, folders: Folders, told: "Told"):
        self._pin_file = pin_file
        self._folders = folders
        self._notice = told.notice
        self._sized = told.sized
        #: Whether a live stream is being recorded now: then, and only then, an interrupt ends it in order.
        self.recording = False
        #: Name of the source that is being downloaded, None for pages, subtitles and the like.
        self._current: str | None = None
        #: Files are being fetched, where yt-dlp asks again for what was refused; pages are not.
        self._fetching = False
        super().__init__(parameters)

    def dl(self, name: str, info: dict[str, Any], subtitle: bool = False, test: bool = False) -> Any:
        """Download one file; what is media is pinned under its name."""
        self._fetching = True
        # ffmpeg takes these as they are, and anybody on the machine can read its command line.
        shorten_referer(info.get("http_headers") or {}, str(info.get("url")))
        try:
            if subtitle or test:
                return super().dl(name, info, subtitle, test)
            return self._dl_media(name, info)
        finally:
            self._fetching = False

    def _dl_media(self, name: str, info: dict[str, Any]) -> Any:
        protocol = str(info.get("protocol"))
        if protocol not in PROTOCOLS:
            raise UnsupportedProtocol(f"The media comes over {protocol}, which downloads may not use.")
        source_name = Path(name).name
        if source_name not in self._pin_file.pins.sources:
            self._pin_file.pins.sources[source_name] = Source(
                format_id=str(info.get("format_id")),
                ext=str(info.get("ext")),
                protocol=protocol,
                announced_bytes=info.get("filesize"),
                live=bool(info.get("is_live")),
            )
            self._pin_file.save()
        self._current = source_name
        try:
            answer = self._record(name, info) if info.get("is_live") else super().dl(name, info)
        finally:
            self._current = None
        # A stream that yt-dlp hands on to ffmpeg is fetched without a word to the hooks.
        if answer and answer[0] and not (self._folders.keep / source_name).exists() and Path(name).is_file():
            keep(self._folders, source_name)
        return answer

    def _record(self, name: str, info: dict[str, Any]) -> Any:
        """Record a live stream until it ends or an interrupt asks for its end; either way the file counts."""
        self.recording = True
        try:
            return super().dl(name, info)
        except KeyboardInterrupt:
            # It came in the moment before or after the recorder could take it.
            left = next((path for path in (Path(name), Path(f"{name}.part")) if path.is_file()), None)
            if left is None:
                raise Incomplete("The recording was ended before anything was recorded.") from None
            left.replace(name)
            return True, True
        finally:
            self.recording = False

    def urlopen(self, req: Any) -> Any:
        """Open a URL; a blocked address is told at once, where yt-dlp would ask for it again and again."""
        try:
            return self._open(req)
        except RequestError as error:
            if self._fetching and any(isinstance(link, BlockedAddress) for link in chain(error)):
                raise Refused(str(error)) from error
            raise

    def _open(self, req: Any) -> Any:
        """Open a URL; a request for a part of a pinned source is made conditional and its answer is judged."""
        source = self._pin_file.pins.sources.get(self._current or "")
        if source is None or not isinstance(req, Request):
            return super().urlopen(req)
        if source.fragment_count is not None or source.protocol not in {"http", "https"}:
            return self._part_of_stream(req)
        start, _, _ = parse_http_range(req.headers.get("Range"))
        if not start:
            return self._first(req, source)
        return self._continued(req, source)

    def _part_of_stream(self, req: Request) -> Response:
        """Open a fragment; yt-dlp would ask again at once for one that was refused for good or for a while."""
        try:
            return super().urlopen(req)
        except HTTPError as error:
            if error.status in LASTING_REFUSALS:
                raise Refused(str(error)) from error
            raise

    def _first(self, req: Request, source: Source) -> Response:
        """Open from the beginning, and pin what the answer says of the file before a byte of it is written."""
        response = super().urlopen(req)
        if source.seen and not _same_file(source, response):
            self._notice(CHANGED)
        self._pin(source, response)
        return response

    def _continued(self, req: Request, source: Source) -> Response:
        if source.validator is None:
            return self._restart(req, source, NO_PROOF if source.seen else None)
        req.headers["If-Range"] = source.validator
        try:
            response = super().urlopen(req)
        except HTTPError as error:
            if error.status != 416:
                raise
            error.close()
            return self._restart(req, source, CHANGED)
        if response.status != 206:
            self._notice(NO_RANGES if _same_file(source, response) else CHANGED)
            self._pin(source, response)
            return response
        if not _same_part(source, response):
            response.close()
            return self._restart(req, source, CHANGED)
        return response

    def _restart(self, req: Request, source: Source, why: str | None) -> Response:
        """Ask for the whole file: yt-dlp then empties what it has and writes from the beginning."""
        whole = req.copy()
        whole.headers.pop("Range", None)
        whole.headers.pop("If-Range", None)
        response = super().urlopen(whole)
        if why is not None:
            self._notice(why)
        self._pin(source, response)
        return response

    def _pin(self, source: Source, response: Response) -> None:
        etag = response.headers.get("ETag")
        source.etag = etag if etag and not etag.startswith("W/") else None
        source.last_modified = _strong_date(response)
        source.total_bytes = _whole_length(response)
        source.seen = True
        self._pin_file.save()
        if source.total_bytes is not None and source.announced_bytes is None:
            self._sized(self._current or "", source.total_bytes)

    def pin_fragments(self, urls: list[str]) -> None:
        """Compare the list of fragments with the pinned one; another list means another file."""
        source = self._pin_file.pins.sources.get(self._current or "")
        if source is None:
            return
        digest = fragments_digest(urls)
        if source.fragments_digest not in {None, digest} or source.fragment_count not in {None, len(urls)}:
            self._notice(CHANGED)
            self._wipe_fragments(self._current or "")
        source.fragments_digest, source.fragment_count, source.seen = digest, len(urls), True
        self._pin_file.save()

    def _wipe_fragments(self, name: str) -> None:
        for path in self._folders.work.glob("*.part-Frag*"):
            if path.name.startswith(f"{name}.part-Frag"):
                path.unlink(missing_ok=True)

    def wipe(self, name: str) -> None:
        """Forget one source."""
        wipe_source(self._folders, name)


def _same_file(source: Source, response: Response) -> bool:
    """Say whether a whole answer is of the pinned file, as far as its validators tell."""
    etag, date = response.headers.get("ETag"), response.headers.get("Last-Modified")
    if source.etag is not None:
        return bool(etag == source.etag)
    if source.last_modified is not None:
        return bool(date == source.last_modified)
    return source.total_bytes == _whole_length(response)


def _same_part(source: Source, response: Response) -> bool:
    """Say whether a partial answer is of the pinned file: a server may ignore If-Range, so look for ourselves."""
    etag = response.headers.get("ETag")
    if source.etag is not None and etag is not None and etag != source.etag:
        return False
    date = response.headers.get("Last-Modified")
    if source.etag is None and date is not None and date != source.last_modified:
        return False
    _, _, total = parse_http_range(response.headers.get("Content-Range"))
    return source.total_bytes is None or total is None or total == source.total_bytes


def _whole_length(response: Response) -> int | None:
    _, _, total = parse_http_range(response.headers.get("Content-Range"))
    if total is not None:
        return int(total)
    length = response.headers.get("Content-Length")
    if response.headers.get("Content-Encoding") or length is None or not length.isdigit():
        return None
    return int(length)


def _strong_date(response: Response) -> str | None:
    try:
        modified = response.headers["Last-Modified"]
        sent = parsedate_to_datetime(response.headers["Date"])
        rested = (sent - parsedate_to_datetime(modified)).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return modified if rested >= STRONG_DATE_SECONDS else None


def guard_fragments() -> None:
    """Have every fragmented download show its list of fragments before the first one is fetched.

    This is the one seam between "the manifest was read" and "fragments come in" (yt_dlp/downloader/fragment.py).
    A live stream's list has no end and cannot be resumed; it is let through as it is.
    """
    original = FragmentFD.download_and_append_fragments

    def guarded(self: Any, ctx: dict[str, Any], fragments: Any, info_dict: dict[str, Any], **more: Any) -> Any:
        if not ctx.get("live") and isinstance(self.ydl, GuardedYoutubeDL):
            fragments = list(fragments)
            self.ydl.pin_fragments([fragment["url"] for fragment in fragments])
        return original(self, ctx, fragments, info_dict, **more)

    FragmentFD.download_and_append_fragments = guarded
