"""``mdl get``: a file, a bar, a pause by Ctrl-C, and a second run that goes on from the bytes on disk."""

import time

import pytest

from tests.cli.command import Get, kept_bytes, one_line, run, told, work_folders
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program, wait_until

pytestmark = pytest.mark.e2e

#: yt-dlp asks twice: what it is, then for the bytes. Only these two are slow, what a resume asks for is not.
SLOW = "rate=4000000,slowtimes=2"
MEGABYTE = 1_000_000


def test_a_link_becomes_a_file_whose_path_is_printed(place: Program, origin: Origin, media: Media) -> None:
    assert told(run(place, "get", origin.url("small.mp4"))) == f"{place.downloads / 'small.mp4'}\n"
    assert sha256(place.downloads / "small.mp4") == sha256(media.small)
    assert place.published() == ["small.mp4"]
    assert work_folders(place) == []


def test_several_links_and_an_option_in_one_command(place: Program, origin: Origin) -> None:
    links = [origin.url(name) for name in ("small.mp4", "other.mp4", "small.mp4")]
    printed = told(run(place, "get", *links, "--output-template", "a %(title)s"))
    assert sorted(printed.splitlines()) == [str(place.downloads / f"a {name}.mp4") for name in ("other", "small")]


def test_a_playlist_prints_the_path_of_each_entry(place: Program, origin: Origin) -> None:
    feed(origin, "small.mp4", "other.mp4")
    printed = told(run(place, "get", origin.url("feed.xml")))
    assert sorted(printed.splitlines()) == [str(place.downloads / name) for name in ("other.mp4", "small.mp4")]


def test_a_playlist_that_was_interrupted_goes_on_and_fetches_nothing_twice(place: Program, origin: Origin) -> None:
    feed(origin, "small.mp4", "big.mp4")
    first = Get(place, origin.url("feed.xml", "rate=4000000,slowtimes=2"))
    first.wait_bytes(4 * MEGABYTE)
    assert first.interrupt(group=True) == 130
    again = Get(place, origin.url("feed.xml", "rate=4000000,slowtimes=2"))
    assert again.wait() == 0
    assert place.published() == ["big.mp4", "small.mp4"]
    assert sorted(path.name for path in again.paths) == ["big.mp4", "small.mp4"]


def feed(origin: Origin, *names: str) -> None:
    """Put a playlist that names files of the origin; each is as slow as the link of the feed says."""
    items = "".join(f"<item><title>{name}</title><link>{origin.url(name, SLOW)}</link></item>" for name in names)
    origin.page(
        "feed.xml", f'<?xml version="1.0"?><rss version="2.0"><channel><title>Feed</title>{items}</channel></rss>'
    )


@pytest.mark.parametrize("group", [True, False], ids=["group", "process"])
def test_an_interrupt_pauses_and_the_same_command_goes_on_from_these_bytes(
    place: Program, origin: Origin, media: Media, group: bool
) -> None:
    url = origin.url("big.mp4", SLOW)
    first = Get(place, url)
    first.wait_bytes(8 * MEGABYTE)
    assert first.interrupt(group=group) == 130
    assert "paused at " in first.shown
    assert "the same command goes on from here" in first.shown
    assert first.paths == []
    kept = kept_bytes(place)
    assert kept >= 8 * MEGABYTE
    assert place.published() == []

    second = Get(place, url)
    assert second.wait() == 0
    assert "Resuming at" in second.shown
    assert second.paths == [place.downloads / "big.mp4"]
    assert sha256(place.downloads / "big.mp4") == sha256(media.big)
    assert f"bytes={kept - 1}-" in {seen.range for seen in origin.requests("big.mp4")}
    assert work_folders(place) == []


def test_a_shutdown_pauses_too(place: Program, origin: Origin) -> None:
    command = Get(place, origin.url("big.mp4", SLOW))
    command.wait_bytes(4 * MEGABYTE)
    assert command.terminate() == 143
    assert "paused at " in command.shown
    assert kept_bytes(place) >= 4 * MEGABYTE


def test_links_that_were_done_before_the_interrupt_or_beside_a_failure_are_not_fetched_again(
    place: Program, origin: Origin
) -> None:
    small, big, gone = origin.url("small.mp4"), origin.url("big.mp4", SLOW), origin.url("nothing.mp4")
    first = Get(place, small, big)
    wait_until(lambda: first.paths, "the small one to be done")
    first.wait_bytes(4 * MEGABYTE)
    assert first.interrupt(group=True) == 130

    second = run(place, "get", small, big, gone)
    assert second.returncode == 1
    assert second.stdout.splitlines() == [str(place.downloads / name) for name in ("small.mp4", "big.mp4")]
    assert run(place, "get", small, big, gone).stdout == second.stdout
    assert place.published() == ["big.mp4", "small.mp4"]

    # At its end a command is forgotten: asked again, it downloads again, beside the file that is there.
    assert told(run(place, "get", small, big)) == second.stdout
    assert told(run(place, "get", small)) == f"{place.downloads / 'small (2).mp4'}\n"


def test_a_killed_get_leaves_bytes_that_the_next_one_goes_on_from(place: Program, origin: Origin, media: Media) -> None:
    url = origin.url("big.mp4", SLOW)
    first = Get(place, url)
    first.wait_bytes(8 * MEGABYTE)
    first.kill()
    kept = kept_bytes(place)

    assert told_path(Get(place, url)) == place.downloads / "big.mp4"
    assert sha256(place.downloads / "big.mp4") == sha256(media.big)
    assert f"bytes={kept - 1}-" in {seen.range for seen in origin.requests("big.mp4")}


def told_path(command: Get) -> object:
    """Return the single path that a command printed, which must succeed."""
    assert command.wait() == 0, command.shown
    assert len(command.paths) == 1
    return command.paths[0]


def test_a_get_of_another_link_leaves_what_was_killed_alone(place: Program, origin: Origin, media: Media) -> None:
    first = Get(place, origin.url("big.mp4", SLOW))
    first.wait_bytes(4 * MEGABYTE)
    first.kill()
    kept = kept_bytes(place)
    # Slow enough for the other one to be started beside it, if that were to happen.
    assert told_path(Get(place, origin.url("small.mp4", "rate=200000"))) == place.downloads / "small.mp4"
    assert kept_bytes(place) == kept
    assert len(origin.requests("big.mp4")) <= 2
    assert told_path(Get(place, origin.url("big.mp4", SLOW))) == place.downloads / "big.mp4"
    assert sha256(place.downloads / "big.mp4") == sha256(media.big)


def test_the_same_link_in_another_spelling_goes_on_too(place: Program, origin: Origin) -> None:
    first = Get(place, origin.url("big.mp4", SLOW))
    first.wait_bytes(4 * MEGABYTE)
    assert first.interrupt(group=True) == 130
    second = Get(place, origin.url("big.mp4", SLOW).replace("http://", "HTTP://"))
    assert told_path(second) == place.downloads / "big.mp4"
    assert "Resuming at" in second.shown


def test_an_interrupt_before_the_first_byte_ends_at_once(place: Program, origin: Origin) -> None:
    command = Get(place, origin.url("small.mp4", "stall=0"))
    wait_until(lambda: work_folders(place), "the job to have begun", 30)
    began = time.monotonic()
    assert command.interrupt(group=True) == 130
    assert time.monotonic() - began < 5
    assert command.shown.startswith("paused: ")


def test_a_link_that_fails_says_why_and_what_to_do(place: Program, origin: Origin) -> None:
    failed = run(place, "get", origin.url("nothing.mp4"))
    assert failed.returncode == 1
    assert failed.stdout == ""
    lines = failed.stderr.splitlines()
    assert lines[0] == f"error: {origin.url('nothing.mp4')}"
    assert lines[1].startswith("  unavailable: ")
    assert "404" in lines[1]
    assert lines[2].startswith("  Open the link in a browser")
    assert len(lines) == 3


def test_a_refused_link_does_not_keep_the_others(place: Program, origin: Origin) -> None:
    mixed = run(place, "get", "ftp://example.org/x", "http://10.0.0.1/x", origin.url("small.mp4"))
    assert mixed.returncode == 1
    assert mixed.stdout == f"{place.downloads / 'small.mp4'}\n"
    assert "refused: ftp://example.org/x\n  invalid_url: " in mixed.stderr
    assert "refused: http://10.0.0.1/x\n  url_blocked: " in mixed.stderr


def test_a_failure_that_passes_is_told_and_retried(place: Program, origin: Origin) -> None:
    retried = run(place, "get", origin.url("small.mp4", "status=503,times=1"))
    assert retried.returncode == 0
    assert retried.stdout == f"{place.downloads / 'small.mp4'}\n"
    assert "server_error: " in retried.stderr
    assert "Retry 1 of 5 waits until " in retried.stderr


@pytest.mark.parametrize(
    ("arguments", "told_of"),
    [
        (("--preset", "huge"), "preset"),
        (("--format", "[[["), "format"),
        (("--output-template", "../x"), "template"),
        (("--subs", "e n"), "subtitles"),
    ],
)
def test_a_bad_option_is_one_line(place: Program, origin: Origin, arguments: tuple[str, ...], told_of: str) -> None:
    assert told_of in one_line(run(place, "get", origin.url("small.mp4"), *arguments), 2)
    assert origin.requests("small.mp4") == []


def test_a_folder_that_cannot_be_written_is_one_line(place: Program, origin: Origin) -> None:
    place.downloads.write_text("a file")
    assert "cannot be written" in one_line(run(place, "get", origin.url("small.mp4")), 2)


def test_in_a_terminal_each_job_has_a_bar_and_then_a_line(place: Program, origin: Origin) -> None:
    origin.page("page.html", "<title>A \x1b]0;owned\x07title</title><video src='small.mp4'></video>")
    command = Get(place, origin.url("big.mp4", "rate=20000000"), origin.url("page.html"), terminal=True)
    assert command.wait() == 0
    shown = command.shown
    assert "MiB/s" in shown
    assert " of 50.5 MiB" in shown
    assert "video" in shown
    assert "✓ big  50.5 MiB" in shown
    assert "]0;owned" in shown
    assert b"\x1b]0" not in command.raw
    assert shown.rstrip().endswith(".mp4")
    assert str(place.downloads / "big.mp4") in shown


def test_an_interrupt_in_a_terminal_leaves_the_line_of_the_paused_job(place: Program, origin: Origin) -> None:
    command = Get(place, origin.url("big.mp4", SLOW), terminal=True)
    command.wait_bytes(4 * MEGABYTE)
    assert command.interrupt(group=True) == 130
    assert "paused at " in command.shown
