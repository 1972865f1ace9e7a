"""The filtering proxy lets the allowed side through unharmed, and nothing else."""

import base64
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import imageio_ffmpeg
import pytest
import requests
from netguard_loopback import PUBLIC_PLAYED, SECRET, Site, inside, run_python

from media_downloader.netguard import BLOCKED_MARKER, EgressProxy, Policy

POLICY = Policy.parse(False, PUBLIC_PLAYED)
BIG = os.urandom(3 * 1024 * 1024)
TABLE = {"good.test": ["127.1.0.1"], "bad.test": ["127.0.0.1"], "mixed.test": ["127.1.0.1", "127.0.0.1"]}


def resolver(host: str, port: int) -> list[str]:
    if host not in TABLE:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    return TABLE[host]


@pytest.fixture
def proxy() -> Iterator[EgressProxy]:
    with EgressProxy(POLICY, resolver) as running:
        yield running


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(
        "127.1.0.1", {"/": (200, {"X-Kept": "1", "Keep-Alive": "x"}, b"public"), "/big": (200, {}, BIG)}
    ) as running:
        yield running


@pytest.fixture
def secret() -> Iterator[Site]:
    with inside() as running:
        yield running


def through(proxy: EgressProxy, method: str, url: str, **keywords) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, proxies={"http": proxy.url, "https": proxy.url}, timeout=10, **keywords)


def speak(proxy: EgressProxy, text: bytes, *, authorized: bool = True) -> bytes:
    """Send raw bytes (with ``{auth}`` filled in) and read until the proxy closes."""
    parts = urlsplit(proxy.url)
    token = base64.b64encode(f"{parts.username}:{parts.password}".encode())
    auth = b"Proxy-Authorization: Basic " + token + b"\r\n" if authorized else b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
        sock.sendall(text.replace(b"{auth}", auth))
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


def test_an_allowed_request_passes_with_its_body_and_without_proxy_headers(proxy: EgressProxy, site: Site) -> None:
    answer = through(proxy, "POST", f"{site.url}/?a=b", data=b"x" * 100_000, headers={"X-Own": "1"})
    assert (answer.status_code, answer.content, answer.headers["X-Kept"]) == (200, b"public", "1")
    assert "Keep-Alive" not in answer.headers
    assert site.bodies == [b"x" * 100_000]
    assert site.seen == ["/?a=b"]
    headers = site.headers[0]
    assert headers["x-own"] == "1"
    assert headers["host"] == f"127.1.0.1:{site.port}"
    assert not [name for name in headers if name.startswith("proxy-")]


def test_large_bodies_pass_unchanged(proxy: EgressProxy, site: Site) -> None:
    assert through(proxy, "GET", f"{site.url}/big").content == BIG


def test_a_head_request_has_no_body(proxy: EgressProxy, site: Site) -> None:
    answer = through(proxy, "HEAD", f"{site.url}/big")
    assert answer.headers["Content-Length"] == str(len(BIG))
    assert answer.content == b""


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "bad.test",
        "mixed.test",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "0.0.0.0",
    ],
)
@pytest.mark.parametrize("form", ["absolute", "connect"])
def test_what_leads_inside_is_answered_with_403_and_recorded(
    proxy: EgressProxy, secret: Site, host: str, form: str
) -> None:
    TABLE.setdefault("localhost", ["127.0.0.1"])
    target = f"{host}:{secret.port}".encode()
    line = b"CONNECT " + target if form == "connect" else b"GET http://" + target + b"/"
    answer = speak(proxy, line + b" HTTP/1.1\r\nHost: good.test\r\n{auth}\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert BLOCKED_MARKER.encode() in answer
    assert secret.seen == []
    assert len(proxy.blocked) == 1


def test_names_are_resolved_by_the_proxy_once(site: Site) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.1.0.1"] if len(asked) == 1 else ["127.0.0.1"]

    with EgressProxy(POLICY, rebinding) as proxy:
        assert through(proxy, "GET", f"http://rebind.test:{site.port}/").content == b"public"
        assert asked == ["rebind.test"]
        assert site.headers[0]["host"] == f"rebind.test:{site.port}"
        assert through(proxy, "GET", f"http://rebind.test:{site.port}/").status_code == 403


def test_a_redirect_to_the_inside_is_refused(proxy: EgressProxy, secret: Site) -> None:
    with Site("127.1.0.1", {"/": (302, {"Location": f"{secret.url}/"}, b"")}) as site:
        answer = through(proxy, "GET", site.url)
    assert answer.status_code == 403
    assert SECRET not in answer.content
    assert secret.seen == []
    assert proxy.blocked == [f"127.0.0.1:{secret.port}"]


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET ftp://good.test/ HTTP/1.1\r\n{auth}\r\n", 501),
        (b"GET file:///etc/passwd HTTP/1.1\r\n{auth}\r\n", 501),
        (b"GET https://good.test/ HTTP/1.1\r\n{auth}\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: good.test\r\n{auth}\r\n", 400),
        (b"CONNECT good.test HTTP/1.1\r\n{auth}\r\n", 400),
        (b"CONNECT good.test:99999 HTTP/1.1\r\n{auth}\r\n", 400),
        (b"GET http://exa mple/ HTTP/1.1\r\n{auth}\r\n", 400),
        (b"GET http://[::1/ HTTP/1.1\r\n{auth}\r\n", 400),
        (b"GET http://%ff/ HTTP/1.1\r\n{auth}\r\n", 400),
        (b"GET http://good.test/ HTTP/2\r\n{auth}\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\nX: a\nHost: b\r\n{auth}\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\n folded\r\n{auth}\r\n", 400),
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n{auth}\r\n", 431),
        (b"GET http://unknown.test/ HTTP/1.1\r\n{auth}\r\n", 502),
    ],
)
def test_what_is_no_request_to_a_proxy_is_refused(proxy: EgressProxy, request_text: bytes, status: int) -> None:
    assert speak(proxy, request_text).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("header", [b"", b"Proxy-Authorization: Basic bWQ6eA==\r\n", b"Proxy-Authorization: x\r\n"])
def test_nobody_without_the_password_gets_through(proxy: EgressProxy, site: Site, header: bytes) -> None:
    answer = speak(proxy, b"GET " + site.url.encode() + b"/ HTTP/1.1\r\n" + header + b"\r\n", authorized=False)
    assert answer.startswith(b"HTTP/1.1 407 ")
    assert b"Proxy-Authenticate: Basic" in answer
    assert site.seen == []


def test_a_second_request_on_the_connection_is_not_sent_elsewhere(proxy: EgressProxy, site: Site, secret: Site) -> None:
    first = f"GET {site.url}/ HTTP/1.1\r\nHost: x\r\n".encode() + b"{auth}\r\n"
    answer = speak(proxy, first + f"GET {secret.url}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 200") == 1 or answer.count(b"HTTP/1.0 200") == 1
    assert secret.seen == []


def echo_server(host: str) -> tuple[socket.socket, threading.Thread]:
    """Sends back what it gets, in one connection, and says good-bye when the other side has ended."""
    listener = socket.create_server((host, 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while chunk := connection.recv(65536):
                connection.sendall(chunk)
            connection.sendall(b"bye")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread


def test_a_tunnel_carries_both_directions_and_the_end_of_one(proxy: EgressProxy) -> None:
    listener, thread = echo_server("127.1.0.1")
    parts = urlsplit(proxy.url)
    token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    with listener, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
        port = listener.getsockname()[1]
        sock.sendall(f"CONNECT good.test:{port} HTTP/1.1\r\nProxy-Authorization: Basic {token}\r\n\r\n".encode())
        stream = sock.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 200 ")
        assert stream.readline() == b"\r\n"
        for word in (b"one\n", b"two\n"):
            sock.sendall(word)
            assert stream.readline() == word
        sock.shutdown(socket.SHUT_WR)
        assert stream.read() == b"bye"
    thread.join(5)
    assert not thread.is_alive()


def answer_once(raw: bytes) -> tuple[socket.socket, list[bytes], threading.Thread]:
    """A host on the public side that sends these very bytes to its first client."""
    listener = socket.create_server(("127.1.0.1", 0))
    got: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            got.append(connection.recv(65536))
            connection.sendall(raw)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, got, thread


@pytest.mark.parametrize(
    ("raw", "passed"),
    [
        (
            b"HTTP/1.1 200 OK\nX-A: 1\nKeep-Alive: 5\n\nbody",
            b"HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: close\r\n\r\nbody",
        ),
        (
            b"HTTP/1.0 200\r\nX-A: 1\r\n  2\r\nno header\r\n\r\nbody",
            b"HTTP/1.0 200\r\nX-A: 1 2\r\nConnection: close\r\n\r\nbody",
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nConnection: close\r\n\r\n",
        ),
        (b"ICY 200 OK\r\nicy-name: x\r\n\r\nsound", b"ICY 200 OK\r\nicy-name: x\r\n\r\nsound"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
    ],
)
def test_answers_of_sloppy_hosts_pass_mended(proxy: EgressProxy, raw: bytes, passed: bytes) -> None:
    listener, _, thread = answer_once(raw)
    with listener:
        target = f"http://127.1.0.1:{listener.getsockname()[1]}/".encode()
        assert speak(proxy, b"GET " + target + b" HTTP/1.1\r\n{auth}\r\n") == passed
        thread.join(5)


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 101 Switch\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000])
def test_answers_that_cannot_be_passed_on_are_bad_gateways(proxy: EgressProxy, raw: bytes) -> None:
    listener, _, thread = answer_once(raw)
    with listener:
        target = f"http://127.1.0.1:{listener.getsockname()[1]}/".encode()
        assert speak(proxy, b"GET " + target + b" HTTP/1.1\r\n{auth}\r\n").startswith(b"HTTP/1.1 502 ")
        thread.join(5)


def test_paths_are_passed_on_as_they_are_sent(proxy: EgressProxy) -> None:
    listener, got, thread = answer_once(b"HTTP/1.1 204 No\r\n\r\n")
    with listener:
        target = f"http://127.1.0.1:{listener.getsockname()[1]}/a b/ü?x=%zz".encode()
        request = (
            b"GET " + target + b" HTTP/1.1\r\nHost: other.test\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: x\r\n{auth}\r\n"
        )
        speak(proxy, request)
        thread.join(5)
        port = listener.getsockname()[1]
    assert got == [f"GET /a b/ü?x=%zz HTTP/1.1\r\nHost: 127.1.0.1:{port}\r\nConnection: close\r\n\r\n".encode()]


def test_a_silent_host_is_given_up_after_the_idle_timeout() -> None:
    with socket.create_server(("127.1.0.1", 0)) as listener:
        with EgressProxy(POLICY, resolver, idle_timeout_seconds=0.2) as proxy:
            target = f"http://127.1.0.1:{listener.getsockname()[1]}/".encode()
            started = time.monotonic()
            answer = speak(proxy, b"GET " + target + b" HTTP/1.1\r\n{auth}\r\n")
        assert answer == b""
        assert time.monotonic() - started < 5


def test_more_connections_than_allowed_are_refused_at_once() -> None:
    with EgressProxy(POLICY, resolver, max_connections=2) as proxy:
        waiting = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(2)]
        assert speak(proxy, b"").startswith(b"HTTP/1.1 503 ")
        for sock in waiting:
            sock.close()


def test_stop_ends_port_thread_and_running_connections(site: Site) -> None:
    proxy = EgressProxy(POLICY, resolver)
    proxy.start()
    with (
        socket.create_server(("127.1.0.1", 0)) as silent,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock,
    ):
        parts = urlsplit(proxy.url)
        token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        port = silent.getsockname()[1]
        sock.sendall(f"CONNECT 127.1.0.1:{port} HTTP/1.1\r\nProxy-Authorization: Basic {token}\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        proxy.stop()
        assert sock.recv(100) == b""
    assert not [thread for thread in threading.enumerate() if thread.name == "egress-proxy"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.stop()


# --- the programs that it is for -------------------------------------------------------------------------------------

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "v.ts"
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:duration=1", "-c:v", "mpeg2video", str(path)],
        check=True,
    )
    return path.read_bytes()


def ffmpeg(proxy: EgressProxy, url: str, out: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], **proxy.environment()}
    command = [FFMPEG, "-v", "error", "-nostdin", "-y", "-i", url, "-c", "copy", str(out)]
    return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)


def test_ffmpeg_uses_the_proxy_with_its_password(proxy: EgressProxy, video: bytes, tmp_path: Path) -> None:
    with Site("127.1.0.1", {"/v.ts": (200, {}, video)}) as site:
        done = ffmpeg(proxy, f"http://good.test:{site.port}/v.ts", tmp_path / "o.ts")
    assert done.returncode == 0, done.stderr
    assert site.headers[0]["host"] == f"good.test:{site.port}"
    assert "proxy-authorization" not in site.headers[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_ffmpeg_does_not_get_inside(proxy: EgressProxy, secret: Site, tmp_path: Path, scheme: str) -> None:
    done = ffmpeg(proxy, f"{scheme}://127.0.0.1:{secret.port}/v.ts", tmp_path / "o.ts")
    assert done.returncode != 0
    assert b"403" in done.stderr
    assert proxy.blocked[-1] == f"127.0.0.1:{secret.port}"
    assert secret.seen == []


def test_ffmpeg_does_not_get_inside_by_a_playlist_or_a_redirect(
    proxy: EgressProxy, secret: Site, video: bytes, tmp_path: Path
) -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/v.ts\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    answers = {
        "/v.ts": (200, {}, video),
        "/direct.m3u8": (200, {}, playlist.format(f"{secret.url}/v.ts").encode()),
        "/away.m3u8": (200, {}, playlist.format("/away.ts").encode()),
        "/away.ts": (302, {"Location": f"{secret.url}/v.ts"}, b""),
    }
    with Site("127.1.0.1", answers) as site:
        for name in ("direct", "away"):
            ffmpeg(proxy, f"{site.url}/{name}.m3u8", tmp_path / "o.ts")
            assert proxy.blocked[-1] == f"127.0.0.1:{secret.port}"
            proxy.blocked.clear()
        assert "/v.ts" in site.seen
    assert secret.seen == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl program here")
def test_curl_uses_the_proxy(proxy: EgressProxy, site: Site, secret: Site) -> None:
    def curl(url: str) -> subprocess.CompletedProcess[bytes]:
        command = ["curl", "-sS", "--max-time", "20", "-L", url]
        return subprocess.run(command, env=proxy.environment(), capture_output=True, timeout=30, check=False)

    assert curl(f"http://good.test:{site.port}/").stdout == b"public"
    assert BLOCKED_MARKER.encode() in curl(f"{secret.url}/").stdout
    assert b"403" in curl(f"https://127.0.0.1:{secret.port}/").stderr
    assert secret.seen == []


def test_everything_works_in_one_guarded_process(site: Site, secret: Site) -> None:
    """As in the download process: the guard, the proxy in a thread, requests and libcurl through it."""
    program = f"""
    import ipaddress, sys, requests
    from media_downloader.netguard import BLOCKED_MARKER, EgressProxy, Policy, install_socket_guard
    good, bad, port = sys.argv[1:]
    policy = Policy.parse(False, {PUBLIC_PLAYED!r})
    gate = install_socket_guard(policy, lambda host, port: ["127.1.0.1"])
    with EgressProxy(policy) as proxy:
        proxies = {{"http": proxy.url, "https": proxy.url}}
        try:
            requests.get(good, proxies=proxies)
        except requests.ConnectionError as error:
            assert BLOCKED_MARKER in str(error), error
        else:
            raise AssertionError("the proxy itself is no public address")
        gate.admit(ipaddress.ip_address("127.0.0.1"), proxy.port)
        assert requests.get(good, proxies=proxies).content == b"public"
        assert requests.get(f"http://any.test:{{port}}/", proxies=proxies).content == b"public"
        assert requests.get(bad, proxies=proxies).status_code == 403
        try:
            from curl_cffi import requests as curl
        except ImportError:
            sys.exit()
        assert curl.get(good, proxies=proxies).content == b"public"
        assert curl.get(bad, proxies=proxies).status_code == 403
    """
    run_python(program, site.url, secret.url, str(site.port))
    assert secret.seen == []
