"""Commands for the jobs of a running server."""

import json
from typing import Annotated, Any

import typer

app = typer.Typer(help="Jobs of a running server.", no_args_is_help=True)

Server = Annotated[
    str, typer.Option("--server", envvar="MEDIA_DOWNLOADER_SERVER", help="Where the server is.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, or their beginnings (4 digits or more).")]
DEFAULT_SERVER = "http://127.0.0.1:8000"


def _client(server: str) -> Any:
    from media_downloader.cli.client import Client

    return Client(server)


def _show(jobs: list[Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(jobs, indent=1))
        return
    from media_downloader.cli.render import details

    for job in jobs:
        typer.echo("\n".join(details(job)))


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List jobs, newest first."""
    page = _client(server).ask("GET", "/jobs", params={"limit": limit, "state": state or []})
    if as_json:
        typer.echo(json.dumps(page, indent=1))
        return
    from rich.console import Console

    from media_downloader.cli.render import table

    Console().print(table(page["jobs"]))


@app.command()
def show(ids: Ids, as_json: AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Show everything about jobs."""
    client = _client(server)
    _show([client.ask("GET", f"/jobs/{client.job_id(prefix)}") for prefix in ids], as_json)


@app.command()
def add(
    urls: Annotated[list[str], typer.Argument(metavar="URL...")],
    preset: Annotated[str, typer.Option(help="best, 1080p, 720p, 480p, audio, audio-mp3, audio-m4a.")] = "best",
    paused: Annotated[bool, typer.Option("--paused", help="Add them paused.")] = False,
    as_json: AsJson = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Add links."""
    client = _client(server)
    body = {"options": {"preset": preset}, "paused": paused}
    _show([client.ask("POST", "/jobs", json={"url": url, **body}) for url in urls], as_json)


def _act(action: str, ids: list[str], as_json: bool, server: str) -> None:
    client = _client(server)
    _show([client.ask("POST", f"/jobs/{client.job_id(prefix)}/{action}") for prefix in ids], as_json)


@app.command()
def pause(ids: Ids, as_json: AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Stop jobs and keep their bytes."""
    _act("pause", ids, as_json, server)


@app.command()
def resume(ids: Ids, as_json: AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Let paused jobs go on from the bytes on disk."""
    _act("resume", ids, as_json, server)


@app.command()
def cancel(ids: Ids, as_json: AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Give jobs up."""
    _act("cancel", ids, as_json, server)


@app.command()
def retry(ids: Ids, as_json: AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Try failed jobs again."""
    _act("retry", ids, as_json, server)


@app.command()
def remove(
    ids: Ids,
    files: Annotated[bool, typer.Option("--files", help="Delete their files too.")] = False,
    as_json: AsJson = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Take jobs off the list; their files stay unless asked."""
    client = _client(server)
    params = {"files": str(files).lower()}
    gone = [client.ask("DELETE", f"/jobs/{client.job_id(prefix)}", params=params) for prefix in ids]
    typer.echo(json.dumps(gone, indent=1) if as_json else "\n".join(f"Removed {one['id']}" for one in gone))
