"""What a worker does beside running jobs: it tells that it lives, hands out doorbells and keeps house."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from media_downloader.bootstrap import StationContainer, bootstrap_station
from media_downloader.engines.worker_registry import HEARTBEAT_SECONDS, Announcement
from media_downloader.errors import BackendError, MediaDownloaderError
from media_downloader.settings import Settings

log = structlog.get_logger(__name__)

#: How long the station may take to end when the worker does.
STOP_SECONDS = 3.0
#: A worker calls itself through the broker this often, and is deaf after so many calls unheard.
LISTEN_SECONDS = 5.0
DEAF_AFTER = 3


class Station:
    """One thread with an event loop in the worker's main process, whose own thread belongs to Celery."""

    def __init__(self, settings: Settings, announcement: Callable[[], Announcement], hears: Callable[[], bool]) -> None:
        self._settings = settings
        self._announcement = announcement
        #: Says whether a call through the broker comes back to this worker; blocks.
        self._hears = hears
        self._unheard = 0
        #: Processes of the pool that live; set by the worker.
        self.pids: Callable[[], Sequence[int]] = list
        self._thread = threading.Thread(target=self._run, name="station", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye and end."""
        if self._loop is not None and self._ending is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        while not self._ending.is_set():
            container = bootstrap_station(self._settings)
            try:
                await container.start()
                await self._keep(container)
            except MediaDownloaderError as error:
                # A worker that says nothing is dead to everybody, whatever it could still do.
                log.error("The worker's station cannot work; it begins anew", error=error.code, detail=error.detail)
                await self._sleep(HEARTBEAT_SECONDS)
            finally:
                await container.stop()

    async def _keep(self, container: StationContainer) -> None:
        """Tell that the worker lives until it ends. How long it listens for itself must not delay that."""
        listening = asyncio.create_task(self._listen())
        try:
            while not self._ends():
                await self._announce(container)
                await self._sleep(HEARTBEAT_SECONDS)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await container.registry.leave(self._announcement().id)

    def _ends(self) -> bool:
        return self._ending is not None and self._ending.is_set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the worker's end."""
        assert self._ending is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def _listen(self) -> None:
        """Call this worker through the broker: one that lives but takes no doorbells looks healthy to everybody else.

        celery#8030, #8091, #10205: after a reconnect a worker may be alive and deaf.
        """
        while True:
            await asyncio.sleep(LISTEN_SECONDS)
            heard = await asyncio.to_thread(self._hears)
            if heard and self._unheard >= DEAF_AFTER:
                log.info("This worker hears the broker again")
            self._unheard = 0 if heard else self._unheard + 1
            if self._unheard == DEAF_AFTER:
                log.error("This worker does not hear the broker any more; restart it if that lasts")

    async def _announce(self, container: StationContainer) -> None:
        told = await asyncio.to_thread(self._announcement)
        if self._unheard >= DEAF_AFTER:
            told = replace(told, problems=(*told.problems, "It does not hear the broker: restart it if that lasts."))
        try:
            told = replace(told, problems=(*told.problems, *await container.problems()))
            await container.registry.announce(told, self.pids())
        except BackendError as error:
            # Nobody hears it; whoever lists workers sees this one fall silent.
            log.warning("The worker cannot say that it lives", error=error.code, detail=error.detail)
