"""What a download process says, turned into facts in the store, events on the bus and files in the library."""

import asyncio
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from media_downloader.downloader.process import DownloadProcess
from media_downloader.downloader.protocol import (
    EntriesFound,
    Entry,
    Failed,
    Finished,
    FromProcess,
    Go,
    Logged,
    MediaFound,
    Notice,
    NotStarted,
    Planned,
    Progressed,
    StateChanged,
)
from media_downloader.errors import DownloaderUnavailable, MediaDownloaderError
from media_downloader.jobs.model import (
    FailureKind,
    Job,
    JobEvent,
    Media,
    Phase,
    Progress,
    ProgressEvent,
    child_id,
)
from media_downloader.jobs.state import State
from media_downloader.netguard import check_url, redact_url, site_of
from media_downloader.ports import Change, NewJobs
from media_downloader.runner.ending import Ending
from media_downloader.runner.publishing import publish

if TYPE_CHECKING:
    from media_downloader.runner.attempt import Attempt
    from media_downloader.runner.runner import RunnerDeps

log = structlog.get_logger(__name__)

#: Notices kept on a job; the newest win.
MAX_NOTICES = 20


class Conversation:
    """Listens to one download process of one attempt."""

    def __init__(self, deps: "RunnerDeps", attempt: "Attempt", workdir: Path) -> None:
        self._deps = deps
        self._attempt = attempt
        self._workdir = workdir
        self._finished: Finished | None = None
        self._failed: Failed | None = None
        self._planned: Planned | None = None
        self._entries = 0
        self._seen: Counter[str] = Counter()

    async def recall(self) -> Ending | None:
        """Publish at once what an earlier attempt had finished and verified when it was cut off."""
        kept = await asyncio.to_thread(self._deps.library.read_verdict, self._workdir)
        if kept is None:
            return None
        try:
            self._finished = Finished.model_validate(kept)
        except ValidationError:
            # Another version wrote it. What it speaks of is verified again.
            return None
        return await self._publish(self._finished)

    async def listen(self, process: DownloadProcess) -> Ending:
        """Follow the process to its end and return what became of it."""
        silence = self._deps.settings.silence_timeout_seconds
        messages = process.messages()
        try:
            while True:
                try:
                    message = await asyncio.wait_for(anext(messages), silence)
                except StopAsyncIteration:
                    break
                await self._take(message, process)
        except TimeoutError:
            lines = [*process.last_lines, f"No sign of life for {silence:g} seconds."]
            return Ending(crashed=True, last_lines=lines)
        if self._failed is not None:
            return Ending(failed=self._failed)
        if self._finished is not None:
            return await self._conclude(self._finished)
        if process.pid is None:
            raise DownloaderUnavailable("A download process ended before it had begun.")
        return Ending(crashed=True, last_lines=list(process.last_lines))

    async def _take(self, message: FromProcess, process: DownloadProcess) -> None:
        match message:
            case Progressed(progress=progress):
                await self._progressed(progress)
            case StateChanged(state=state) if state is not self._attempt.job.state:
                await self._attempt.save(Change(state))
            case MediaFound(media=media):
                await self._attempt.save(Change(facts={"media": self._merge(media)}))
            case Planned():
                await self._planned_transfer(message, process)
            case EntriesFound(entries=entries):
                await self._add_children(entries)
            case Notice(text=text):
                self._attempt.note(text)
                notices = (*self._attempt.job.notices, text)[-MAX_NOTICES:]
                await self._attempt.save(Change(facts={"notices": notices}))
            case Logged(level=level, text=text):
                self._attempt.note(text if level in {"debug", "info"} else f"{level}: {text}")
            case NotStarted(why=why):
                raise DownloaderUnavailable(why)
            case Finished():
                self._finished = message
            case Failed():
                self._failed = message
            case _:
                pass

    def _merge(self, media: Media) -> Media:
        """Keep what was known (a child's title from its playlist) where the page says nothing."""
        known = self._attempt.job.media.model_dump(exclude_none=True)
        found = media.model_dump(exclude_none=True)
        if found.get("thumbnail"):
            found["thumbnail"] = redact_url(found["thumbnail"])
        return Media.model_validate({**known, **found})

    async def _progressed(self, progress: Progress) -> None:
        deps, job = self._deps, self._attempt.job
        self._attempt.progress = progress
        if self._planned is not None and self._planned.total_bytes is not None:
            left = self._planned.total_bytes - progress.downloaded_bytes
            deps.space.update(job.id, left + self._planned.scratch_bytes)
        await self._tell(progress)

    async def _tell(self, progress: Progress) -> None:
        job = self._attempt.job
        await self._deps.store.save_progress(job.id, job.attempt, progress)
        await self._deps.bus.publish(ProgressEvent(id=job.id, progress=progress))

    async def _planned_transfer(self, planned: Planned, process: DownloadProcess) -> None:
        """Compare the download's size with the room on the disk, and let it begin or end it."""
        self._planned = planned
        needed = max(0, (planned.total_bytes or 0) - planned.present_bytes) + planned.scratch_bytes
        shortage = self._deps.space.reserve(self._attempt.job.id, needed)
        if shortage is None:
            await process.send(Go())
            return
        self._failed = Failed(
            kind=FailureKind.DISK_FULL,
            message=f"The download needs {shortage.needed_bytes} bytes, and {shortage.available_bytes} are to be had.",
            hint="Make room on the disk; the job then goes on by itself.",
        )
        process.kill()

    async def _add_children(self, entries: tuple[Entry, ...]) -> None:
        now = await self._deps.store.now()
        children = [child for entry in entries if (child := self._child(entry, now)) is not None]
        if not children:
            return
        added = await self._deps.store.add(NewJobs(children))
        self._entries += len(added.jobs)
        for child in added.jobs:
            await self._deps.bus.publish(JobEvent(job=child))

    def _child(self, entry: Entry, now: datetime) -> Job | None:
        parent = self._attempt.job
        try:
            url = check_url(entry.url, self._deps.policy)
        except MediaDownloaderError as error:
            self._attempt.note(f"Entry {entry.index} was left out: {error.detail}")
            return None
        site = site_of(url)
        # A list that has changed since it was listed first has its entries elsewhere: who they are tells them apart.
        identity = url if entry.id is None else f"{site} {entry.id}"
        self._seen[identity] += 1
        return Job(
            id=child_id(parent.id, identity, self._seen[identity]),
            url=url,
            site=site,
            options=parent.options.model_copy(update={"playlist": False, "playlist_limit": None}),
            priority=parent.priority,
            media=Media(id=entry.id, title=entry.title, duration_seconds=entry.duration_seconds),
            parent_id=parent.id,
            entry_index=entry.index,
            created_at=now,
            updated_at=now,
        )

    async def _conclude(self, finished: Finished) -> Ending:
        if not finished.is_playlist:
            await asyncio.to_thread(self._deps.library.keep_verdict, self._workdir, finished.model_dump(mode="json"))
            return await self._publish(finished)
        if self._entries == 0:
            failed = Failed(
                kind=FailureKind.UNAVAILABLE,
                message="The playlist has no entries that could be downloaded.",
                hint="Open the link in a browser: it may be empty, private or for members.",
            )
            return Ending(failed=failed)
        media = self._attempt.job.media.model_copy(update={"entry_count": self._entries})
        return Ending(change=Change(facts={"is_playlist": True, "media": media, "workdir": None, "failure": None}))

    async def _publish(self, finished: Finished) -> Ending:
        """Give the verified files their final names. From here on the job is done, whatever is asked."""
        self._attempt.publishing = True
        if self._attempt.job.state is not State.PROCESSING:
            await self._attempt.save(Change(State.PROCESSING))
        job_id = self._attempt.job.id
        newest = (await self._attempt.patiently(lambda: self._deps.store.get(job_id))).progress
        await self._tell(newest.model_copy(update={"phase": Phase.PUBLISH}))
        artifacts = await asyncio.to_thread(publish, self._deps.library, self._workdir, self._attempt.job, finished)
        total = sum(artifact.size_bytes for artifact in artifacts)
        progress = Progress(percent=100.0, downloaded_bytes=total, total_bytes=total)
        facts = {
            "artifacts": artifacts,
            "workdir": None,
            "failure": None,
            "progress": progress,
            "crashes": 0,
            "retries": 0,
        }
        return Ending(change=Change(State.DONE, facts))
