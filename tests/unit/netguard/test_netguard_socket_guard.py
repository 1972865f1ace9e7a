"""A guarded process cannot connect to what is not permitted, whichever Python library tries.

Each test runs a process of its own, as the guard cannot be undone.
"""

import textwrap

import pytest
from netguard_loopback import PUBLIC_PLAYED, SECRET, Site, inside, run_python

PRELUDE = """
import ipaddress, socket, sys
from media_downloader.netguard import BLOCKED_MARKER, BlockedAddress, Policy, install_socket_guard
GOOD, BAD = sys.argv[1], int(sys.argv[2])
HOST, PORT = GOOD.removeprefix("http://").split(":")[0], int(GOOD.rpartition(":")[2])
TABLE = {"good.test": ["127.1.0.1"], "bad.test": ["127.0.0.1"], "mixed.test": ["127.1.0.1", "127.0.0.1"]}

def resolver(host, port):
    if host.lower() not in TABLE:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    return TABLE[host.lower()]

def refused(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except Exception as error:
        assert BLOCKED_MARKER in str(error), repr(error)
        return
    raise AssertionError("not refused")
"""
INSTALL = f"""
gate = install_socket_guard(Policy.parse(False, {PUBLIC_PLAYED!r}), resolver)
"""


def guarded(program: str, *arguments: str) -> str:
    with Site("127.1.0.1", {"/": (200, {}, b"public")}) as site, inside() as secret:
        done = run_python(PRELUDE + INSTALL + textwrap.dedent(program), site.url, str(secret.port), *arguments)
        assert secret.seen == []
        assert SECRET.decode() not in done.stdout
    return done.stdout


def test_plain_sockets_are_refused_at_every_way_to_connect() -> None:
    guarded("""
    import _socket, ssl
    for number in ("127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "fe80::1", "::ffff:127.0.0.1"):
        family = socket.AF_INET6 if ":" in number else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for cls in (socket.socket, _socket.socket):
                for name in ("connect", "connect_ex"):
                    refused(getattr(cls(family, kind), name), (number, BAD))
    refused(socket.create_connection, ("127.0.0.1", BAD))
    tls = ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="x")
    refused(tls.connect, ("127.0.0.1", BAD))
    refused(tls.connect_ex, ("127.0.0.1", BAD))
    refused(socket.socket(type=socket.SOCK_DGRAM).sendto, b"x", ("127.0.0.1", BAD))
    refused(socket.socket(type=socket.SOCK_DGRAM).sendto, b"x", 0, ("127.0.0.1", BAD))
    refused(socket.socket(type=socket.SOCK_DGRAM).sendmsg, [b"x"], [], 0, ("127.0.0.1", BAD))
    socket.create_connection((HOST, PORT)).close()
    assert socket.socket().connect_ex((HOST, PORT)) == 0
    """)


def test_c_never_gets_a_name_or_a_lenient_number_to_look_up_by_itself() -> None:
    guarded("""
    import _socket
    # Python looks a name up before it asks the hook, so these are names that need no packet.
    for host in ("localhost", "", "0x7f.1", "127.1", "2130706433", b"127.1", bytearray(b"localhost"),
                 "<broadcast>", "0177.0.0.1"):
        refused(_socket.socket().connect, (host, BAD))
        refused(_socket.socket(type=socket.SOCK_DGRAM).sendto, b"x", (host, BAD))
    """)


def test_unix_and_other_sockets_cannot_connect_but_pairs_and_accepted_ones_work(tmp_path) -> None:
    guarded(
        """
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[3] + "/s")
    server.listen()
    refused(socket.socket(socket.AF_UNIX).connect, sys.argv[3] + "/s")
    refused(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto, b"x", sys.argv[3] + "/s")
    one, two = socket.socketpair()
    one.sendmsg([b"hello"])
    assert two.recv(5) == b"hello"
    """,
        str(tmp_path),
    )


def test_names_are_judged_by_all_their_addresses() -> None:
    guarded("""
    for name in ("bad.test", "mixed.test", "localhost"):
        TABLE.setdefault(name, ["127.0.0.1"])
        refused(socket.getaddrinfo, name, BAD)
        refused(socket.create_connection, (name, BAD))
        refused(socket.socket().connect, (name, BAD))
        refused(socket.socket().connect_ex, (name, BAD))
    socket.create_connection(("good.test", PORT)).close()
    socket.socket().connect(("good.test", PORT))
    """)


def test_a_name_that_changes_its_address_is_looked_up_once_and_connected_where_it_was_checked() -> None:
    guarded("""
    asked = []
    class Rebinding(dict):
        def __getitem__(self, name):
            asked.append(name)
            return ["127.1.0.1"] if len(asked) == 1 else ["127.0.0.1"]
    TABLE = Rebinding({"rebind.test": None})
    sock = socket.socket()
    sock.connect(("rebind.test", PORT))
    assert sock.getpeername() == ("127.1.0.1", PORT), sock.getpeername()
    assert len(asked) == 1
    refused(socket.socket().connect, ("rebind.test", BAD))
    """)


def test_a_listed_name_may_be_reached_at_its_port_and_at_no_other() -> None:
    program = """
    TABLE["nas.local"] = ["127.0.0.9"]
    listener = socket.create_server(("127.0.0.9", 0))
    port = listener.getsockname()[1]
    install_socket_guard(Policy.parse(False, [f"nas.local:{port}"]), resolver)
    refused(socket.socket().connect, ("127.0.0.9", port))
    socket.create_connection(("NAS.local", port)).close()
    refused(socket.create_connection, ("nas.local", BAD))
    refused(socket.socket().connect, ("127.0.0.9", BAD))
    """
    with inside() as secret:
        run_python(PRELUDE + textwrap.dedent(program), "http://127.1.0.1:1", str(secret.port))
        assert secret.seen == []


def test_the_guard_is_inherited_by_forked_children() -> None:
    guarded("""
    import os
    child = os.fork()
    if child == 0:
        try:
            refused(socket.create_connection, ("127.0.0.1", BAD))
            socket.create_connection((HOST, PORT)).close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """)


def test_patching_back_or_keeping_an_old_reference_does_not_help() -> None:
    program = """
    old_connect, old_lookup = socket.socket.connect, socket.getaddrinfo
    install_socket_guard(Policy(), resolver)
    socket.socket.connect, socket.getaddrinfo = old_connect, old_lookup
    refused(socket.create_connection, ("127.0.0.1", BAD))
    refused(socket.create_connection, ("localhost", BAD))
    """
    with inside() as secret:
        run_python(PRELUDE + textwrap.dedent(program), "http://127.1.0.1:1", str(secret.port))
        assert secret.seen == []


def test_asyncio_streams_are_guarded() -> None:
    guarded("""
    import asyncio
    async def main():
        for host in ("127.0.0.1", "bad.test", "mixed.test"):
            try:
                await asyncio.open_connection(host, BAD)
            except OSError as error:
                assert BLOCKED_MARKER in str(error), error
            else:
                raise AssertionError(host)
        for host in (HOST, "good.test"):
            _, writer = await asyncio.open_connection(host, PORT)
            writer.close()
            await writer.wait_closed()
    asyncio.run(main())
    """)


@pytest.mark.parametrize("library", ["urllib", "http.client", "requests", "urllib3", "httpx2", "websockets", "yt_dlp"])
def test_http_libraries_are_guarded_and_keep_the_marker(library: str) -> None:
    guarded(
        """
    import http.client, urllib.request, urllib3, requests, httpx2, websockets.sync.client
    def with_http_client(url):
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("GET", "/")
        return connection.getresponse().read()
    def with_yt_dlp(url):
        import yt_dlp
        with yt_dlp.YoutubeDL({"quiet": True, "no_warnings": True}) as downloader:
            return downloader.urlopen(url).read()
    fetch = {
        "urllib": lambda url: urllib.request.urlopen(url).read(),
        "http.client": with_http_client,
        "requests": lambda url: requests.get(url).content,
        "urllib3": lambda url: urllib3.PoolManager(retries=False).request("GET", url).data,
        "httpx2": lambda url: httpx2.get(url).content,
        "websockets": lambda url: websockets.sync.client.connect(url.replace("http", "ws")),
        "yt_dlp": with_yt_dlp,
    }[sys.argv[3]]
    for host in ("127.0.0.1", "bad.test", "mixed.test"):
        refused(fetch, f"http://{host}:{BAD}")
    if sys.argv[3] != "websockets":
        assert fetch(GOOD) == b"public"
        assert fetch(f"http://good.test:{PORT}") == b"public"
    """,
        library,
    )


@pytest.mark.parametrize("library", ["urllib", "requests", "yt_dlp"])
def test_redirects_to_the_inside_are_refused(library: str) -> None:
    with inside() as secret:
        to_secret = (302, {"Location": f"http://127.0.0.1:{secret.port}/"}, b"")
        with Site("127.1.0.1", {"/": to_secret}) as site:
            program = (
                PRELUDE
                + INSTALL
                + (
                    "import requests, urllib.request, yt_dlp\n"
                    "fetch = {'urllib': urllib.request.urlopen, 'requests': requests.get,"
                    " 'yt_dlp': yt_dlp.YoutubeDL({'quiet': True}).urlopen}[sys.argv[3]]\n"
                    "refused(fetch, GOOD)\n"
                )
            )
            run_python(program, site.url, str(secret.port), library)
            assert site.seen == ["/"]
        assert secret.seen == []


def test_an_admitted_endpoint_is_reachable() -> None:
    program = """
    gate.admit(ipaddress.ip_address("127.0.0.1"), BAD)
    socket.create_connection(("127.0.0.1", BAD)).close()
    refused(socket.create_connection, ("127.0.0.1", BAD + 1 if BAD < 65535 else 1))
    """
    guarded(program)
