"""What an attempt leaves: files that were looked at from end to end and are on the disk, and their name."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yt_dlp import YoutubeDL

from media_downloader.downloader import options, recording, verify
from media_downloader.downloader.media_info import title_of
from media_downloader.downloader.pins import Pins, sync_folder
from media_downloader.downloader.problems import Incomplete, TooLarge
from media_downloader.downloader.protocol import Finished, MadeFile, Notice, Spec
from media_downloader.downloader.resume import Folders
from media_downloader.downloader.verify import Lengths
from media_downloader.downloader.voice import Voice
from media_downloader.netguard import redact_links

ONLY_PIECES = "The stream has ended meanwhile: what was recorded before the interruption is kept."

IN_PIECES = "The recording was interrupted: what came before is in files of its own."

NO_SUBTITLES = "There are no subtitles in the languages that were asked for."


class Outcome:
    """Verifies what came out of one attempt, and describes it."""

    def __init__(self, spec: Spec, folders: Folders, voice: Voice) -> None:
        self._spec = spec
        self._folders = folders
        self._voice = voice

    def of_download(self, info: Mapping[str, Any], pins: Pins, ydl: YoutubeDL) -> Finished:
        """Return the verified result of a download or a recording. Raises ``Incomplete`` and ``TooLarge``."""
        verify.check_sources(self._folders.keep, pins.sources)
        path = Path(str(info.get("filepath") or ""))
        if not path.name or not path.is_file():
            raise Incomplete("yt-dlp ended without a file.")
        limit = self._spec.max_size_bytes
        if limit is not None and not info.get("is_live") and path.stat().st_size > limit:
            raise TooLarge(f"The file has {path.stat().st_size} bytes, {limit} are allowed.")
        files = [self._made(path, "media", None, _lengths(info, pins))]
        if info.get("is_live"):
            files += self._pieces()
        files += self._subtitles(info)
        return Finished(files=tuple(files), name=self._name(info, path, ydl))

    def of_pieces(self, info_path: Path, ydl: YoutubeDL) -> Finished:
        """Keep what was recorded of a stream that is over; its info is that of the start."""
        self._voice.say(Notice(text=ONLY_PIECES))
        files = self._pieces()
        try:
            info = json.loads(info_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            info = {"id": "recording", "title": "recording"}
        return Finished(files=tuple(files), name=self._name(info, Path(files[0].path), ydl))

    def _pieces(self) -> list[MadeFile]:
        """Return what an interrupted recording left, each piece a file of its own."""
        found = recording.pieces(self._folders)
        if found:
            self._voice.say(Notice(text=IN_PIECES))
        made = []
        for number, piece in enumerate(found, start=1):
            path = recording.playable(piece, self._folders.work, self._spec.ffmpeg)
            made.append(self._made(path, "media").model_copy(update={"label": f"part {number}"}))
        return made

    def _subtitles(self, info: Mapping[str, Any]) -> list[MadeFile]:
        """Return the subtitles that came; a missing one has been told of and fails nothing."""
        asked = info.get("requested_subtitles") or {}
        if self._spec.options.subtitles and not asked:
            self._voice.say(Notice(text=NO_SUBTITLES))
        files = []
        for language, subtitle in asked.items():
            found = Path(str(subtitle.get("filepath") or ""))
            if found.name and found.is_file() and found.stat().st_size > 0:
                files.append(self._made(found, "subtitles", language))
        return files

    def _made(
        self, path: Path, role: str, language: str | None = None, lengths: Lengths = verify.ANY_LENGTH
    ) -> MadeFile:
        path = path.resolve()
        if not path.is_relative_to(self._folders.work.resolve()):
            raise Incomplete("yt-dlp wrote a file elsewhere.")
        content = verify.check_media(path, self._spec.ffmpeg, lengths)
        sha256 = verify.sha256_of(path) if self._spec.options.checksum else None
        # The word that follows is kept, and believed after a power cut: what it speaks of must be there then.
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return MadeFile(
            path=str(path.relative_to(self._folders.root.resolve())),
            size_bytes=path.stat().st_size,
            type=content.type,
            role=role,
            language=language,
            label=language,
            duration_seconds=content.duration_seconds,
            sha256=sha256,
        )

    def _name(self, info: Mapping[str, Any], path: Path, ydl: YoutubeDL) -> str:
        template = self._spec.options.output_template or options.DEFAULT_TEMPLATE
        extension = path.suffix.lstrip(".")
        known = {**info, "ext": extension, "title": title_of(info)}
        name: str = ydl.evaluate_outtmpl(template, known)
        return redact_links(name.removesuffix(f".{extension}"))


def _lengths(info: Mapping[str, Any], pins: Pins) -> Lengths:
    """Return how long the result may play; nobody knows it of what was or is live.

    Too long can only be what was put together: of a file that came in one piece, the size says it better.
    """
    if info.get("is_live") or info.get("was_live") or info.get("live_status") in {"is_live", "was_live", "post_live"}:
        return verify.ANY_LENGTH
    announced = info.get("duration") or None
    streams = [source for source in pins.sources.values() if source.fragment_count is not None]
    told = [source.media_seconds for source in streams]
    longest = None if not streams or None in told else max((announced or 0.0, *(value or 0.0 for value in told)))
    return Lengths(least=announced, most=longest)
