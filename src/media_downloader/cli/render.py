"""Jobs as text for people: nothing that a title says can drive a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def plain(text: object) -> str:
    """Return text without control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in str(text))


def size(count: float | None) -> str:
    """Return bytes for people."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return "?"


def title(job: Mapping[str, Any]) -> str:
    """Return what a person knows a job by."""
    return plain(job["media"].get("title") or job["url"])


def state(job: Mapping[str, Any]) -> str:
    """Return a job's state, and what is about to change or what it waits for."""
    told = str(job["state"])
    if job.get("signal"):
        told += f" ({job['signal']} asked)"
    elif job.get("waiting_for"):
        told += f" (waits for {str(job['waiting_for']).replace('_', ' ')})"
    return told


def percent(job: Mapping[str, Any]) -> str:
    """Return how far a job is."""
    value = job["progress"].get("percent")
    return "" if value is None else f"{value:.0f} %"


def table(jobs: Sequence[Mapping[str, Any]]) -> Any:
    """Return a table of jobs."""
    from rich.table import Table
    from rich.text import Text

    found = Table("id", "state", "", "size", "title", box=None, pad_edge=False)
    for job in jobs:
        cells = (job["id"][:8], state(job), percent(job), size(job["progress"].get("total_bytes")), title(job))
        found.add_row(*(Text(cell) for cell in cells))
    return found


def details(job: Mapping[str, Any]) -> list[str]:
    """Return everything that a person wants to know of one job, a line each."""
    progress = job["progress"]
    sizes = f"{size(progress.get('downloaded_bytes'))} of {size(progress.get('total_bytes'))}"
    lines = [
        f"{job['id']}",
        f"  title     {title(job)}",
        f"  link      {plain(job['url'])}",
        f"  state     {state(job)}",
        f"  progress  {percent(job) or '-'}  {sizes}",
        f"  may be    {', '.join(job['allowed_actions']) or '-'}",
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
            lines.append(f"  retry     {failure['retry']} of {failure['retries']} at {failure['retry_at']}")
    return lines
