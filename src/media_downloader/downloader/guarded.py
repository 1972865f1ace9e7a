"""yt-dlp with exact resumes: pins what comes over the wire, and lets no byte be appended to another file's."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import ExtractorError, parse_http_range

from media_downloader.downloader.fragments import Answers, Prover, Sample, StreamPlan, kept_fragments
from media_downloader.downloader.options import PROTOCOLS
from media_downloader.downloader.pins import PinFile, Source
from media_downloader.downloader.problems import (
    ContentChanged,
    Incomplete,
    Refused,
    UnsupportedProtocol,
    chain,
    describe,
)
from media_downloader.downloader.resume import Folders, keep
from media_downloader.downloader.reticent import ReticentYoutubeDL, shorten_referer
from media_downloader.downloader.validators import Validators, same_file, same_part
from media_downloader.jobs.model import FailureKind
from media_downloader.netguard import BlockedAddress

CHANGED = "Restarted from the beginning: the file on the server has changed."
NO_PROOF = "Restarted from the beginning: the server gives no way to prove that the file is still the same."
NO_RANGES = "Restarted from the beginning: the server cannot continue a download."

#: Answers that asking again at once does not change: no right, gone, too fast.
LASTING_REFUSALS = frozenset({401, 403, 410, 429, 451})
NOT_IN_PARTS = "The server does not send parts of its files, which this stream is made of."
#: Marks the info of a stream of which nothing is to be fetched, only its list to be read.
PROVING_KEY = "__proving"


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
        #: Which fragment each thread is fetching.
        self._parts = threading.local()
        #: Sources of which an earlier attempt, or this one with older links, has something.
        self._before = {name for name, source in pin_file.pins.sources.items() if source.seen}
        #: Names of all sources that go into the result.
        self.expected: frozenset[str] = frozenset()
        #: Status of the last answer that refused a piece of a stream: yt-dlp's own errors do not tell it.
        self.refusal: int | None = None
        #: Whether a server has answered with media since this object was made: its links are alive.
        self.answered = False
        self._proving = False
        self._answers = Answers(folders.state / "answers.jsonl")
        self._prover = Prover(self._ask, folders, self._answers)
        #: Files are being fetched, where yt-dlp asks again for what was refused; pages are not.
        self._fetching = False
        super().__init__(parameters)

    def dl(self, name: str, info: dict[str, Any], subtitle: bool = False, test: bool = False) -> Any:
        """Download one file; what is media is pinned under its name."""
        self._fetching = True
        # ffmpeg takes these as they are, and anybody on the machine can read its command line.
        shorten_referer(info.get("http_headers") or {}, str(info.get("url")))
        try:
            if subtitle:
                return self._dl_subtitle(name, info)
            return super().dl(name, info, test=test) if test else self._dl_media(name, info)
        finally:
            self._fetching = False

    def _dl_subtitle(self, name: str, info: dict[str, Any]) -> Any:
        """Download subtitles; a film without them is better than none."""
        try:
            answer = super().dl(name, info, True)
        except Exception as error:
            if describe(error).kind in {FailureKind.DISK_FULL, FailureKind.BLOCKED_ADDRESS}:
                raise
            answer = (False, False)
        path = Path(name)
        if not answer[0] or not path.is_file() or path.stat().st_size == 0:
            path.unlink(missing_ok=True)
            self._notice(f"Subtitles are missing: {path.suffixes[-2].lstrip('.') if path.suffixes[1:] else path.name}")
        return answer

    def _dl_media(self, name: str, info: dict[str, Any]) -> Any:
        protocol = str(info.get("protocol"))
        # Several formats that come through one downloader have their protocols joined.
        if not set(protocol.split("+")) <= PROTOCOLS:
            raise UnsupportedProtocol(f"The media comes over {protocol}, which downloads may not use.")
        source_name = Path(name).name
        if info.get("requested_formats") and not info.get("is_live"):
            for found in info["requested_formats"]:
                self._source(Path(str(found.get("filepath") or name)).name, found)
            return super().dl(name, info)
        source = self._source(source_name, info)
        if source_name in self._before and (self._folders.keep / source_name).exists():
            self._prove_kept(name, info, source)
        self._current = source_name
        try:
            answer = self._record(name, info) if info.get("is_live") else super().dl(name, info)
        finally:
            self._current = None
        # A stream that yt-dlp hands on to ffmpeg is fetched without a word to the hooks.
        if answer and answer[0] and not (self._folders.keep / source_name).exists() and Path(name).is_file():
            keep(self._folders, source_name)
        return answer

    def _source(self, name: str, info: dict[str, Any]) -> Source:
        """Return the pins of a source, made when there are none yet."""
        sources = self._pin_file.pins.sources
        if name not in sources:
            sources[name] = Source(
                format_id=str(info.get("format_id")),
                ext=str(info.get("ext")),
                protocol=str(info.get("protocol")),
                announced_bytes=info.get("filesize"),
                live=bool(info.get("is_live")),
            )
            self._pin_file.save()
        return sources[name]

    def _prove_kept(self, name: str, info: dict[str, Any], source: Source) -> None:
        """Before more is fetched to go with a source that an earlier attempt completed: is it still what the site has?

        Raises ``ContentChanged`` when it is not: new sound does not belong to old pictures.
        """
        if self.expected and all((self._folders.keep / other).exists() for other in self.expected):
            return
        if source.fragment_count is not None:
            self._prove_kept_stream(name, info)
        elif source.protocol in {"http", "https"}:
            headers = info.get("http_headers") or self._calc_headers(dict(info))
            sample = Sample(self._folders.keep / Path(name).name, str(info["url"]), headers)
            if not self._prover.proves(sample, source.said):
                raise ContentChanged(CHANGED)

    def _prove_kept_stream(self, name: str, info: dict[str, Any]) -> None:
        """Have yt-dlp read the list of fragments, and stop it there: ``pin_fragments`` does the rest."""
        reading = {**self._copy_infodict(info), PROVING_KEY: True}
        reading["http_headers"] = reading.get("http_headers") or self._calc_headers(reading)
        self._proving = True
        try:
            with contextlib.suppress(_Proven):
                get_suitable_downloader(reading, self.params)(self, self.params).real_download(name, reading)
                raise ContentChanged(CHANGED)
        finally:
            self._proving = False
            for debris in (f"{name}.part", f"{name}.ytdl"):
                Path(debris).unlink(missing_ok=True)

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

    def raise_no_formats(self, info: Any, forced: bool = False, *, msg: str | None = None) -> None:
        """Fail for want of media; what the site said of when it will be there goes along."""
        try:
            super().raise_no_formats(info, forced, msg=msg)
        except ExtractorError as error:
            error.release_timestamp = info.get("release_timestamp")
            raise

    def urlopen(self, req: Any) -> Any:
        """Open a URL; a blocked address is told at once, where yt-dlp would ask for it again and again."""
        try:
            return self._open(req)
        except RequestError as error:
            if self._fetching and any(isinstance(link, BlockedAddress) for link in chain(error)):
                raise Refused(str(error)) from error
            raise

    def _ask(self, request: Request) -> Response:
        """Ask for media, or for a proof: neither what is pinned nor what is being fetched has a say in it."""
        response = super().urlopen(request)
        self.answered = True
        return response

    def _open(self, req: Any) -> Any:
        """Open a URL; a request for a part of a pinned source is made conditional and its answer is judged."""
        part: Part | None = getattr(self._parts, "current", None)
        source = self._pin_file.pins.sources.get(self._current or "")
        if not isinstance(req, Request) or (part is None and source is None):
            return super().urlopen(req)
        if part is not None:
            return self._part_of_stream(req, part)
        if source is None or source.protocol not in {"http", "https"}:
            return self._lasting(req)
        start, _, _ = parse_http_range(req.headers.get("Range"))
        if not start:
            return self._first(req, source)
        return self._continued(req, source)

    def _lasting(self, req: Request) -> Response:
        """Open a piece of a stream; yt-dlp would ask again at once for one that was refused for good or for a while."""
        self.refusal = None
        try:
            return super().urlopen(req)
        except HTTPError as error:
            self.refusal = error.status
            if error.status in LASTING_REFUSALS:
                raise Refused(str(error)) from error
            raise

    @contextlib.contextmanager
    def fetching(self, part: "Part") -> Iterator[None]:
        """Note which fragment the requests of this thread are for."""
        self._parts.current = part
        try:
            yield
        finally:
            self._parts.current = None

    def _part_of_stream(self, req: Request, part: "Part") -> Response:
        """Open a fragment, from its beginning or from where the line was cut, and note what the answer says of it."""
        start, _, _ = parse_http_range(req.headers.get("Range"))
        if (start or 0) > (part.start or 0):
            response = self._rest_of_part(req, part)
            if response is not None:
                return response
            req = _whole(req, part)
        response = self._lasting(req)
        if part.start is not None:
            sent_from, _, _ = parse_http_range(response.headers.get("Content-Range"))
            if response.status != 206 or sent_from != part.start:
                response.close()
                raise Refused(NOT_IN_PARTS)
        self.answered = True
        self._answers.note(part.name, part.number, Validators.of(response))
        return response

    def _rest_of_part(self, req: Request, part: "Part") -> Response | None:
        """Continue a fragment; None when that cannot be proven to be the same one, so that it must come whole."""
        then = self._answers.of(part.name).get(part.number)
        if then is None or then.condition is None:
            return None
        rest = req.copy()
        rest.headers["If-Range"] = then.condition
        try:
            response = self._lasting(rest)
        except HTTPError as error:
            if error.status != 416:
                raise
            error.close()
            return None
        if response.status == 206 and same_part(then, response):
            return response
        response.close()
        return None

    def _first(self, req: Request, source: Source) -> Response:
        """Open from the beginning, and pin what the answer says of the file before a byte of it is written."""
        response = self._ask(req)
        if source.seen and not same_file(source.said, response):
            self._changed_file(response)
        self._pin(source, response)
        return response

    def _continued(self, req: Request, source: Source) -> Response:
        condition = source.said.condition
        if condition is None:
            return self._restart(req, source, NO_PROOF if source.seen else None)
        req.headers["If-Range"] = condition
        try:
            response = self._ask(req)
        except HTTPError as error:
            if error.status != 416:
                raise
            error.close()
            return self._restart(req, source, CHANGED)
        if response.status != 206:
            if same_file(source.said, response):
                self._notice(NO_RANGES)
            else:
                self._changed_file(response)
            self._pin(source, response)
            return response
        if not same_part(source.said, response):
            response.close()
            return self._restart(req, source, CHANGED)
        return response

    def _restart(self, req: Request, source: Source, why: str | None) -> Response:
        """Ask for the whole file: yt-dlp then empties what it has and writes from the beginning."""
        whole = req.copy()
        whole.headers.pop("Range", None)
        whole.headers.pop("If-Range", None)
        response = self._ask(whole)
        if why == CHANGED:
            self._changed_file(response)
        elif why is not None:
            self._notice(why)
        self._pin(source, response)
        return response

    def _changed_file(self, response: Response) -> None:
        try:
            self._changed(self._current or "")
        except ContentChanged:
            response.close()
            raise

    def _pin(self, source: Source, response: Response) -> None:
        said = Validators.of(response)
        source.etag, source.last_modified, source.total_bytes = said.etag, said.last_modified, said.total_bytes
        source.seen = True
        self._pin_file.save()
        if source.total_bytes is not None and source.announced_bytes is None:
            self._sized(self._current or "", source.total_bytes)

    def pin_fragments(self, name: str, plan: StreamPlan) -> None:
        """Prove that what is kept of a stream belongs to this list of fragments; what does not is fetched anew."""
        source = self._pin_file.pins.sources.get(name)
        if source is None:
            return
        if source.fragment_count is not None and not self._prover.proves_stream(name, source, plan):
            self._changed(name)
            for path in kept_fragments(self._folders.work, name).values():
                path.unlink()
            self._answers.forget(name)
        plan.pin(source)
        self._pin_file.save()
        if self._proving:
            raise _Proven

    def _changed(self, name: str) -> None:
        """Say that a source is another one now. What an earlier attempt has of others does not go with it."""
        if self._proving or self._before - {name}:
            raise ContentChanged(CHANGED)
        self._notice(CHANGED)


class _Proven(Exception):
    """Ends the reading of a list of fragments of which nothing is to be fetched."""


class Part(NamedTuple):
    """The fragment that is being fetched: its source, its number, and the bytes of a larger file that it is."""

    name: str
    number: int
    start: int | None
    end: int | None


def _whole(req: Request, part: Part) -> Request:
    """Return the request for a whole fragment: yt-dlp then empties what it has of it."""
    whole = req.copy()
    whole.headers.pop("Range", None)
    if part.start is not None:
        whole.headers["Range"] = f"bytes={part.start}-{part.end}"
    return whole
