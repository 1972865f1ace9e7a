"""From links to stored jobs: judge, store, tell."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from media_downloader.errors import JobExpired, MediaDownloaderError
from media_downloader.jobs.model import Job, JobEvent, utc_now
from media_downloader.jobs.options import JobOptions
from media_downloader.jobs.state import State
from media_downloader.netguard import check_url, resolve_and_check, site_of
from media_downloader.ports import NewJobs
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
        await self._check_options(request.options)
        judged = await self._judge(request.urls)
        rejected = [entry for entry in judged if isinstance(entry, Rejected)]
        if len(request.urls) == 1 and rejected:
            raise rejected[0].error
        urls = [entry for entry in judged if isinstance(entry, str)]
        jobs = await asyncio.to_thread(lambda: [_new_job(url, request) for url in urls])
        if not jobs:
            return AddOutcome([], rejected)
        added = await self._deps.store.add(NewJobs(jobs, request.idempotency_key, request.request_digest))
        if added.replayed and not added.jobs:
            raise JobExpired("What was added under this Idempotency-Key has left the list.", files=[])
        if not added.replayed:
            for number, job in enumerate(added.jobs):
                await self._deps.bus.publish(JobEvent(job=job))
                if number % 100 == 99:
                    # Thousands of events at once must not keep other requests waiting.
                    await asyncio.sleep(0)
        return AddOutcome(added.jobs, rejected, added.replayed)

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
                return Rejected(entry, error)
            return entry

        return list(await asyncio.gather(*(resolved(entry) for entry in judged)))

    def _judge_spellings(self, urls: Sequence[str]) -> list[str | Rejected]:
        judged: list[str | Rejected] = []
        for url in urls:
            try:
                judged.append(check_url(url, self._deps.policy))
            except MediaDownloaderError as error:
                judged.append(Rejected(url, error))
        return judged


def _new_job(url: str, request: AddRequest) -> Job:
    now = utc_now()
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
