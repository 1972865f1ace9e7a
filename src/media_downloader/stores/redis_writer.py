"""Reads jobs, lets them be judged, and writes them in one atomic step; again when somebody else was faster."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import structlog

from media_downloader.errors import LeaseLost, StoreUnavailable
from media_downloader.jobs.model import Job
from media_downloader.stores import redis_keys as keys
from media_downloader.stores.redis_link import RedisLink
from media_downloader.stores.redis_opening import claim_keys
from media_downloader.stores.redis_work import Work
from media_downloader.stores.rules import GAP

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: How long a write is tried again because others keep changing the same jobs.
CONTENDED_SECONDS = 4.0
#: Longest pause before the next try; it is drawn by lot, so that contenders get out of step.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.002, 0.1
#: Changes of so many jobs are prepared in a thread, so that the event loop goes on.
MANY_JOBS = 50
#: Far more than one process runs at once; those of jobs that were lost to others go in the end.
REMEMBERED_CLAIMS = 1000


class Conflict(Exception):
    """What a change depends on is no longer as it was read."""


class RedisWriter:
    """Optimistic: nothing is locked, and of any number of writers that meet, one always gets through."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        #: Whether jobs may be on disk that are not in the store, as far as was learned from it.
        self.is_new = False
        self._turns = asyncio.Lock()
        #: Who holds the leases that were taken through this store.
        self._claims: dict[str, tuple[int, str | None]] = {}

    async def open(self) -> None:
        """Make sure that the keys are ours."""
        # A lock belongs to the event loop in which it was first waited for, and a store may be opened in another.
        self._turns = asyncio.Lock()
        await self.link.call(claim_keys)
        self.is_new = (await self.link.load([])).is_new

    async def load(self, ids: Iterable[str], kin: str = "parents") -> Work:
        """Read jobs, and their parents or (of the first) their whole family."""
        loaded = await self.link.load(list(ids), kin)
        self.learn(is_new=loaded.is_new)
        return Work(keys.moment(loaded.clock), loaded.records)

    def learn(self, *, is_new: bool) -> None:
        """Note whether the store is new by now: another process may have found it empty, or rebuilt it."""
        if is_new and not self.is_new:
            log.error("Redis has lost all jobs: the store begins anew; what is on the disks is untouched")
        self.is_new = is_new

    async def tie_volume(self, proposed: str | None) -> str | None:
        """Return the id of the volume that the store is tied to; what is proposed becomes it where there is none."""

        async def once() -> str | None:
            known, tied = await self.link.run("volume", str(keys.SCHEMA_VERSION), proposed or "")
            if known == "schema":
                await self._begin_anew()
                raise Conflict
            if tied:
                self.is_new = True
            return str(known) or None

        return await self.repeat(once)

    async def commit(self, work: Work) -> None:
        """Write all of the change. Raises ``Conflict`` when something that it depends on has moved."""
        work.settle()
        texts = await off_loop(lambda: (_dump(work.guards()), _dump(work.commands())), work.size())
        version = str(keys.SCHEMA_VERSION)
        answer = await self.link.run("commit", version, work.witness(), work.revision, *texts)
        if answer == "schema":
            await self._begin_anew()
        if answer != "done":
            raise Conflict

    async def repeat(self, once: Callable[[], Awaitable[T]]) -> T:
        """Return what ``once`` returns; it reads, judges and commits, and is called again after a conflict."""
        try:
            return await once()
        except Conflict:
            pause = FIRST_PAUSE_SECONDS
        try:
            # What met somebody goes on in turn, so that only other processes can come between.
            async with asyncio.timeout(CONTENDED_SECONDS), self._turns:
                while True:
                    try:
                        return await once()
                    except Conflict:
                        await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
                        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except TimeoutError:
            raise StoreUnavailable("Too many changes of the same jobs at once.") from None

    def remember_claim(self, job: Job) -> None:
        """Note who holds the job through this store."""
        self._claims.pop(job.id, None)
        self._claims[job.id] = (job.attempt, job.owner)
        if len(self._claims) > REMEMBERED_CLAIMS:
            del self._claims[next(iter(self._claims))]

    def check_claim(self, job: Job, attempt: int) -> None:
        """Refuse a write under a claim that Redis has forgotten.

        A Redis that loses its last second gives the same attempt out twice: the owner tells the two apart.
        """
        claim = self._claims.get(job.id)
        if claim is not None and claim[0] == attempt == job.attempt and claim[1] != job.owner:
            raise LeaseLost("Another attempt holds the job.", attempt=job.attempt)

    async def take_numbers(self, jobs: int, priorities: Mapping[int, int]) -> tuple[int, dict[int, int]]:
        """Return the last of so many new numbers, and for each priority the last of so many new places at its end.

        Nobody else gets them. What is then not used leaves gaps, which do no harm.
        """
        asked = [str(part) for priority, places in priorities.items() for part in (priority, places * GAP)]
        answer = await self.link.run("number", str(keys.SCHEMA_VERSION), str(jobs), *asked)
        if answer == "schema":
            await self._begin_anew()
            raise Conflict
        last, *ends = map(int, answer)
        return last, dict(zip(priorities, ends, strict=True))

    def forget_claim(self, job_id: str) -> None:
        """Note that the job is nobody's any more."""
        self._claims.pop(job_id, None)

    async def _begin_anew(self) -> None:
        """The keys are gone, or were taken over by a newer version, which ``claim_keys`` tells."""
        await self.link.call(claim_keys)
        self.learn(is_new=(await self.link.load([])).is_new)


async def off_loop(compute: Callable[[], T], jobs: int) -> T:
    """Return what a computation over so many jobs returns, without keeping the event loop from others."""
    return compute() if jobs < MANY_JOBS else await asyncio.to_thread(compute)


def _dump(commands: list[list[str]]) -> str:
    return json.dumps(commands, ensure_ascii=False)
