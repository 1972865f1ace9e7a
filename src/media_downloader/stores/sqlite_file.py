"""The database's file: opened by one server only, migrated, refused when too new, set aside when corrupt."""

import contextlib
import fcntl
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import structlog

from media_downloader.errors import StoreTooNew, StoreUnavailable
from media_downloader.stores.sqlite_schema import VERSION, migrate, version_of
from media_downloader.stores.sqlite_writer import unavailable

log = structlog.get_logger(__name__)

#: What SQLite keeps beside the file.
SIDE_FILES = ("", "-wal", "-shm")


class DatabaseFile:
    """One file, and the lock that says whose it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None
        #: Whether the file began empty and nothing was rebuilt in it since, in this run or in an earlier one.
        self.is_new = False
        self.set_aside: Path | None = None

    def open(self) -> None:
        """Make the file ready. Raises ``StoreTooNew`` and ``StoreUnavailable``; blocks on the disk."""
        self._take_lock()
        try:
            exists = self._path.exists()
            if exists and not self._is_sound():
                self._set_aside("The database is corrupt")
                exists = False
            elif not exists and any(path.exists() for path in self._files()):
                # SQLite would take a log for the new file's own, whatever file it was written for.
                self._set_aside("The database is gone and its log is not")
            self._prepare(exists=exists)
        except sqlite3.Error as error:
            self.close()
            raise unavailable(error) from None
        except (StoreTooNew, StoreUnavailable):
            self.close()
            raise

    def close(self) -> None:
        """Let another server have the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """Return a connection for one thread; transactions are the caller's."""
        mode = "ro" if read_only else "rwc"
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA busy_timeout = 5000")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit that was answered survives a power cut, not only a crash of the program.
            connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _take_lock(self) -> None:
        """flock goes with its process, whatever ended that."""
        try:
            lock = os.open(
                self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise StoreUnavailable(f"The data folder cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StoreUnavailable(
                f"Another server uses {self._path}. Stop it, or set MEDIA_DOWNLOADER_DATA_DIR to another folder."
            ) from None
        self._lock = lock

    def _is_sound(self) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                verdict: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                return verdict == "ok"
        except sqlite3.OperationalError:
            # Locked, unreadable, out of space: no proof of corruption.
            raise
        except sqlite3.DatabaseError:
            return False

    def _files(self) -> list[Path]:
        return [self._path.with_name(self._path.name + side) for side in SIDE_FILES]

    def _set_aside(self, why: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        self.set_aside = self._path.with_name(f"{self._path.name}.corrupt-{stamp}")
        for source, side in zip(self._files(), SIDE_FILES, strict=True):
            if source.exists():
                source.replace(self.set_aside.with_name(self.set_aside.name + side))
        log.error(f"{why}: it was set aside and a new one begins", kept_as=str(self.set_aside))

    def _prepare(self, *, exists: bool) -> None:
        if not exists:
            # Before SQLite makes the file with the usual mode: it holds what people watch.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        else:
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                found = version_of(connection)
            if found > VERSION:
                raise StoreTooNew(
                    f"{self._path} was written by a newer version of Media Downloader (format {found}, this one knows "
                    f"{VERSION}). Install the newer version again, or choose another MEDIA_DOWNLOADER_DATA_DIR.",
                    found=found,
                    known=VERSION,
                )
        with contextlib.closing(self.connect()) as connection:
            migrate(connection)
            # A lease ends with the process that gave it; its end is on a clock that means nothing to this one.
            connection.execute("UPDATE jobs SET lease_until = 0 WHERE lease_until IS NOT NULL")
            pending = connection.execute("SELECT 1 FROM facts WHERE name = 'rebuild'").fetchone()
            self.is_new = pending is not None

    def note_rebuilt(self, connection: sqlite3.Connection) -> None:
        """Note, within the transaction that stores the rebuilt jobs, that there is nothing more to rebuild."""
        connection.execute("DELETE FROM facts WHERE name = 'rebuild'")
