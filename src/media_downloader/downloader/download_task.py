"""Downloads one job into its work folder: extract or recall, plan, fetch, process, verify."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from media_downloader.downloader import guarded, options, recording
from media_downloader.downloader.fragments import check_assembled
from media_downloader.downloader.media_info import media_of, only_entry
from media_downloader.downloader.outcome import Outcome
from media_downloader.downloader.pins import PinFile, chosen_formats, write_durably
from media_downloader.downloader.playlist_task import is_playlist, list_entries
from media_downloader.downloader.problems import (
    ContentChanged,
    Incomplete,
    NotOneMedia,
    TooLarge,
    describe,
    status_of,
)
from media_downloader.downloader.progress import ProgressMeter
from media_downloader.downloader.protocol import Finished, MediaFound, Notice, Planned, Progressed, Spec, StateChanged
from media_downloader.downloader.resume import Folders, keep, prepare, present_bytes, wipe
from media_downloader.downloader.voice import Voice, YtdlpLogger
from media_downloader.jobs.model import FailureKind, Phase
from media_downloader.jobs.state import State

#: Answers that mean "this link has expired" when it worked before.
EXPIRED_STATUSES = frozenset({403, 404, 410})
#: Parts of the extracted info that are large and that nothing needs after the formats are chosen.
DROPPED = ("formats", "automatic_captions", "subtitles", "thumbnails", "heatmap", "requested_downloads", "entries")

START_OVER = "Restarted from the beginning: the site no longer has the very same format."

NOT_WHOLE = "What came in is not a whole file; the next attempt starts from the beginning."

EXPIRED = "The link had expired and was extracted anew."

#: Failures after which an interrupted recording is worth another try; after any other, what there is is kept.
STREAM_MAY_COME_BACK = frozenset(
    {FailureKind.NETWORK, FailureKind.SERVER_ERROR, FailureKind.RATE_LIMITED, FailureKind.DISK_FULL}
)

#: Failures that newer links do not help against.
NEVER_BY_AGE = frozenset(
    {
        FailureKind.TOO_LARGE,
        FailureKind.DISK_FULL,
        FailureKind.BLOCKED_ADDRESS,
        FailureKind.RATE_LIMITED,
        FailureKind.PROCESSING_FAILED,
        FailureKind.BAD_OPTIONS,
        FailureKind.DRM,
    }
)
OF_THE_LINE = frozenset({FailureKind.NETWORK, FailureKind.SERVER_ERROR})

_POSTPROCESSOR_PHASES = {"Merger": Phase.MERGE}


class DownloadTask:
    """One attempt, inside the download process."""

    def __init__(self, spec: Spec, voice: Voice) -> None:
        self._spec = spec
        self._voice = voice
        self._folders = Folders(Path(spec.workdir))
        self._folders.make()
        self._pin_file = PinFile(self._folders.state / "pins.json")
        self._info_path = self._folders.state / "info.json"
        self._meter = ProgressMeter(self._progressed, max_size_bytes=spec.max_size_bytes)
        self._ydl: guarded.GuardedYoutubeDL | None = None
        self._outcome = Outcome(spec, self._folders, voice)
        #: The info is that of an earlier start, and so are its links.
        self._recalled = False
        self._present = 0
        #: Whether the result is made of what comes in, which takes room of its own meanwhile.
        self._derives = False

    def run(self) -> Finished:
        """Return the verified result. Raises whatever went wrong; ``problems.describe`` makes sense of it."""
        self._tidy(distrust_tail=self._spec.distrust_tail)
        self._voice.on_finish = self._finish_recording
        self._voice.on_growth = self._recorded
        try:
            info = self._recall() or self._extract(pinned=self._pin_file.pins.format)
        except Exception as error:
            if not recording.pieces(self._folders) or describe(error).kind in STREAM_MAY_COME_BACK:
                raise
            return self._conclude_with_pieces()
        if is_playlist(info):
            return self._list(info)
        info = self._transfer(info)
        try:
            self._conclude_at(State.PROCESSING)
            assert self._ydl is not None
            return self._outcome.of_download(info, self._pin_file.pins, self._ydl)
        except Incomplete:
            # What came in is proven to be wrong: the next attempt must not build on it.
            self._voice.say(Notice(text=NOT_WHOLE))
            os.chdir(self._folders.root)
            wipe(self._folders, self._pin_file)
            raise

    def _tidy(self, *, distrust_tail: bool) -> None:
        """Bring the work folder to a state from which a start is exact."""
        os.chdir(self._folders.root)
        recording.set_aside(self._folders, self._pin_file.pins)
        prepare(self._folders, self._pin_file, distrust_tail=distrust_tail)
        os.chdir(self._folders.work)

    def _list(self, info: Mapping[str, Any]) -> Finished:
        if self._spec.options.playlist is False:
            raise NotOneMedia("There is a list of media behind this link, where one was expected.")
        assert self._ydl is not None
        return list_entries(info, self._spec, self._voice, self._ydl)

    def _conclude_at(self, state: State) -> None:
        self._voice.say(StateChanged(state=state))
        self._meter.phase(Phase.VERIFY)

    def _conclude_with_pieces(self) -> Finished:
        self._conclude_at(State.PROCESSING)
        assert self._ydl is not None
        return self._outcome.of_pieces(self._info_path, self._ydl)

    # --- what is behind the link --------------------------------------------------------------------------------

    def _recall(self) -> dict[str, Any] | None:
        """Return the info of the first start, unless its links are known to have expired."""
        if self._spec.fresh_info or self._pin_file.pins.format is None:
            return None
        try:
            info: dict[str, Any] = json.loads(self._info_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if info.get("is_live") or any(_has_expired(link) for link in _links(info)):
            return None
        self._open(pinned=self._pin_file.pins.format)
        self._recalled = True
        self._voice.say(MediaFound(media=media_of(info)))
        return info

    def _extract(self, pinned: str | None) -> dict[str, Any]:
        """Ask the site. With ``pinned``, for the very same formats; when it has them no more, start over."""
        self._recalled = False
        ydl = self._open(pinned)
        try:
            info = self._ask(ydl)
        except Exception as error:
            if pinned is None or "requested format is not available" not in str(error).lower():
                raise
            return self._start_over(START_OVER)
        if pinned is not None and not self._pin_file.pins.matches(info):
            return self._start_over(START_OVER)
        if not is_playlist(info):
            self._remember(info)
        return info

    def _ask(self, ydl: guarded.GuardedYoutubeDL) -> dict[str, Any]:
        info = ydl.extract_info(self._spec.url, download=False)
        if info is None:
            raise Incomplete("The site gave no answer that could be used.")
        found: dict[str, Any] = only_entry(ydl, info, self._spec)
        self._voice.say(MediaFound(media=media_of(found)))
        return found

    def _start_over(self, why: str) -> dict[str, Any]:
        self._voice.say(Notice(text=why))
        os.chdir(self._folders.root)
        wipe(self._folders, self._pin_file)
        os.chdir(self._folders.work)
        return self._extract(pinned=None)

    def _remember(self, info: Mapping[str, Any]) -> None:
        """Keep the info for a resume, and pin what was chosen."""
        assert self._ydl is not None
        pins = self._pin_file.pins
        if pins.format is None:
            pins.extractor, pins.media_id = info.get("extractor_key"), info.get("id")
            pins.format = "+".join(str(found.get("format_id")) for found in chosen_formats(info))
            pins.duration_seconds = info.get("duration")
            self._pin_file.save()
        kept = {key: value for key, value in info.items() if key not in DROPPED and not key.startswith("__")}
        if _can_be_stored(info):
            text = json.dumps(self._ydl.sanitize_info(kept))
            write_durably(self._info_path, text.encode())

    # --- the bytes ----------------------------------------------------------------------------------------------

    def _transfer(self, info: dict[str, Any]) -> dict[str, Any]:
        """Fetch and process. Links that have expired are extracted anew once, changed content is begun anew once."""
        tried: set[str] = set()
        while True:
            try:
                self._plan(info)
                return self._process(info)
            except (TooLarge, KeyboardInterrupt):
                raise
            except Exception as error:  # noqa: BLE001 - raised again unless there is a remedy
                trouble = error
            # Not inside the handler: what fails now would count the old error among its causes.
            changed = isinstance(trouble, ContentChanged)
            remedy = "anew" if changed else "renew"
            if remedy in tried or not (changed or self._may_have_expired(trouble)):
                raise trouble
            tried.add(remedy)
            self._voice.say(StateChanged(state=State.EXTRACTING))
            info = self._start_over(str(trouble)) if changed else self._renew()

    def _renew(self) -> dict[str, Any]:
        self._voice.say(Notice(text=EXPIRED))
        self._tidy(distrust_tail=False)
        return self._extract(pinned=self._pin_file.pins.format)

    def _may_have_expired(self, error: Exception) -> bool:
        """Say whether newer links may be the remedy. yt-dlp's own errors often do not tell what the server answered."""
        assert self._ydl is not None
        if (status_of(error) or self._ydl.refusal) in EXPIRED_STATUSES:
            return self._recalled or self._has_come_far()
        kind = describe(error).kind
        if kind in OF_THE_LINE:
            # Hosts of links vanish with them; one that has answered just now has not.
            return self._recalled and not self._ydl.answered
        return self._recalled and kind not in NEVER_BY_AGE

    def _has_come_far(self) -> bool:
        """Say whether the link worked before, so that a refusal now means that it has expired."""
        return any(source.seen for source in self._pin_file.pins.sources.values())

    def _plan(self, info: Mapping[str, Any]) -> None:
        assert self._ydl is not None
        sizes = []
        fragmented = False
        for name, found in self._names(info):
            pin = self._pin_file.pins.sources.get(name)
            pinned = None if pin is None else pin.total_bytes or pin.assembled_bytes
            size = found.get("filesize") or pinned or found.get("filesize_approx")
            sizes.append((name, None if size is None else int(size), _phase_of(found)))
            fragmented |= str(found.get("protocol")) not in {"http", "https"}
        self._ydl.expected = frozenset(name for name, _, _ in sizes)
        self._present = present_bytes(self._folders)
        self._meter.plan(sizes, self._present)
        total = self._meter.total_bytes()
        limit = self._spec.max_size_bytes
        exact = all(found.get("filesize") for _, found in self._names(info))
        if limit is not None and total is not None and exact and total > limit:
            raise TooLarge(f"The download has {total} bytes, {limit} are allowed.")
        self._derives = len(sizes) > 1 or fragmented or bool(options.parameters(self._spec)["postprocessors"])
        self._ask_for_room()
        self._voice.say(StateChanged(state=State.DOWNLOADING))

    def _ask_for_room(self) -> None:
        """Wait for the supervisor's word that what is to come fits on the disk; it ends this process otherwise."""
        total = self._meter.total_bytes()
        scratch = total or 0 if self._derives else 0
        self._voice.say(Planned(total_bytes=total, present_bytes=self._present, scratch_bytes=scratch))
        self._voice.wait_for_go()

    def _sized(self, name: str, total_bytes: int) -> None:
        """Take the size that the server told of a file whose page had told none."""
        self._meter.resize(name, total_bytes)
        limit = self._spec.max_size_bytes
        if limit is not None and total_bytes > limit:
            raise TooLarge(f"The download has {total_bytes} bytes, {limit} are allowed.")
        self._ask_for_room()

    @staticmethod
    def _names(info: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the file name of each source, as yt-dlp gives it (YoutubeDL.process_info)."""
        chosen = chosen_formats(info)
        if len(chosen) == 1 and not info.get("requested_formats"):
            return [(f"{options.STEM}.{info.get('ext')}", info)]
        return [(f"{options.STEM}.f{found.get('format_id')}.{found.get('ext')}", found) for found in chosen]

    def _process(self, info: dict[str, Any]) -> dict[str, Any]:
        assert self._ydl is not None
        working = dict(info)
        self._ydl.process_info(working)
        return working

    # --- yt-dlp -------------------------------------------------------------------------------------------------

    def _open(self, pinned: str | None) -> guarded.GuardedYoutubeDL:
        if self._ydl is not None:
            self._ydl.close()
        parameters = options.parameters(self._spec, pinned_format=pinned)
        parameters |= {
            "logger": YtdlpLogger(self._voice),
            "progress_hooks": [self._source_hook],
            "postprocessor_hooks": [self._postprocessor_hook],
        }
        self._ydl = guarded.GuardedYoutubeDL(
            parameters, self._pin_file, self._folders, guarded.Told(self._noticed, self._sized)
        )
        return self._ydl

    def _source_hook(self, status: dict[str, Any]) -> None:
        name = Path(str(status.get("filename"))).name
        if name not in self._pin_file.pins.sources:
            return
        self._meter.received(name, status)
        # What was kept before is told as finished too.
        if status.get("status") == "finished" and not (self._folders.keep / name).exists():
            check_assembled(self._folders, self._pin_file, name)
            keep(self._folders, name)

    def _postprocessor_hook(self, status: dict[str, Any]) -> None:
        if status.get("status") != "started" or status.get("postprocessor") == "MoveFiles":
            return
        self._voice.say(StateChanged(state=State.PROCESSING))
        self._meter.phase(_POSTPROCESSOR_PHASES.get(str(status.get("postprocessor")), Phase.CONVERT))

    def _finish_recording(self) -> None:
        """End a live recording in order; at any other moment the supervisor's patience decides."""
        if self._ydl is not None and self._ydl.recording:
            recording.interrupt_recorder()

    def _recorded(self, work_bytes: int) -> None:
        """Take how much a recorder, which says nothing of itself, has written by now."""
        if self._ydl is None or not self._ydl.recording:
            return
        self._meter.recorded(work_bytes)
        limit = self._spec.max_size_bytes
        if limit is not None and work_bytes >= limit:
            self._voice.say(Notice(text=f"The recording was ended at the limit of {limit} bytes."))
            self._finish_recording()

    def _noticed(self, text: str) -> None:
        self._voice.say(Notice(text=text))

    def _progressed(self, progress: Any) -> None:
        self._voice.say(Progressed(progress=progress))


def _phase_of(found: Mapping[str, Any]) -> Phase:
    return Phase.AUDIO if found.get("vcodec") == "none" else Phase.VIDEO


def _has_expired(url: object) -> bool:
    """Say whether a link says of itself that it is of the past (``expire``, ``Expires``: seconds since 1970)."""
    query = {key.lower(): values for key, values in parse_qs(urlsplit(str(url)).query).items()}
    for key in ("expire", "expires", "e"):
        value = query.get(key, [""])[0]
        if value.isdigit() and len(value) == 10:
            return int(value) < time.time() + 10
    return False


def _links(info: Mapping[str, Any]) -> Iterator[object]:
    for found in chosen_formats(info):
        yield found.get("url")
        yield found.get("fragment_base_url")
        yield from (part.get("url") for part in (found.get("fragments") or ())[-1:])


def _can_be_stored(info: Mapping[str, Any]) -> bool:
    """Say whether a download can start from the stored info: a list of fragments that is made as it goes cannot."""
    return all(isinstance(found.get("fragments"), list | None) for found in chosen_formats(info))
