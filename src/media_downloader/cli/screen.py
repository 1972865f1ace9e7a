"""What ``get`` shows while it works: a bar for each running job in a terminal, a line for each event elsewhere."""

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from media_downloader.cli.render import duration, part_of, plain, size
from media_downloader.jobs.model import Job, Phase
from media_downloader.jobs.state import State

#: What each phase is called beside its bar.
PHASES = {
    None: "starting",
    Phase.EXTRACT: "looking",
    Phase.MERGE: "merging",
    Phase.CONVERT: "converting",
    Phase.VERIFY: "checking",
    Phase.PUBLISH: "saving",
}


class _Cell(ProgressColumn):
    """Shows a field of a task, as wide as it needs, aligned to the right."""

    def __init__(self, name: str) -> None:
        super().__init__(Column(no_wrap=True, justify="right"))
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(task.fields.get(self._name, ""))


class _Bars(Progress):
    """Leaves room for the "^C" that a terminal echoes: a line that it breaks would stay as litter."""

    def get_renderable(self) -> RenderableType:
        return _Narrower(super().get_renderable())


class _Narrower:
    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._inner, options.update_width(max(20, options.max_width - 3)))


class Screen:
    """Standard error, whatever it is."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        #: What was said of each job last, so that nothing is said twice.
        self._said: dict[str, str] = {}
        #: Output for which there is no room while bars move on the same terminal.
        self._kept: list[str] = []

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            title = Column(ratio=3, no_wrap=True, overflow="ellipsis")
            self._bars = _Bars(
                TextColumn("{task.description}", markup=False, table_column=title),
                BarColumn(None, table_column=Column(ratio=2)),
                *(_Cell(name) for name in ("percent", "size", "speed", "eta", "phase")),
                console=self._console,
                expand=True,
                # What goes to standard output is for programs: it must not come out here.
                redirect_stdout=False,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._bars.stop()
            self._bars = None
        for text in self._kept:
            self.emit(text)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if self._console.is_terminal:
            self._console.print(Text(text), soft_wrap=True)
        else:
            # As it is: nobody wants a log wrapped.
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - the command's own output

    def emit(self, text: str) -> None:
        """Print a line of the command's result to standard output; behind the bars when both are one terminal."""
        if self._bars is not None and sys.stdout.isatty():
            self._kept.append(text)
        else:
            print(text, flush=True)  # noqa: T201 - the command's own output

    def say_once(self, key: str, text: str) -> None:
        """Print a line, unless it is what was said last about the same thing."""
        if self._said.get(key) != text:
            self._said[key] = text
            self.say(text)

    def draw(self, job: Job) -> None:
        """Show how a job is doing."""
        if job.is_playlist:
            done = sum(count for state, count in job.children.items() if state in {State.DONE, State.ERROR})
            known = sum(job.children.values())
            self._update(job.id, job, done, known, size=f"{done} of {known}", phase="playlist")
            return
        progress = job.progress
        fields = {
            "percent": "" if progress.percent is None else f"{progress.percent:.0f} %",
            "size": part_of(progress.downloaded_bytes, progress.total_bytes) if progress.downloaded_bytes else "",
            "speed": f"{size(progress.speed_bytes_per_second)}/s" if progress.speed_bytes_per_second else "",
            "eta": duration(progress.eta_seconds),
            "phase": _phase(job),
        }
        # A bar without an end keeps moving: right for work of unknown length, wrong for waiting.
        total = progress.total_bytes if job.state is not State.QUEUED else progress.total_bytes or 1
        self._update(job.id, job, progress.downloaded_bytes, total, **fields)

    def drop(self, job: Job) -> None:
        """Take a job's bar away."""
        task = self._tasks.pop(job.id, None)
        if task is not None and self._bars is not None:
            self._bars.remove_task(task)

    def finished(self, job: Job) -> None:
        """Put a line in the place of a finished job's bar; nothing for one that is done where lines are for errors."""
        self.drop(job)
        if job.state is State.DONE:
            if self._console.is_terminal:
                total = sum(artifact.size_bytes for artifact in job.artifacts)
                self._console.print(Text.assemble(("✓ ", "green"), name_of(job), (f"  {size(total)}", "dim")))
            return
        self.say(f"{job.state}: {name_of(job)}")
        if job.failure is not None:
            self.say(f"  {job.failure.kind}: {plain(job.failure.message)}")
            if job.failure.hint:
                self.say(f"  {plain(job.failure.hint)}")

    def paused(self, job: Job) -> None:
        """Put a line in the place of a paused job's bar."""
        self.drop(job)
        if job.state is State.PAUSED:
            at = f" at {job.progress.percent:.0f} %" if job.progress.percent else ""
            self.say(f"paused{at}: {name_of(job)}")

    def _update(self, key: str, job: Job, completed: float, total: float | None, **fields: Any) -> None:
        if self._bars is None:
            return
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task("", total=None)
        self._bars.update(self._tasks[key], description=name_of(job), completed=completed, total=total, **fields)


def name_of(job: Job) -> str:
    """Return what a person knows a job by."""
    return plain(job.media.title or job.url)


def _phase(job: Job) -> str:
    if job.state is State.QUEUED:
        return "waiting"
    phase = job.progress.phase
    return PHASES.get(phase, str(phase))
