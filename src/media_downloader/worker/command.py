"""Starts a worker: Celery with one task, its pool processes and its station."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import structlog
from billiard import current_process
from celery import signals
from celery.worker import state
from kombu import Connection  # type: ignore[attr-defined]
from kombu.exceptions import OperationalError

from media_downloader.bootstrap import (
    RunnerContainer,
    bootstrap_runner,
    shared_library,
    storage_of,
    until_cluster_opens,
)
from media_downloader.engines.celery_app import QUEUE, TASK, make_app
from media_downloader.engines.worker_registry import Announcement
from media_downloader.errors import ConfigurationError
from media_downloader.logs import configure_logging
from media_downloader.overview import versions
from media_downloader.settings import Settings
from media_downloader.worker.pool_process import DRAIN, PoolProcess
from media_downloader.worker.station import Station

log = structlog.get_logger(__name__)

#: How long an answer to a call through the broker may take.
HEAR_SECONDS = 2.0
#: How long Celery may take to end once it was asked to.
END_SECONDS = 8.0


class Worker:
    """One worker. Celery calls back through its signals, each at its own moment of a process's life.

    ``build`` makes what runs jobs, in each process of the pool.
    """

    def __init__(self, settings: Settings, build: Callable[[Settings], RunnerContainer] = bootstrap_runner) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._build = build
        self._id = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._node = f"{self._id}@{socket.gethostname()}"
        self._library = shared_library(settings)
        self._station = Station(settings, self._announcement, self._hears)
        self._app = make_app(settings.broker_url(), settings.worker_concurrency)
        self._celery_worker: Any = None
        self._process: PoolProcess | None = None

    def run(self) -> None:
        """Work until a signal ends it. Raises ``ConfigurationError`` when the volume cannot be used."""
        # A worker that cannot see the volume must take no work: every job would fail on it.
        self._library.open()

        @self._app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
        def download(job_id: object = None, *_: object, **__: object) -> None:
            """Run the job with this id."""
            assert self._process is not None
            self._process.answer(job_id)

        self._connect_signals()
        quiet = ["--without-gossip", "--without-mingle", "--loglevel", "info"]
        self._app.worker_main(["worker", "--queues", QUEUE, "--hostname", self._node, *quiet])

    def _connect_signals(self) -> None:
        signals.setup_logging.connect(self._log, weak=False)
        signals.celeryd_after_setup.connect(self._set_up, weak=False)
        signals.worker_process_init.connect(self._begin_process, weak=False)
        signals.worker_process_shutdown.connect(self._end_process, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.worker_shutting_down.connect(self._drain, weak=False)
        signals.worker_shutdown.connect(self._end, weak=False)

    def _log(self, **_: Any) -> None:
        configure_logging(self._settings, "worker")

    def _set_up(self, instance: Any, **_: Any) -> None:
        self._celery_worker = instance

    def _begin_process(self, **_: Any) -> None:
        # By its place in the pool, which the process that replaces it takes over: there are never more files.
        configure_logging(self._settings, f"worker-{current_process().index + 1}")
        self._process = PoolProcess(self._build(self._settings), self._id)
        self._process.start(self._pid)

    def _end_process(self, **_: Any) -> None:
        if self._process is not None:
            self._process.stop()

    def _ready(self, **_: Any) -> None:
        self._station.pids = self._pids
        self._station.start()
        log.info("Worker is ready", worker=self._id, slots=self._settings.worker_concurrency)

    def _drain(self, **_: Any) -> None:
        """Have each process give its job back; Celery then finds them idle and ends at once."""
        for pid in self._pids():
            os.kill(pid, DRAIN)
        # It may wait for a broker that does not answer: half a minute for each of its calls.
        patience = threading.Timer(END_SECONDS, self._end_hard)
        patience.daemon = True
        patience.start()

    def _end_hard(self) -> None:
        """End as a crash would; that is safe at any moment, and what was given back stays so."""
        log.error("Celery does not end in time; the worker ends without it", worker=self._id)
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)
        os._exit(1)

    def _end(self, **_: Any) -> None:
        self._station.stop()

    def _pids(self) -> list[int]:
        pool = getattr(getattr(self._celery_worker, "pool", None), "_pool", None)
        return [process.pid for process in getattr(pool, "_pool", []) if process.pid is not None]

    def _hears(self) -> bool:
        """Say whether this worker answers a call through the broker, and takes the doorbells that it could take."""
        # On a line of its own, and with little patience: one that is dead must not be waited for, nor used again.
        options = self._app.conf.broker_transport_options
        patience = {"socket_timeout": HEAR_SECONDS} if "socket_timeout" in options else {}
        with self._app.connection_for_write(transport_options=patience) as connection:
            try:
                return self._consumes(connection) and not (self._is_idle() and _waiting_doorbells(connection) > 0)
            except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
                log.warning("This worker cannot call itself through the broker", problem=type(error).__name__)
                return False

    def _consumes(self, connection: Connection) -> bool:
        arguments: dict[str, Any] = {"destination": [self._node], "reply": True, "limit": 1, "timeout": HEAR_SECONDS}
        replies = self._app.control.broadcast("active_queues", connection=connection, **arguments)
        return any(queue["name"] == QUEUE for reply in replies for queue in reply.get(self._node) or ())

    def _is_idle(self) -> bool:
        return len(state.reserved_requests) < self._settings.worker_concurrency

    def _announcement(self) -> Announcement:
        facts = self._library.facts()
        problems = () if facts.writable else (f"The downloads directory {facts.directory} cannot be written.",)
        return Announcement(
            id=self._id,
            host=socket.gethostname(),
            # Processes can be added and removed while it runs: celery control pool_grow.
            slots=len(self._pids()),
            versions=versions(),
            free_bytes=facts.free_bytes,
            problems=problems,
        )


def _waiting_doorbells(connection: Connection) -> int:
    try:
        found = connection.default_channel.queue_declare(QUEUE, passive=True)  # type: ignore[no-untyped-call]
        return int(found.message_count)
    except connection.channel_errors:
        # In Redis, a queue without messages is none.
        return 0


def work(settings: Settings) -> None:
    """Run a worker until a signal ends it. Raises ``ConfigurationError``."""
    if settings.redis_url is None:
        raise ConfigurationError("A worker needs REDIS_URL: its jobs live there.")
    configure_logging(settings, "worker")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A worker that cannot copy what it makes must take no work; only what is wrong with the settings is told here.
    storage_of(settings)
    # Celery would try for ever, whatever Redis says, and each process of the pool would find out for itself.
    asyncio.run(until_cluster_opens(settings))
    Worker(settings).run()
