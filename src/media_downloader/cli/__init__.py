"""The command line: parse, call, print. Everything heavy is imported by the command that needs it."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from media_downloader import __version__
from media_downloader.cli import jobs
from media_downloader.cli.options import settings_with
from media_downloader.errors import MediaDownloaderError

app = typer.Typer(
    name="media-downloader",
    help="Download media from any site yt-dlp knows: pausable, resumable, unhurt by any crash.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(jobs.app, name="jobs")

Folder = Annotated[Path | None, typer.Option("--downloads", help="Folder for the files.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before a command."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    downloads: Folder = None,
    data: Annotated[Path | None, typer.Option(help="Folder for the database.")] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
) -> None:
    """Serve the API until Ctrl-C."""
    given = {"host": host, "port": port, "downloads_dir": downloads, "data_dir": data, "log_format": log_format}
    from media_downloader.api.server import serve as run

    run(settings_with(given))


@app.command()
def worker(
    concurrency: Annotated[int | None, typer.Option(help="Downloads at once.")] = None,
    downloads: Folder = None,
    data: Annotated[Path | None, typer.Option(help="This machine's own folder.")] = None,
) -> None:
    """Run downloads that servers hand out through Redis, until a signal ends it."""
    from media_downloader.worker import work

    work(settings_with({"worker_concurrency": concurrency, "downloads_dir": downloads, "data_dir": data}))


@app.command()
def get(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Links to download.")],
    preset: Annotated[str, typer.Option(help="best, 1080p, 720p, 480p, audio, audio-mp3, audio-m4a.")] = "best",
    format_expression: Annotated[str | None, typer.Option("--format", help="yt-dlp format expression.")] = None,
    subtitles: Annotated[str | None, typer.Option("--subs", help="Languages, with commas: en,de.")] = None,
    output_template: Annotated[str | None, typer.Option(help="Name of the file: %(title)s.")] = None,
    downloads: Folder = None,
) -> None:
    """Download links here and now. Ctrl-C pauses; the same command again goes on from there."""
    from media_downloader.cli.get import Order, download

    options: dict[str, Any] = {"preset": preset}
    if format_expression is not None:
        options["format"] = format_expression
    if subtitles is not None:
        options["subtitles"] = [language.strip() for language in subtitles.split(",")]
    if output_template is not None:
        options["output_template"] = output_template
    raise typer.Exit(download(Order(urls, options, settings_with({"downloads_dir": downloads}))))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    downloads: Folder = None,
) -> None:
    """Say what is missing on this machine, and how to get it."""
    from media_downloader.cli.doctor import examine

    raise typer.Exit(examine(settings_with({"downloads_dir": downloads}), as_json=as_json))


@app.command()
def health(
    of_worker: Annotated[
        bool, typer.Option("--worker", help="Ask for this host's worker, not for the server.")
    ] = False,
) -> None:
    """Say whether the server of this machine answers; exit code 1 when not. For health checks."""
    from media_downloader.cli.health import check

    raise typer.Exit(check(settings_with({}), worker=of_worker))


@app.command("migrate-jobs")
def migrate_jobs(
    to: Annotated[str, typer.Option("--to", help="redis or sqlite: where the jobs are to live.", metavar="STORE")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    downloads: Folder = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the server's database.")] = None,
) -> None:
    """Move all jobs between the database of one server and Redis, half-done downloads included.

    Stop every server and worker first. Jobs are copied, compared and only then removed from where they were; a move
    that was cut off is finished by the same command.
    """
    if to not in {"redis", "sqlite"}:
        raise typer.BadParameter("redis or sqlite", param_hint="'--to'")
    from media_downloader.cli.migrate import migrate

    target: Literal["redis", "sqlite"] = "redis" if to == "redis" else "sqlite"
    raise typer.Exit(migrate(settings_with({"downloads_dir": downloads, "data_dir": data}), target, dry_run=dry_run))


def main() -> None:
    """Run the command line; what goes wrong on purpose is one line and an exit code, never a trace."""
    try:
        app()
    except MediaDownloaderError as error:
        from media_downloader.cli.render import plain

        typer.echo(plain(error.detail), err=True)
        sys.exit(2)
