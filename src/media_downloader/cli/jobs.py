"""Commands for the jobs of a running server."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from media_downloader.cli.client import Client

app = typer.Typer(help="Jobs of a running server.", no_args_is_help=True)

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="MEDIA_DOWNLOADER_SERVER",
        help="Where the server is; unset takes MEDIA_DOWNLOADER_HOST and _PORT, http://127.0.0.1:8000 by default.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, or their beginnings (4 digits or more).")]
#: Addresses to listen on that are none to ask at.
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


def _client(server: str | None) -> "Client":
    from media_downloader.cli.client import Client

    return Client(server or _default_server())


def _default_server() -> str:
    from media_downloader.cli.options import settings_with

    settings = settings_with({})
    host = ANYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _each(words: Sequence[str], do: Callable[[str], dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Do the same for each word; what is refused is told and does not keep the others. Return an exit code too."""
    from media_downloader.cli.client import REFUSED, Refused
    from media_downloader.cli.render import plain

    done: list[dict[str, Any]] = []
    code = 0
    for word in words:
        try:
            done.append(do(word))
        except Refused as refused:
            typer.echo(f"{plain(word)}: {refused}", err=True)
            code = REFUSED
    return done, code


def _print(jobs: Sequence[dict[str, Any]], as_json: bool, lines: Callable[[dict[str, Any]], Sequence[str]]) -> None:
    if as_json:
        typer.echo(json.dumps(jobs, indent=1))
        return
    for job in jobs:
        for line in lines(job):
            typer.echo(line)


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only this state; may be given several times.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most jobs to list.")] = 50,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """List jobs, newest first."""
    params = {"limit": limit, "state": state or []}
    pages, code = _each(["list"], lambda _: _client(server).ask("GET", "/jobs", params=params))
    for page in pages:
        if as_json:
            typer.echo(json.dumps(page, indent=1))
        else:
            from media_downloader.cli.render import print_list

            print_list(page)
    raise typer.Exit(code)


@app.command()
def show(ids: Ids, as_json: AsJson = False, server: Server = None) -> None:
    """Show everything about jobs."""
    from media_downloader.cli.render import details

    client = _client(server)
    jobs, code = _each(ids, lambda word: client.ask("GET", f"/jobs/{client.job_id(word)}"))
    _print(jobs, as_json, details)
    raise typer.Exit(code)


@app.command()
def add(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Links to download.")],
    preset: Annotated[str, typer.Option(help="best, 1080p, 720p, 480p, audio, audio-mp3, audio-m4a.")] = "best",
    paused: Annotated[bool, typer.Option("--paused", help="Add them paused.")] = False,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Add links; prints the id of each job."""
    client = _client(server)
    body = {"options": {"preset": preset}, "paused": paused}
    jobs, code = _each(urls, lambda url: client.ask("POST", "/jobs", json={"url": url, **body}))
    _print_short(jobs, as_json)
    raise typer.Exit(code)


def _print_short(jobs: Sequence[dict[str, Any]], as_json: bool) -> None:
    from media_downloader.cli.render import summary

    _print(jobs, as_json, lambda job: [summary(job)])


def _act(action: str, ids: list[str], as_json: bool, server: str | None) -> None:
    client = _client(server)
    jobs, code = _each(ids, lambda word: client.ask("POST", f"/jobs/{client.job_id(word)}/{action}"))
    _print_short(jobs, as_json)
    raise typer.Exit(code)


@app.command()
def pause(ids: Ids, as_json: AsJson = False, server: Server = None) -> None:
    """Stop jobs and keep their bytes."""
    _act("pause", ids, as_json, server)


@app.command()
def resume(ids: Ids, as_json: AsJson = False, server: Server = None) -> None:
    """Let paused jobs go on from the bytes on disk."""
    _act("resume", ids, as_json, server)


@app.command()
def cancel(ids: Ids, as_json: AsJson = False, server: Server = None) -> None:
    """Give jobs up."""
    _act("cancel", ids, as_json, server)


@app.command()
def retry(ids: Ids, as_json: AsJson = False, server: Server = None) -> None:
    """Try failed jobs again."""
    _act("retry", ids, as_json, server)


@app.command()
def remove(
    ids: Ids,
    files: Annotated[bool, typer.Option("--files", help="Delete their files too.")] = False,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Take jobs off the list; their files stay unless asked."""
    client = _client(server)
    params = {"files": str(files).lower()}
    gone, code = _each(ids, lambda word: client.ask("DELETE", f"/jobs/{client.job_id(word)}", params=params))
    _print(gone, as_json, lambda job: [f"Removed {job['id']}"])
    raise typer.Exit(code)
