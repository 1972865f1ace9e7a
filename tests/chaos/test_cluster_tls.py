"""A Redis that speaks TLS: its certificate is proven, by the store and by the broker alike."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from media_downloader.engines.celery_app import make_app
from tests.chaos.conftest import StartCluster
from tests.origin.compare import sha256
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program
from tests.redis_server import RedisServer
from tests.tls import TlsRelay, make_certificate

pytestmark = pytest.mark.chaos


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def line(own_redis: RedisServer, certificate: Path) -> Iterator[TlsRelay]:
    with TlsRelay(own_redis.port, certificate) as made:
        yield made


def test_jobs_are_done_over_tls(cluster: StartCluster, certificate: Path, origin: Origin, media: Media) -> None:
    many = cluster(workers=0)
    with TlsRelay(many.redis.port, certificate) as line:
        url = f"{line.redis_url}?ssl_ca_certs={certificate}"
        many.add_worker(REDIS_URL=url)
        server = many.add_server(redis_url=url)
        many.wait_workers(1)
        done = server.wait_done(server.add(origin.url("small.mp4"))["id"])
        assert sha256(server.file_of(done)) == sha256(media.small)
        many.workers[0].close()
        server.terminate()


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_certificate_that_is_not_trusted_is_named_at_the_start(tmp_path: Path, line: TlsRelay, command: str) -> None:
    program = Program(tmp_path / "program", mode="celery", redis_url=line.redis_url)
    program.folder.mkdir()
    run = [sys.executable, "-m", "media_downloader", command]
    ended = subprocess.run(
        run, env=program.environment(), cwd=program.folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2, ended.stderr
    assert "The certificate of Redis is not trusted here: add ?ssl_ca_certs=" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_broker_proves_it_too_unless_the_address_says_otherwise(line: TlsRelay, certificate: Path) -> None:
    """Whoever answers would be told the password, and could send messages."""

    def reach(query: str) -> None:
        with make_app(line.redis_url + query).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            connection.default_channel.client.ping()

    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        reach("")
    reach(f"?ssl_ca_certs={certificate}")
    reach("?ssl_cert_reqs=none&ssl_check_hostname=false")
