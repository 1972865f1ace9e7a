"""The database's tables, as numbered migrations that run at start."""

import sqlite3

#: Each entry brings the file from its index to the next version; entries are only ever appended.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
        id          TEXT NOT NULL UNIQUE,
        state       TEXT NOT NULL,
        site        TEXT NOT NULL,
        rank        INTEGER NOT NULL, -- minus the priority, so that every key sorts upwards
        position    INTEGER NOT NULL,
        ready_at    INTEGER,
        is_playlist INTEGER NOT NULL,
        parent_id   TEXT,
        lease_until INTEGER,
        owner       TEXT,
        workdir     TEXT,
        finished_at INTEGER,
        search      TEXT NOT NULL,
        progress    TEXT,
        document    TEXT NOT NULL
    ) STRICT;
    -- Due jobs of a site in the order in which they run. What waits for a time is not in it.
    CREATE INDEX jobs_due_of_site ON jobs (site, rank, position, sequence)
        WHERE state = 'queued' AND ready_at IS NULL AND is_playlist = 0;
    CREATE INDEX jobs_due ON jobs (rank, position, sequence)
        WHERE state = 'queued' AND ready_at IS NULL AND is_playlist = 0;
    CREATE INDEX jobs_queued ON jobs (rank, position, sequence) WHERE state = 'queued';
    CREATE INDEX jobs_ready ON jobs (ready_at) WHERE state = 'queued' AND ready_at IS NOT NULL;
    CREATE INDEX jobs_place ON jobs (rank, position, sequence);
    CREATE INDEX jobs_leased ON jobs (lease_until) WHERE lease_until IS NOT NULL;
    CREATE INDEX jobs_finished ON jobs (finished_at, sequence) WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_state ON jobs (state, sequence);
    CREATE INDEX jobs_parent ON jobs (parent_id, sequence) WHERE parent_id IS NOT NULL;
    CREATE INDEX jobs_workdir ON jobs (workdir) WHERE workdir IS NOT NULL;
    CREATE TABLE counts (state TEXT PRIMARY KEY, jobs INTEGER NOT NULL) STRICT;
    CREATE TRIGGER count_added AFTER INSERT ON jobs BEGIN
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE TRIGGER count_removed AFTER DELETE ON jobs BEGIN
        UPDATE counts SET jobs = jobs - 1 WHERE state = old.state;
    END;
    CREATE TRIGGER count_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
        UPDATE counts SET jobs = jobs - 1 WHERE state = old.state;
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE TABLE idempotency (key TEXT PRIMARY KEY, digest TEXT NOT NULL, job_ids TEXT NOT NULL,
        created_at INTEGER NOT NULL) STRICT;
    CREATE TABLE tombstones (id TEXT PRIMARY KEY, document TEXT NOT NULL, expired_at INTEGER NOT NULL) STRICT;
    CREATE TABLE cooldowns (site TEXT PRIMARY KEY, until INTEGER NOT NULL, document TEXT NOT NULL) STRICT;
    CREATE TABLE facts (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
    -- Until the jobs that work folders tell of are in it: a crash before that must not make the file an old one.
    INSERT INTO facts VALUES ('rebuild', 'pending');
    """,
    """
    ALTER TABLE idempotency ADD COLUMN note TEXT;
    """,
)

VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of migrations that the file has had."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file up to date; each migration happens wholly or not at all."""
    for number in range(version_of(connection), VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
