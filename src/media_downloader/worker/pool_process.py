"""One process of a worker's pool: it takes a doorbell, runs the job it names, and gives it back when asked to."""

import asyncio
import os
import re
import signal
from types import FrameType

import structlog

from media_downloader.bootstrap import RunnerContainer
from media_downloader.downloader.process_tree import die_with_parent
from media_downloader.errors import MediaDownloaderError

log = structlog.get_logger(__name__)

#: What the worker's main process sends when it is to end: the job goes back to the queue, nothing new is taken.
#: Not SIGUSR1, which Celery's pool keeps for its soft time limits.
DRAIN = signal.SIGUSR2
#: Between two tries to say that this process is free.
AGAIN_SECONDS = 0.5
_ID = re.compile(r"[0-9a-f]{32}")


class PoolProcess:
    """One event loop that lives as long as the process, so that connections and the zygote are made once."""

    def __init__(self, container: RunnerContainer, worker_id: str) -> None:
        self._worker_id = worker_id
        self._loop = asyncio.Runner()
        self._container = container
        self._running: asyncio.Task[None] | None = None
        self._answering = False
        self._draining = False
        self._worker_pid: int | None = None

    def start(self, worker_pid: int) -> None:
        """Start the zygote from this thread: the main one, on whose life its own depends.

        Celery takes a process for broken whose start fails or lasts, so what may be away is asked for with a job.
        """
        signal.signal(DRAIN, self._drain)
        # Without its worker nobody can stop it any more: its job goes back to the queue, and it ends. Celery has the
        # kernel kill it, which would leave the job to its lease.
        self._worker_pid = worker_pid
        die_with_parent(worker_pid, DRAIN)
        self._container.start()

    def stop(self) -> None:
        """Let go of everything."""
        self._loop.run(self._container.stop())
        self._loop.close()

    def answer(self, job_id: object) -> None:
        """Run the job of a doorbell to its verdict. What is no id of ours is dropped with a line in the log."""
        if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
            log.warning("A message that is none of ours was dropped", argument=repr(job_id)[:100])
            return
        if not self._draining:
            self._answering = True
            try:
                self._loop.run(self._answer(job_id))
            finally:
                self._answering = False
        self._end_if_orphaned()

    async def _answer(self, job_id: str) -> None:
        try:
            await self._container.connect()
        except MediaDownloaderError as error:
            # The job stays in the queue, and its doorbell is rung again.
            log.error("This worker cannot run jobs now", job_id=job_id, error=error.code, detail=error.detail)
            return
        self._running = asyncio.create_task(self._take_and_run(job_id))
        if self._draining:
            self._running.cancel()
        try:
            await asyncio.wait({self._running})
            if not self._running.cancelled():
                self._running.result()
        finally:
            self._running = None
            await self._container.flush()
            await self._say_free()

    async def _take_and_run(self, job_id: str) -> None:
        # The doorbell first: once the job may have ended, whoever rings anew must not be taken for one already heard.
        try:
            await self._container.registry.took(self._worker_id, os.getpid(), job_id)
        except MediaDownloaderError as error:
            # The registry only shows who is busy; the job runs without it.
            log.warning("The worker could not say what it runs", error=error.code)
        await self._container.run(job_id)

    async def _say_free(self) -> None:
        """Take back the note that this process is busy, however long that takes.

        Nobody else would, and nothing would be handed to it any more. While Redis is away there is no work anyway.
        """
        while not self._draining:
            try:
                await self._container.registry.let_go(self._worker_id, os.getpid())
                return
            except MediaDownloaderError as error:
                log.warning("The worker could not say that it is free; it tries again", error=error.code)
                await asyncio.sleep(AGAIN_SECONDS)

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self._draining = True
        if self._running is not None:
            self._loop.get_loop().call_soon_threadsafe(self._running.cancel)
        elif not self._answering:
            self._end_if_orphaned()

    def _end_if_orphaned(self) -> None:
        """End when the worker is dead. Its pipes tell nothing: the other processes of the pool hold their ends too."""
        if self._draining and os.getppid() != self._worker_pid:
            os._exit(1)
