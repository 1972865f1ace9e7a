"""The one thread that writes to the database: batches what waits, commits once, then answers."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from json import JSONDecodeError
from typing import Any, TypeVar

from pydantic import ValidationError

from media_downloader.errors import StoreUnavailable

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], Any]

#: Writes that share one commit at most, so that nobody waits long behind a flood.
BATCH = 500

#: What a fact raises that this version cannot read.
UNREADABLE = (ValidationError, JSONDecodeError)


def unavailable(error: Exception) -> StoreUnavailable:
    """Translate SQLite's error, or one of ``UNREADABLE``; it never leaves the store."""
    if isinstance(error, UNREADABLE):
        return StoreUnavailable("The database holds a fact that this version of Media Downloader cannot read.")
    return StoreUnavailable(f"The database cannot be used: {error}")


class Writer:
    """Owns the writing connection. A write that fails undoes only itself; the others of its batch are kept."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], idle: Callable[[sqlite3.Connection], None]) -> None:
        self._connect = connect
        #: Runs inside a transaction of its own at most once a second, when there is time.
        self._idle = idle
        self._waiting: queue.SimpleQueue[tuple[Write, Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._closed = False
        #: Of the thread alone.
        self._connection: sqlite3.Connection | None = None

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    async def write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``write`` in a transaction; return its result once that is durable.

        A caller that is canceled meanwhile does not undo the write.
        """
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        future: Future[T] = Future()
        # From here on a caller that goes away cannot cancel it under the writer's hands.
        future.set_running_or_notify_cancel()
        self._waiting.put((write, future))
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Write what waits and end. Blocks until that is done."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        idle_at = time.monotonic()
        ending = False
        while not ending:
            batch: list[tuple[Write, Future[Any]]] = []
            with contextlib.suppress(queue.Empty):
                entry = self._waiting.get(timeout=1.0)
                while entry is not None:
                    batch.append(entry)
                    if len(batch) >= BATCH:
                        break
                    entry = self._waiting.get_nowait()
                ending = entry is None
            if batch:
                self._commit(batch)
            if ending or time.monotonic() - idle_at >= 1.0:
                idle_at = time.monotonic()
                self._commit([(self._idle, Future())])
        if self._connection is not None:
            self._connection.close()

    def _commit(self, batch: list[tuple[Write, Future[Any]]]) -> None:
        answers: list[tuple[Future[Any], Any, Exception | None]] = []
        connection = self._connection
        try:
            if connection is None:
                # Here, so that a database that cannot be opened is an answer and not the end of this thread.
                connection = self._connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            for write, future in batch:
                answers.append((future, *self._one(connection, write)))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            answers = [(future, None, unavailable(error)) for _, future in batch]
        for future, result, problem in answers:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    @staticmethod
    def _one(connection: sqlite3.Connection, write: Write) -> tuple[Any, Exception | None]:
        connection.execute("SAVEPOINT one")
        try:
            result = write(connection)
        except sqlite3.Error:
            raise
        except Exception as problem:  # noqa: BLE001 - a background loop: one wrong write must not end the thread
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            return None, unavailable(problem) if isinstance(problem, UNREADABLE) else problem
        connection.execute("RELEASE one")
        return result, None
