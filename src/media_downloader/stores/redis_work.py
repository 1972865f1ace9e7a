"""One change of some jobs, from what was read to what one script writes. No I/O."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from uuid import uuid4

from media_downloader.errors import JobError
from media_downloader.jobs.model import Job
from media_downloader.jobs.state import Signal
from media_downloader.stores import redis_keys as keys
from media_downloader.stores import rules
from media_downloader.stores.redis_rows import KNOWN_FIELDS, Stored, fields_of

Command = list[str]
Commands = list[Command]

#: Most arguments of one command; Lua takes some thousands. Even, so that no pair is torn.
ARGUMENTS = 2000


class Work:
    """What was read, what shall be, and on what that depends.

    Everything is judged and computed here; Redis only compares and writes. Each job that is changed must still have
    the revision with which it was read, and the same wishes beside it.
    """

    def __init__(self, now: datetime, records: Iterable[Stored]) -> None:
        #: The server's clock when the records were read.
        self.now = now
        self.revision = uuid4().hex[:16]
        self._records = {record.id: record for record in records}
        self._sequences: dict[str, int] = {}
        #: The jobs as they shall be; None is deleted.
        self._after: dict[str, Job | None] = {}
        self._before: dict[str, Job] = {}
        self._relied_on: set[str] = set()
        self._tally = rules.Tally()
        self._guards: Commands = []
        self._commands: Commands = []

    def job(self, job_id: str) -> Job:
        """Return the job as it is by now. Raises ``JobNotFound``, ``JobExpired`` and ``JobUnreadable``."""
        after = self._after.get(job_id)
        if after is not None:
            return after
        if job_id not in self._before:
            self._before[job_id] = self._record(job_id).job()
        return self._before[job_id]

    def has(self, job_id: str) -> bool:
        """Say whether there is such a job."""
        return self._after.get(job_id) is not None or bool(self._record(job_id).fields)

    def find(self, job_id: str) -> Job | None:
        """Return the job as it is by now, if it is there and can be read."""
        try:
            return None if job_id in self._after and self._after[job_id] is None else self.job(job_id)
        except JobError:
            return None

    def stored(self, job_id: str | None) -> Job | None:
        """Return the job as it was read, if it was there and can be read."""
        return self.find(job_id) if job_id is not None and self._record(job_id).fields else None

    def children(self, parent_id: str) -> list[Job]:
        """Return the children that were read. Raises ``JobUnreadable``."""
        return [self.job(one.id) for one in self._records.values() if one.fields.get("parent_id") == parent_id]

    def is_due(self, job: Job) -> bool:
        """Say whether the job waits for no time; one whose time was found to have come does not, until that changes."""
        if job.ready_at is None or job.ready_at <= self.now:
            return True
        record = self._record(job.id)
        return record.due and self._before_of(job.id).ready_at == job.ready_at

    def sequence(self, job_id: str) -> int:
        """Return the job's number."""
        return self._sequences.get(job_id) or self._record(job_id).sequence

    def insert(self, job: Job, sequence: int) -> None:
        """Add a job that is not there."""
        self._sequences[job.id] = sequence
        self._after[job.id] = job
        self._tally.note(None, job)

    def save(self, job: Job) -> Job:
        """Write a job that is there, and what follows for its parent."""
        before = self.job(job.id)
        self._after[job.id] = job
        self._tally.note(before, job)
        return job

    def saving(self, job: Job) -> "Work":
        """Save the job, and return this."""
        self.save(job)
        return self

    def delete(self, job: Job) -> None:
        """Delete a job; its parent counts one child less."""
        self._after[job.id] = None
        self._tally.note(job, None)

    def adopt(self, records: Iterable[Stored]) -> None:
        """Take in more records that were read."""
        for record in records:
            self._records.setdefault(record.id, record)

    def rely_on(self, job_id: str) -> None:
        """Let the change depend on a job that stays as it is."""
        self._relied_on.add(job_id)

    def require(self, kind: str, expected: str, *command: str) -> None:
        """Let the change depend on one more thing; the kinds are in ``commit.lua``."""
        self._guards.append([kind, expected, *command])

    def also(self, *command: str) -> None:
        """Let one more command be done with the change."""
        self._commands.append(list(command))

    def settle(self) -> None:
        """Let each parent follow its children, once, if it is there, stays, and can be read."""
        tally, self._tally = self._tally, rules.Tally()
        for _, after in tally.parents(self.find, self.now):
            self._after[after.id] = after

    def witness(self) -> str:
        """Return a job that the change leaves with its revision, so that a repetition is noticed; "" when none."""
        return next((job_id for job_id, job in self._after.items() if job is not None), "")

    def size(self) -> int:
        """Return how many things this changes."""
        return len(self._after) + len(self._commands)

    def guards(self) -> Commands:
        """Return what must hold for the change."""
        guards, absent = list(self._guards), []
        for job_id in {**self._after, **dict.fromkeys(self._relied_on)}:
            record, key = self._record(job_id), keys.job_key(job_id)
            if not record.fields:
                absent.append(key)
            else:
                guards.append(["is", record.fields.get("revision", ""), "HGET", key, "revision"])
                guards.append(["is", str(int(record.pause)), "EXISTS", keys.flag_key(job_id, Signal.PAUSE)])
                guards.append(["is", str(int(record.cancel)), "EXISTS", keys.flag_key(job_id, Signal.CANCEL)])
                if "ready_at" in record.fields:
                    # That alone changes without a revision, whenever somebody asks what is due.
                    guards.append(["is", record.fields.get("due", ""), "HGET", key, "due"])
        guards.extend(["is", "0", "EXISTS", *some] for some in _chunks(absent))
        return guards

    def commands(self) -> Commands:
        """Return what makes the jobs as they shall be; none of it depends on its order.

        A full Redis refuses a script's first write if that may need room, and nothing after it. So all begins with a
        removal, were it of nothing: what is there can always go on and end. New jobs are refused their numbers.
        """
        removals: Commands = []
        additions: Commands = []
        for job_id, after in self._after.items():
            self._record_commands(job_id, after, removals, additions)
            self._index_commands(job_id, after, removals, additions)
        return [["DEL", keys.NOTHING], *_merged(removals), *_merged(additions), *self._commands]

    def _record(self, job_id: str) -> Stored:
        return self._records.get(job_id) or Stored(job_id, {})

    def _record_commands(self, job_id: str, after: Job | None, removals: Commands, additions: Commands) -> None:
        record, key = self._record(job_id), keys.job_key(job_id)
        flags = [keys.flag_key(job_id, signal) for signal in Signal]
        workdir = record.fields.get("workdir")
        if workdir is not None and (after is None or after.workdir != workdir):
            removals.append(["HDEL", keys.WORKDIRS, workdir])
        if after is None:
            removals.append(["DEL", key, keys.children_key(job_id), *flags])
            removals.append(["SREM", keys.ALL, job_id])
            return
        fields = fields_of(after, sequence=self.sequence(job_id), revision=self.revision, due=self.is_due(after))
        if gone := [name for name in record.fields if name in KNOWN_FIELDS and name not in fields]:
            removals.append(["HDEL", key, *gone])
        # A playlist's flags are for its children, who move it while they are passed on.
        if after.signal is None and record.signal is not None and not after.is_playlist:
            removals.append(["DEL", *flags])
        if after.signal is not None and after.signal is not record.signal:
            additions.append(["SET", keys.flag_key(job_id, after.signal), "1"])
        news = [part for name, text in fields.items() if record.fields.get(name) != text for part in (name, text)]
        additions.append(["HSET", key, *news])
        if not record.fields:
            additions.append(["SADD", keys.ALL, job_id])
        if after.workdir is not None and after.workdir != workdir:
            additions.append(["HSET", keys.WORKDIRS, after.workdir, job_id])

    def _index_commands(self, job_id: str, after: Job | None, removals: Commands, additions: Commands) -> None:
        wanted = {} if after is None else keys.entries(after, self.sequence(job_id), due=self.is_due(after))
        old: keys.Entries = {}
        if self._record(job_id).fields:
            old = keys.possible_entries(self._before_of(job_id), self.sequence(job_id))
        removals.extend(["ZREM", *entry] for entry in old if entry not in wanted)
        for (key, member), score in wanted.items():
            if old.get((key, member)) != score or key in {keys.READY, keys.DUE}:
                additions.append(["ZADD", key, score, member])

    def _before_of(self, job_id: str) -> Job:
        if job_id not in self._before:
            self._before[job_id] = self._record(job_id).job()
        return self._before[job_id]


def _chunks(parts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(parts), ARGUMENTS):
        yield parts[start : start + ARGUMENTS]


def _merged(commands: Commands) -> Commands:
    """Make one command of many that do the same to one key; what they do does not depend on their order."""
    merged: Commands = []
    together: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        if command[0] in {"SADD", "SREM", "ZADD", "ZREM"}:
            together.setdefault((command[0], command[1]), []).extend(command[2:])
        else:
            merged.append(command)
    for (name, key), parts in together.items():
        merged.extend([name, key, *some] for some in _chunks(parts))
    return merged
