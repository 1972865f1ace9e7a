"""``mdl serve`` that cannot start says so in one line; one that can, sets a broken database aside."""

import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import one_line, run
from tests.program import Program

pytestmark = pytest.mark.e2e


def test_a_port_that_is_taken_is_one_line(place: Program) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        line = one_line(run(place, "serve"), 2)
    assert line.startswith(f"Cannot listen on 127.0.0.1:{place.port}: Address already in use.")
    assert "MEDIA_DOWNLOADER_PORT" in line


def test_a_host_that_is_not_of_this_machine_is_one_line(place: Program) -> None:
    line = one_line(run(place, "serve", "--host", "192.0.2.1"), 2)
    assert "MEDIA_DOWNLOADER_HOST" in line


def last_line(place: Program, *arguments: str) -> str:
    """Return what a server that gets as far as its folders says at its end; what comes before are log lines."""
    refused = run(place, "serve", *arguments)
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    *before, last = refused.stderr.splitlines()
    assert all(line.startswith("{") for line in before), refused.stderr
    return last


def test_a_database_of_a_newer_version_is_refused_and_left_alone(place: Program) -> None:
    place.data.mkdir()
    database = place.data / "media-downloader.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE kept (text)")
    connection.close()
    before = database.read_bytes()
    assert "was written by a newer version" in last_line(place)
    assert database.read_bytes() == before


def test_a_corrupt_database_is_set_aside_and_said_so(place: Program) -> None:
    place.data.mkdir()
    (place.data / "media-downloader.db").write_bytes(b"no database at all " * 1000)
    with place as server:
        assert server.client.get("/jobs").json()["jobs"] == []
        assert "The database is corrupt: it was set aside" in server.log()
    [kept] = place.data.glob("media-downloader.db.corrupt-*")
    assert kept.read_bytes().startswith(b"no database at all")


def test_two_servers_over_one_database_are_refused(program: Callable[..., Program], place: Program) -> None:
    server = program()
    place.data = server.data
    assert "MEDIA_DOWNLOADER_DATA_DIR" in last_line(place)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("YTDLP_OUTPUT_PATH", "downloads folder"),
        ("MEDIA_DOWNLOADER_DATA_DIR", "data folder"),
        ("MEDIA_DOWNLOADER_LOG_DIR", "log folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_with_its_setting(place: Program, setting: str, name: str) -> None:
    in_the_way = place.folder / "file"
    in_the_way.touch()
    refused = run(place, "serve", environment={setting: str(in_the_way / "below")})
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    last = refused.stderr.splitlines()[-1]
    assert name in last
    assert setting in last
    assert str(in_the_way) in last


@pytest.mark.parametrize(
    ("environment", "arguments", "named"),
    [
        ({"MEDIA_DOWNLOADER_PORT": "many"}, (), "MEDIA_DOWNLOADER_PORT: "),
        ({"MEDIA_DOWNLOADER_MAX_PER_SITE": "-3"}, (), "MEDIA_DOWNLOADER_MAX_PER_SITE: "),
        ({"MEDIA_DOWNLOADER_ALLOWED_ENDPOINTS": "!!"}, (), "allowed endpoints"),
        ({}, ("--log-format", "xml"), "--log-format: "),
        ({}, ("--port", "99999"), "--port: "),
    ],
)
def test_settings_that_make_no_sense_are_one_line(
    place: Program, environment: dict[str, str], arguments: tuple[str, ...], named: str
) -> None:
    assert named in one_line(run(place, "serve", *arguments, environment=environment), 2)
    assert list(Path(place.folder).iterdir()) == []
