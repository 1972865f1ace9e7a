"""Fragments of streams: what was said of each when it came, and the proof that the server still has the same stream."""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import parse_http_range

from media_downloader.downloader.options import pause
from media_downloader.downloader.pins import PinFile, Source
from media_downloader.downloader.problems import Incomplete
from media_downloader.downloader.resume import Folders
from media_downloader.downloader.validators import Validators, whole_length

#: Where a server gives no validators, so much of a fragment is fetched again and compared byte by byte.
PROOF_BYTES = 512 * 1024
#: Tries of a request for a proof; more is a matter of the job's own retries.
PROOF_TRIES = 3
#: What AES in blocks adds to a fragment at most.
AES_BLOCK_BYTES = 16
#: Where the durations that a media playlist names travel, from its text to its fragments.
SECONDS_KEY = "__fragment_seconds"

_EXTINF = re.compile(r"^#EXTINF:\s*([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True)
class StreamPlan:
    """The list of fragments of one source, as it is on the server now."""

    #: yt-dlp's own dicts, in their order: ``frag_index``, ``url``, ``byte_range``.
    fragments: Sequence[Mapping[str, Any]]
    headers: Mapping[str, str]
    #: Digest of what makes the list: byte ranges, durations, how it is encrypted.
    shape: str
    #: Digest of the paths of fragments and keys; a token in a path changes with each visit, the shape does not.
    paths: str
    encrypted: bool
    #: How long the fragments play together, as far as the manifest tells.
    seconds: float | None

    @classmethod
    def of(cls, fragments: Iterable[Mapping[str, Any]], info: Mapping[str, Any]) -> "StreamPlan":
        """Read the list that a downloader is about to fetch, with the info that it has it from."""
        found = list(fragments)
        told = info.get(SECONDS_KEY) or [part.get("duration") for part in info.get("fragments") or ()]
        seconds = [float(value) for value in told if isinstance(value, int | float)]
        keys = [part.get("decrypt_info") or {} for part in found]
        methods = [str(key.get("METHOD") or "NONE") for key in keys]
        ranges = [part.get("byte_range") or {} for part in found]
        rows = [
            f"{span.get('start')}-{span.get('end')} {method} {_initial_vector(key)}"
            for span, method, key in zip(ranges, methods, keys, strict=True)
        ]
        links = [f"{_path(part['url'])} {_path(key.get('URI'))}" for part, key in zip(found, keys, strict=True)]
        return cls(
            fragments=found,
            headers=dict(info.get("http_headers") or {}),
            shape=_digest([*rows, *(f"{value:.3f}" for value in seconds)]),
            paths=_digest(links),
            encrypted=any(method != "NONE" for method in methods),
            seconds=sum(seconds) or None,
        )

    def has_shape_of(self, source: Source) -> bool:
        """Say whether the pinned list can be of the same stream."""
        return source.fragment_count == len(self.fragments) and source.fragments_digest == self.shape

    def pin(self, source: Source) -> None:
        """Write down which list it was."""
        source.fragment_count, source.fragments_digest, source.paths_digest = (
            len(self.fragments),
            self.shape,
            self.paths,
        )
        source.encrypted, source.media_seconds, source.seen = self.encrypted, self.seconds, True


def seconds_of_playlist(text: str) -> list[float]:
    """Return what a media playlist says of the durations of its segments."""
    found = []
    for value in _EXTINF.findall(text):
        with contextlib.suppress(ValueError):
            found.append(float(value))
    return found


def _digest(rows: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _path(url: object) -> str:
    return urlsplit(str(url)).path if url else ""


def _initial_vector(key: Mapping[str, Any]) -> str:
    vector = key.get("IV")
    return vector.hex() if isinstance(vector, bytes) else str(vector or "")


class Answers:
    """What the server said of each fragment when it began to send it: a line each in ``state/answers.jsonl``.

    A line that a power cut took or tore is no loss: its fragment is then proven by its bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[int, Validators]] = {}
        with contextlib.suppress(OSError):
            for line in path.read_bytes().splitlines():
                self._read(line)

    def _read(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, ValidationError, TypeError, KeyError):
            told = json.loads(line)
            self._known.setdefault(str(told["name"]), {})[int(told["index"])] = Validators.model_validate(told["said"])

    def note(self, name: str, index: int, said: Validators) -> None:
        """Remember what was said of a fragment, before a byte of it is written."""
        self._known.setdefault(name, {})[index] = said
        self._append([(name, index, said)], "ab")

    def of(self, name: str) -> Mapping[int, Validators]:
        """Return what was said of the fragments of a source, by their numbers."""
        return self._known.get(name, {})

    def forget(self, name: str) -> None:
        """Forget one source: its fragments are gone."""
        if self._known.pop(name, None) is not None:
            self._append([(of, index, said) for of, known in self._known.items() for index, said in known.items()])

    def _append(self, rows: Sequence[tuple[str, int, Validators]], mode: str = "wb") -> None:
        lines = [
            json.dumps({"name": name, "index": index, "said": said.model_dump(exclude_none=True)}) + "\n"
            for name, index, said in rows
        ]
        with self._path.open(mode) as file:
            file.write("".join(lines).encode())


@dataclass(frozen=True)
class Sample:
    """Bytes that are kept, and where the server has the same ones."""

    path: Path
    url: str
    headers: Mapping[str, str]
    start: int = 0
    #: The bytes are a part of a file of the server.
    ranged: bool = False

    def request(self, count: int) -> Request:
        """Return the request for the first bytes of it."""
        whole = {**self.headers, "Accept-Encoding": "identity", "Range": f"bytes={self.start}-{self.start + count - 1}"}
        return Request(self.url, headers=whole)


class Prover:
    """Asks the server whether it still has what is kept: a byte of it where validators tell, some more where not."""

    def __init__(self, ask: Callable[[Request], Response], folders: Folders, answers: Answers) -> None:
        self._ask = ask
        self._folders = folders
        self._answers = answers

    def proves_stream(self, name: str, source: Source, plan: StreamPlan) -> bool:
        """Say whether the kept fragments, or the kept file that was made of them, are of this stream."""
        if not plan.has_shape_of(source):
            return False
        kept = set(kept_fragments(self._folders.work, name))
        if not kept and (self._folders.keep / name).exists():
            kept = set(self._answers.of(name))
            if not kept:
                return False
        listed = {int(part["frag_index"]): part for part in plan.fragments}
        if not kept <= set(listed):
            return False
        moved = plan.paths != source.paths_digest
        samples = {index: _sample(self._folders.work, name, listed[index], plan) for index in kept}
        ends = sorted({min(kept), max(kept)}) if kept else []
        return all(self.proves(samples[index], self._answers.of(name).get(index), moved) for index in ends)

    def proves(self, sample: Sample, then: Validators | None, moved: bool = False) -> bool:
        """Say whether the server has these bytes still. Raises what the request raises, but for "no such range"."""
        try:
            if then is not None and not moved and then.condition:
                with contextlib.closing(self._patiently(sample.request(1))) as response:
                    same = then.compare(Validators.of(response))
                if same is not None:
                    return same
            return self._same_bytes(sample)
        except HTTPError as error:
            if error.status != 416:
                raise
            error.close()
            return False

    def _same_bytes(self, sample: Sample) -> bool:
        try:
            size = sample.path.stat().st_size
            with sample.path.open("rb") as file:
                mine = file.read(PROOF_BYTES)
        except FileNotFoundError:
            return False
        with contextlib.closing(self._patiently(sample.request(len(mine)))) as response:
            if sample.start != (parse_http_range(response.headers.get("Content-Range"))[0] or 0):
                return False
            if not sample.ranged and whole_length(response) not in {None, size}:
                return False
            theirs = bytearray()
            while len(theirs) < len(mine) and (piece := response.read(len(mine) - len(theirs))):
                theirs += piece
        return bytes(theirs) == mine

    def _patiently(self, request: Request) -> Response:
        for tried in range(PROOF_TRIES - 1):
            try:
                return self._ask(request)
            except HTTPError as error:
                if error.status < 500:
                    raise
                error.close()
            except TransportError:
                pass
            time.sleep(pause(tried))
        return self._ask(request)


def _sample(work: Path, name: str, part: Mapping[str, Any], plan: StreamPlan) -> Sample:
    span = part.get("byte_range") or {}
    path = work / f"{name}.part-Frag{part['frag_index']}"
    return Sample(path, str(part["url"]), plan.headers, int(span.get("start") or 0), bool(span))


def kept_fragments(work: Path, name: str) -> dict[int, Path]:
    """Return the complete fragments of a source, by yt-dlp's numbers."""
    found = {}
    for path in work.iterdir():
        number = path.name.removeprefix(f"{name}.part-Frag")
        if number != path.name and number.isdigit():
            found[int(number)] = path
    return found


def check_assembled(folders: Folders, pin_file: PinFile, name: str) -> None:
    """Count what went into a source that was made of fragments, and pin its size. Raises ``Incomplete``."""
    source = pin_file.pins.sources[name]
    if source.fragment_count is None:
        return
    parts = kept_fragments(folders.work, name)
    if len(parts) != source.fragment_count:
        raise Incomplete(f"{len(parts)} fragments came in, {source.fragment_count} were announced.")
    size = (folders.work / name).stat().st_size
    most = sum(path.stat().st_size for path in parts.values())
    least = most - AES_BLOCK_BYTES * len(parts) if source.encrypted else most
    # Smooth Streaming gets a header that is in none of its fragments.
    if size < least or (size > most and source.protocol != "ism"):
        raise Incomplete(f"The fragments have {most} bytes, the file that was made of them {size}.")
    source.assembled_bytes = size
    pin_file.save()
