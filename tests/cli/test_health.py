"""``media-downloader health``: what a health check is told of a server and of a worker."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from media_downloader.bootstrap.cluster import registry_of
from media_downloader.engines.worker_registry import Announcement
from media_downloader.settings import Settings
from tests.cli.command import one_line, run, told
from tests.program import Program
from tests.redis_server import RedisServer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_server_that_answers_is_well_wherever_it_listens(program: Callable[..., Program], host: str) -> None:
    server = program()
    assert told(run(server, "health", environment={"MEDIA_DOWNLOADER_HOST": host})) == "ok\n"


def test_no_server_is_one_line(place: Program) -> None:
    line = one_line(run(place, "health"), 1)
    assert line == f"No server answers at 127.0.0.1:{place.port}: [Errno 111] Connection refused."


class Impostor(BaseHTTPRequestHandler):
    """Something else that listens on the port."""

    def do_GET(self) -> None:
        body = b'{"status": "welcome"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def impostor(place: Program) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", place.port), Impostor) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("impostor")
def test_another_program_on_the_port_is_not_taken_for_the_server(place: Program) -> None:
    assert "is no Media Downloader that is well" in one_line(run(place, "health"), 1)


def announce(url: str, host: str, *problems: str) -> None:
    """Say what a worker of the host says of itself."""

    async def say() -> None:
        registry = registry_of(Settings(redis_url=url))
        worker = Announcement(f"{host}-1", host, slots=1, versions={}, free_bytes=1, problems=problems)
        await registry.announce(worker, [])
        await registry.close()

    asyncio.run(say())


def check(place: Program, url: str) -> tuple[int, str]:
    finished = run(place, "health", "--worker", environment={"REDIS_URL": url})
    return finished.returncode, (finished.stdout + finished.stderr).strip()


def test_a_worker_is_well_when_it_is_of_this_host_and_has_no_problem(place: Program) -> None:
    host = socket.gethostname()
    with RedisServer() as server:
        announce(server.tcp_url, "elsewhere")
        missed = f"No worker of this host ({host}) has told Redis lately that it lives."
        assert check(place, server.tcp_url) == (1, missed)
        announce(server.tcp_url, host, "The volume is not there.")
        assert check(place, server.tcp_url) == (1, "The volume is not there.")
        announce(server.tcp_url, host)
        assert check(place, server.tcp_url) == (0, "ok")
        server.freeze()
        code, line = check(place, server.tcp_url)
        server.thaw()
        assert (code, "no answer" in line) == (1, True)


def test_a_worker_without_an_address_of_redis_is_one_line(place: Program) -> None:
    assert one_line(run(place, "health", "--worker"), 1) == "REDIS_URL is not set."
