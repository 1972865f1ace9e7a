"""Attempts of one job by real download processes, without a server: what each says, and how it is killed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from media_downloader.downloader.process import Zygote
from media_downloader.downloader.protocol import Failed, Finished, FromProcess, Go, Notice, Planned, Spec, Task
from media_downloader.jobs.options import JobOptions
from media_downloader.netguard import Policy
from tests.origin.media import ffmpeg
from tests.origin.server import Origin

#: Where nobody listens.
NOBODY = "127.0.0.1:1"


@dataclass
class Heard:
    """What one attempt said."""

    messages: list[FromProcess] = field(default_factory=list)

    @property
    def notices(self) -> list[str]:
        """What the user is told."""
        return [message.text for message in self.messages if isinstance(message, Notice)]

    @property
    def failed(self) -> Failed:
        """The failure that it ended with."""
        assert isinstance(self.last, Failed), self.last
        return self.last

    @property
    def finished(self) -> Finished:
        """The success that it ended with."""
        assert isinstance(self.last, Finished), self.last
        return self.last

    @property
    def last(self) -> FromProcess:
        """The last word before the end; a sign of life may come behind it."""
        return next(message for message in reversed(self.messages) if message.type not in {"alive", "exited"})

    def planned(self) -> list[Planned]:
        """What was about to be fetched, each time that it was said."""
        return [message for message in self.messages if isinstance(message, Planned)]


class Attempts:
    """One job's work folder, and what is done in it."""

    def __init__(self, zygote: Zygote, folder: Path, origin: Origin) -> None:
        self._zygote = zygote
        self.folder = folder
        self._policy = Policy.parse(False, [origin.endpoint, NOBODY])

    async def run(self, url: str, kill_when: Callable[[FromProcess], bool] = lambda _: False, **more: Any) -> Heard:
        """Run one attempt to its end, or until it says what ``kill_when`` waits for."""
        self.folder.mkdir(exist_ok=True)
        options = JobOptions.model_validate(more.pop("options", {}))
        spec = Spec(
            task=Task.DOWNLOAD,
            url=url,
            options=options,
            workdir=str(self.folder),
            policy=self._policy.to_dict(),
            ffmpeg=ffmpeg(),
            socket_timeout_seconds=3,
            **more,
        )
        process = await self._zygote.spawn(spec)
        heard = Heard()
        async with asyncio.timeout(100):
            async for message in process.messages():
                heard.messages.append(message)
                if kill_when(message):
                    process.kill()
                elif isinstance(message, Planned):
                    await process.send(Go())
            await process.wait()
        return heard

    def result(self, heard: Heard, index: int = 0) -> Path:
        """Return a file that an attempt made."""
        return self.folder / heard.finished.files[index].path


def fragment(number: int, phase: str | None = None) -> Callable[[FromProcess], bool]:
    """Wait until so many fragments are there."""

    def check(message: FromProcess) -> bool:
        progress = getattr(message, "progress", None)
        if progress is None or (progress.fragment_index or 0) < number:
            return False
        return phase is None or progress.phase == phase

    return check
