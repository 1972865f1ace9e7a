"""Asks a download process what is behind a link, or whether options can be used, and waits for the answer."""

import asyncio
from typing import Any

from media_downloader.downloader.process import Zygote
from media_downloader.downloader.protocol import Failed, Probed, Spec, Task
from media_downloader.errors import OptionRejected, ProbeBusy, ProbeFailed
from media_downloader.jobs.model import FailureKind
from media_downloader.jobs.options import JobOptions
from media_downloader.netguard import Policy
from media_downloader.settings import Settings

#: Checking options touches no network; longer than this means a sick machine.
CHECK_SECONDS = 15.0
#: Answers to checks that are remembered.
REMEMBERED_CHECKS = 512


class Inquiry:
    """Short-lived download processes that answer one question each."""

    def __init__(self, settings: Settings, zygote: Zygote, policy: Policy, ffmpeg: str | None) -> None:
        self._settings = settings
        self._zygote = zygote
        self._policy = policy
        self._ffmpeg = ffmpeg
        self._running = 0
        self._checked: dict[tuple[str | None, str | None], str | None] = {}

    async def probe(self, url: str, options: JobOptions) -> dict[str, Any]:
        """Return what is behind the link.

        Cancelling the caller ends the process. Raises ``ProbeFailed`` with the failure's kind, and ``ProbeBusy``.
        """
        if self._running >= self._settings.max_concurrent_probes:
            raise ProbeBusy("Too many links are being looked at. Try again in a moment.")
        self._running += 1
        try:
            spec = self._spec(Task.PROBE, options).model_copy(update={"url": url})
            answer = await self._ask(spec, self._settings.probe_timeout_seconds)
        except TimeoutError:
            raise ProbeFailed(
                f"The site did not answer within {self._settings.probe_timeout_seconds:g} seconds.",
                kind=FailureKind.NETWORK.value,
                hint="Try again later.",
            ) from None
        finally:
            self._running -= 1
        if isinstance(answer, Probed):
            return answer.info
        raise ProbeFailed(answer.message, kind=answer.kind.value, hint=answer.hint)

    async def check(self, options: JobOptions) -> None:
        """Have yt-dlp itself judge the format expression and the output template. Raises ``OptionRejected``."""
        asked = (options.format, options.output_template)
        if asked == (None, None):
            return
        if asked not in self._checked:
            try:
                answer = await self._ask(self._spec(Task.CHECK, options), CHECK_SECONDS)
            except TimeoutError:
                raise OptionRejected("The options could not be checked in time.") from None
            while len(self._checked) >= REMEMBERED_CHECKS:
                self._checked.pop(next(iter(self._checked)))
            self._checked[asked] = answer.message if isinstance(answer, Failed) else None
        problem = self._checked[asked]
        if problem is not None:
            field = "options.output_template" if "template" in problem.lower() else "options.format"
            raise OptionRejected(problem, field=field)

    def _spec(self, task: Task, options: JobOptions) -> Spec:
        return Spec(
            task=task,
            options=options,
            policy=self._policy.to_dict(),
            ffmpeg=self._ffmpeg,
            deno_dir=str(self._settings.data_dir / "deno"),
            socket_timeout_seconds=self._settings.socket_timeout_seconds,
            request_pause_seconds=self._settings.request_pause_seconds,
            playlist_limit=min(options.playlist_limit or self._settings.playlist_limit, self._settings.playlist_limit),
        )

    async def _ask(self, spec: Spec, timeout_seconds: float) -> Probed | Failed:
        process = await self._zygote.spawn(spec)
        try:
            async with asyncio.timeout(timeout_seconds):
                async for message in process.messages():
                    if isinstance(message, Probed | Failed):
                        return message
        finally:
            process.kill()
            await asyncio.shield(process.wait())
        return Failed(
            kind=FailureKind.CRASHED,
            message="The process that looked at the link died.",
            hint="; ".join(list(process.last_lines)[-3:]) or None,
        )
