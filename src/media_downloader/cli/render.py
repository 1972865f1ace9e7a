"""Jobs as text for people: nothing that a title says can drive a terminal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Wider than any line of a list.
PIPE_COLUMNS = 10_000


def plain(text: object) -> str:
    """Return text without control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in str(text))


def size(count: float | None) -> str:
    """Return bytes for people."""
    if count is None:
        return "?"
    value, unit = _in_unit(count, count)
    return f"{value} {unit}"


def part_of(part: float, whole: float | None) -> str:
    """Return how many bytes of how many: "7.9 of 50.5 MiB"."""
    if whole is None:
        return size(part)
    value, unit = _in_unit(part, whole)
    return f"{value} of {_in_unit(whole, whole)[0]} {unit}"


def _in_unit(count: float, scale: float) -> tuple[str, str]:
    """Return a count in the unit that suits ``scale``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while scale >= 1024 and power < len(units) - 1:
        scale /= 1024
        power += 1
    return (f"{count / 1024**power:.1f}" if power else f"{count:.0f}"), units[power]


def duration(seconds: float | None) -> str:
    """Return seconds for people: 0:07, 12:34, 1:02:03."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def moment(when: datetime) -> str:
    """Return a time of day of this machine's zone, with the date when it is not today's."""
    local = when.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now(UTC).astimezone().date() else "%Y-%m-%d %H:%M")


def title(job: Mapping[str, Any]) -> str:
    """Return what a person knows a job by."""
    return plain(job["media"].get("title") or job["url"])


def state(job: Mapping[str, Any]) -> str:
    """Return a job's state, and what is about to change or what it waits for."""
    told = str(job["state"])
    if job.get("signal"):
        told += f": {job['signal']} asked"
    elif job.get("waiting_for"):
        told += f": {str(job['waiting_for']).replace('_', ' ')}"
    return told


def percent(job: Mapping[str, Any]) -> str:
    """Return how far a job is; a playlist, by how many of its entries are done."""
    if job["is_playlist"]:
        return f"{job['children'].get('done', 0)} of {sum(job['children'].values())}"
    value = job["progress"].get("percent")
    return "" if value is None else f"{value:.0f} %"


def summary(job: Mapping[str, Any]) -> str:
    """Return one line about a job, with its whole id."""
    return f"{job['id']}  {state(job)}  {title(job)}"


def print_list(page: Mapping[str, Any]) -> None:
    """Print a page of jobs: as wide as the terminal, or as the titles where no terminal is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(job) for job in page["jobs"]]
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(("id", "state", "done", "size", "speed", "left")):
        # Only the title gives way where the terminal is narrow.
        width = max([len(name), *(len(row[number]) for row in rows)])
        table.add_column(name, no_wrap=True, min_width=width, justify="left" if number < 2 else "right")
    table.add_column("title", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        # A pipe has no width: whole titles for grep and awk.
        console = Console(width=PIPE_COLUMNS)
    if rows:
        console.print(table)
    else:
        console.print("No jobs.")
    if page["next_cursor"] is not None:
        console.print("There are more: --limit, --state")


def _cells(job: Mapping[str, Any]) -> tuple[str, ...]:
    progress = job["progress"]
    running = job["state"] == "downloading"
    total, speed = progress.get("total_bytes"), progress.get("speed_bytes_per_second")
    return (
        job["id"][:8],
        state(job),
        percent(job),
        "" if total is None else size(total),
        f"{size(speed)}/s" if running and speed else "",
        duration(progress.get("eta_seconds")) if running else "",
        title(job),
    )


def details(job: Mapping[str, Any]) -> list[str]:
    """Return everything that a person wants to know of one job, a line each."""
    progress = job["progress"]
    sizes = part_of(progress["downloaded_bytes"], progress.get("total_bytes"))
    lines = [
        f"{job['id']}",
        f"  title     {title(job)}",
        f"  link      {plain(job['url'])}",
        f"  state     {state(job)}",
        f"  progress  {percent(job) or '-'}  {sizes}",
        f"  added     {_when(job['created_at'])}",
        f"  may be    {', '.join(_PARTICIPLES.get(action, action) for action in job['allowed_actions']) or '-'}",
    ]
    lines += [
        f"  file      {plain(artifact['name'])} ({size(artifact['size_bytes'])})" for artifact in job["artifacts"]
    ]
    lines += [f"  notice    {plain(notice)}" for notice in job["notices"]]
    failure = job.get("failure")
    if failure:
        lines.append(f"  failure   {failure['kind']}: {plain(failure['message'])}")
        if failure.get("hint"):
            lines.append(f"  hint      {plain(failure['hint'])}")
        if failure.get("retry_at"):
            lines.append(f"  retry     {failure['retry']} of {failure['retries']} at {_when(failure['retry_at'])}")
    return lines


#: What a job may be, for what may be asked of it.
_PARTICIPLES = {"pause": "paused", "resume": "resumed", "cancel": "canceled", "retry": "retried"}


def _when(text: str) -> str:
    return moment(datetime.fromisoformat(text))
