"""From links to stored jobs: judge, store, tell."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from media_downloader.errors import JobError, JobExpired, JobUnreadable, MediaDownloaderError
from media_downloader.jobs.model import Job, JobEvent
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import State
from media_downloader.netguard import check_url, resolve_and_check, site_of
from media_downloader.ports import Added, NewJobs
from media_downloader.service.model import AddOutcome, AddRequest, Rejected, ServiceDeps

#: Names that are resolved at once when many links are added.
RESOLVING_AT_ONCE = 20
#: More links than this in one request are not resolved before they are accepted; the download process judges them.
RESOLVE_AT_MOST = 50


class Adding:
    """Adds jobs."""

    def __init__(self, deps: ServiceDeps) -> None:
        self._deps = deps

    async def add(self, request: AddRequest) -> AddOutcome:
        """Store a job for each link that is acceptable; nothing is fetched before that."""
        if request.idempotency_key is not None:
            # Before anything is judged: who asks again is to get the same answer, whatever has become of the link.
            known = await self._deps.store.replay(request.idempotency_key, request.request_digest or "")
            if known is not None:
                return await self._replayed(request, known)
        await self._check_options(request.options)
        judged = await self._judge(request.urls)
        rejected = [entry for entry in judged if isinstance(entry, Rejected)]
        if len(request.urls) == 1 and rejected and rejected[0].error is not None:
            raise rejected[0].error
        urls = [entry for entry in judged if isinstance(entry, str)]
        if not urls:
            return AddOutcome([], rejected)
        new = await asyncio.to_thread(_new_jobs, urls, request, _note(judged), await self._deps.store.now())
        added = await self._deps.store.add(new)
        if added.replayed:
            return await self._replayed(request, added)
        for number, job in enumerate(added.jobs):
            await self._deps.bus.publish(JobEvent(job=job))
            if number % 100 == 99:
                # Thousands of events at once must not keep other requests waiting.
                await asyncio.sleep(0)
        return AddOutcome(added.jobs, rejected)

    async def _replayed(self, request: AddRequest, added: Added) -> AddOutcome:
        """Return the answer of that time: what was rejected is so again, and what has left the list is said to have."""
        if not added.jobs:
            raise await self._gone(added.ids[0] if len(added.ids) == 1 else None)
        notes: Mapping[str, Any] = json.loads(added.note or "{}")
        rejected = [
            Rejected(request.urls[int(number)], note["error"], note["detail"]) for number, note in notes.items()
        ]
        accepted = [url for number, url in enumerate(request.urls) if str(number) not in notes]
        left = {job.id for job in added.jobs}
        # Not strict: an earlier version kept no note of what it rejected.
        for job_id, url in zip(added.ids, accepted, strict=False):
            if job_id not in left:
                rejected.append(Rejected.of(url, await self._gone(job_id)))
        return AddOutcome(added.jobs, rejected, replayed=True)

    async def _gone(self, job_id: str | None) -> JobError:
        """Return the error that says what has become of a job that was added under a key."""
        if job_id is not None:
            try:
                await self._deps.store.get(job_id)
            except (JobExpired, JobUnreadable) as error:
                return error
            except JobError:
                pass
        return JobExpired("What was added under this Idempotency-Key has left the list.", files=[])

    async def _check_options(self, options: JobOptions) -> None:
        if options.folder is not None:
            self._deps.library.check_folder(options.folder)
        if options.output_template is not None:
            self._deps.library.check_template(options.output_template)
        await self._deps.inquiry.check(options)

    async def _judge(self, urls: Sequence[str]) -> list[str | Rejected]:
        if len(urls) > RESOLVE_AT_MOST:
            return await asyncio.to_thread(self._judge_spellings, urls)
        judged = self._judge_spellings(urls)
        gate = asyncio.Semaphore(RESOLVING_AT_ONCE)

        async def resolved(entry: str | Rejected) -> str | Rejected:
            if isinstance(entry, Rejected):
                return entry
            try:
                async with gate:
                    await resolve_and_check(entry, self._deps.policy)
            except MediaDownloaderError as error:
                return Rejected.of(entry, error)
            return entry

        return list(await asyncio.gather(*(resolved(entry) for entry in judged)))

    def _judge_spellings(self, urls: Sequence[str]) -> list[str | Rejected]:
        judged: list[str | Rejected] = []
        for url in urls:
            try:
                judged.append(check_url(url, self._deps.policy))
            except MediaDownloaderError as error:
                judged.append(Rejected.of(url, error))
        return judged


def _note(judged: Sequence[str | Rejected]) -> str:
    """Write down which links were rejected, and why, by their number in the request."""
    rejected = ((number, entry) for number, entry in enumerate(judged) if isinstance(entry, Rejected))
    return json.dumps({number: {"error": entry.code, "detail": entry.detail} for number, entry in rejected})


def _new_jobs(urls: Sequence[str], request: AddRequest, note: str, now: datetime) -> NewJobs:
    jobs = [_new_job(url, request, now) for url in urls]
    return NewJobs(jobs, request.idempotency_key, request.request_digest, note)


def _new_job(url: str, request: AddRequest, now: datetime) -> Job:
    return Job(
        id=uuid4().hex,
        url=url,
        site=site_of(url),
        options=request.options,
        state=State.PAUSED if request.paused else State.QUEUED,
        priority=request.priority,
        not_before=request.not_before,
        ready_at=request.not_before,
        created_at=now,
        updated_at=now,
    )
