"""The zygote and what it forks: real processes, their birth, what they may see, their words and their ends."""

import asyncio
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from media_downloader.downloader.process import DownloadProcess, Zygote
from media_downloader.downloader.protocol import (
    MAX_LINE_BYTES,
    Exited,
    FromProcess,
    Logged,
    Notice,
    NotStarted,
    Spec,
    Started,
    Task,
    encode,
)
from media_downloader.errors import DownloaderUnavailable
from tests.program import alive, wait_until
from tests.scripted_zygote import ScriptedZygote


@pytest.fixture
async def zygote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedZygote]:
    monkeypatch.setenv("MEDIA_DOWNLOADER_SECRET", "do-not-tell")
    made = ScriptedZygote(tmp_path / "zygote")
    made.start()
    yield made
    await made.stop()


async def spawn(zygote: Zygote, order: str, **more: Any) -> DownloadProcess:
    return await zygote.spawn(Spec(task=Task.DOWNLOAD, url=order, **more))


async def words(process: DownloadProcess) -> list[FromProcess]:
    async with asyncio.timeout(20):
        return [message async for message in process.messages()]


async def told(process: DownloadProcess) -> dict[str, Any]:
    """Return what the process says of itself, while it lives."""
    async with asyncio.timeout(20):
        async for message in process.messages():
            if isinstance(message, Notice):
                found: dict[str, Any] = json.loads(message.text)
                return found
    raise AssertionError("it said nothing")


async def gone(*pids: int) -> None:
    await asyncio.to_thread(wait_until, lambda: not any(alive(pid) for pid in pids), "processes to be gone", 5)


async def test_a_process_is_born_alone_and_with_nothing_of_the_server(zygote: Zygote, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        port.set_inheritable(True)
        process = await spawn(zygote, "report", workdir=str(tmp_path), max_size_bytes=1000)
        found = await told(process)
    assert found["pid"] == found["group"] == found["session"] == process.pid
    assert "do-not-tell" not in json.dumps(found)
    assert not [name for name in found["environment"] if name.startswith("MEDIA_DOWNLOADER")]
    kinds = sorted(name.partition(":")[0] for name in found["files"])
    # Standard input and output, standard error for last words, the connection, and the folder that is being listed.
    assert sum(name == "socket" for name in kinds) == 1, found["files"]
    assert kinds.count("/dev/null") == 2
    assert len(kinds) <= 5, found["files"]
    assert found["blocked"] == []
    assert set(found["ignored"]) <= {signal.SIGPIPE, signal.SIGXFSZ}
    assert found["no_new_privileges"] == "1"
    assert found["core_bytes"] == 0
    assert found["open_files"] <= 1024
    assert 1000 < found["file_bytes"] < 100_000_000
    await process.wait()


async def test_the_end_of_a_process_is_its_last_line(zygote: Zygote) -> None:
    process = await spawn(zygote, "exit 3")
    heard = await words(process)
    assert isinstance(heard[0], Started)
    assert heard[-1] == Exited(code=3)
    assert await process.wait() == 3


async def test_who_dies_of_a_signal_leaves_its_last_words(zygote: Zygote) -> None:
    process = await spawn(zygote, f"die {int(signal.SIGSEGV)}")
    heard = await words(process)
    assert heard[-1] == Exited(code=-signal.SIGSEGV)
    lines = "\n".join(process.last_lines)
    assert "SIGSEGV" in lines
    assert "the last thing that was said" in lines or "Segmentation fault" in lines


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"{}\n",
        b'{"type": "unknown"}\n',
        b'{"type": "state", "state": "no such state"}\n',
        b"[1, 2\n",
        b"\xff\xfe\x00\n",
        b'{"type": "progress", "progress": {"percent": "many"}}\n',
        b"\n\n",
        b"half a line at the end",
    ],
)
async def test_what_is_no_message_is_a_line_of_the_log(zygote: Zygote, line: bytes) -> None:
    rest = b"" if not line.endswith(b"\n") else encode(Notice(text="still here"))
    process = await spawn(zygote, f"raw {(line + rest).hex()}")
    heard = await words(process)
    assert isinstance(heard[-1], Exited)
    if rest:
        assert Notice(text="still here") in heard
    if line.strip() and rest:
        assert any(isinstance(message, Logged) and message.level == "warning" for message in heard)


async def test_a_line_without_end_does_not_end_the_conversation(zygote: Zygote) -> None:
    process = await spawn(zygote, f"flood {MAX_LINE_BYTES + 1_000_000}")
    heard = await words(process)
    assert heard[-1] == Exited(code=0)
    assert any(isinstance(message, Logged) and "without end" in message.text for message in heard)
    assert all(len(message.text) < 10_000 for message in heard if isinstance(message, Logged))


async def test_a_kill_takes_the_programs_that_its_programs_started(zygote: Zygote) -> None:
    process = await spawn(zygote, "start")
    pids = (await told(process))["pids"]
    assert all(alive(pid) for pid in pids)
    process.kill()
    async with asyncio.timeout(5):
        assert await process.wait() == -signal.SIGKILL
    # Who is told of the death finds nobody left.
    assert not any(alive(pid) for pid in pids)


async def test_a_supervisor_that_is_gone_ends_its_process(zygote: Zygote) -> None:
    process = await spawn(zygote, "start")
    pids = (await told(process))["pids"]
    assert process._writer is not None
    process._writer.transport.abort()
    assert process.pid is not None
    await gone(process.pid, *pids)


async def test_a_zygote_that_is_killed_takes_everything_with_it_and_is_replaced(zygote: Zygote) -> None:
    process = await spawn(zygote, "start")
    pids = (await told(process))["pids"]
    assert zygote._process is not None
    os.kill(zygote._process.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await process.wait() is None
    assert process.pid is not None
    await gone(process.pid, *pids)
    assert (await words(await spawn(zygote, "exit 0")))[-1] == Exited(code=0)


async def test_many_processes_live_side_by_side_and_leave_no_zombie(zygote: Zygote) -> None:
    processes = [await spawn(zygote, "wait") for _ in range(30)]
    for process in processes:
        await told(process)
    pids = [process.pid for process in processes]
    assert len(set(pids)) == 30
    for process in processes:
        process.kill()
    for process in processes:
        async with asyncio.timeout(10):
            await process.wait()
    # A zombie would still have its number.
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


async def test_one_process_cannot_hold_the_line_of_another_open(zygote: Zygote) -> None:
    """Each fork has copies of what the zygote has open; a copy of a line would hide that it was closed."""
    first = await spawn(zygote, "wait")
    await told(first)
    second = await spawn(zygote, "wait")
    await told(second)
    first.kill()
    async with asyncio.timeout(5):
        await first.wait()
    second.kill()
    await second.wait()


async def test_a_spec_that_is_too_long_ends_the_process_with_a_word(zygote: Zygote) -> None:
    process = await spawn(zygote, "exit 0", workdir="x" * 2_000_000)
    heard = await words(process)
    assert isinstance(heard[-1], Exited)
    assert heard[-1].code != 0
    assert any("a spec of" in line for line in process.last_lines)


async def test_nothing_is_started_once_the_server_stops(zygote: Zygote) -> None:
    await zygote.stop()
    with pytest.raises(DownloaderUnavailable):
        await spawn(zygote, "exit 0")


async def test_a_zygote_that_cannot_fork_says_so_and_keeps_what_runs(zygote: ScriptedZygote) -> None:
    running = await spawn(zygote, "wait")
    await told(running)
    assert zygote._process is not None
    _, hard = resource.prlimit(zygote._process.pid, resource.RLIMIT_NOFILE)
    # One descriptor is left, for the connection, and none for what a new process would say as it dies.
    taken = {int(name) for name in os.listdir(f"/proc/{zygote._process.pid}/fd")}  # noqa: PTH208
    spare = [number for number in range(1024) if number not in taken]
    resource.prlimit(zygote._process.pid, resource.RLIMIT_NOFILE, (spare[1], hard))
    try:
        refused = await spawn(zygote, "exit 0")
        heard = await words(refused)
    finally:
        resource.prlimit(zygote._process.pid, resource.RLIMIT_NOFILE, (1024, hard))
    # Which of the two descriptors was missing decides who tells it; in both cases nothing has been started.
    assert refused.pid is None
    assert all(isinstance(message, NotStarted | Exited) for message in heard)
    assert running.pid is not None
    assert alive(running.pid)
    assert (await words(await spawn(zygote, "exit 0")))[-1] == Exited(code=0)
    running.kill()
    await running.wait()


async def test_a_process_dies_also_when_the_zygote_does_not_answer(zygote: ScriptedZygote) -> None:
    process = await spawn(zygote, "start")
    pids = (await told(process))["pids"]
    assert zygote._process is not None
    os.kill(zygote._process.pid, signal.SIGSTOP)
    try:
        process.kill()
        process.kill_group()
        await gone(*pids)
        async with asyncio.timeout(5):
            await process.wait()
    finally:
        os.kill(zygote._process.pid, signal.SIGCONT)
