"""yt-dlp's request handlers in a download process: libcurl has one way out, and no handler has an unguarded one.

Each test runs a process of its own, as neither the guard nor the choice of handlers can be undone.
"""

import pytest
from netguard_loopback import PUBLIC_PLAYED, SECRET, Site, inside, run_python

pytest.importorskip("curl_cffi", reason="the extra `impersonate` is not installed")

PRELUDE = f"""
import os, sys
GOOD, BAD = sys.argv[1:3]
# What an operator's environment may hold: none of it may matter.
for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ[name] = BAD
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"

import yt_dlp
from yt_dlp.networking import Request
from yt_dlp.networking.impersonate import ImpersonateTarget
from media_downloader.downloader import egress
from media_downloader.downloader.problems import describe
from media_downloader.netguard import EgressProxy, Policy, install_socket_guard

PARAMETERS = {{"quiet": True, "no_warnings": True, "proxy": "", "socket_timeout": 5}}
policy = Policy.parse(False, {PUBLIC_PLAYED!r})

def impersonated(url, **more):
    return Request(url, extensions={{"impersonate": ImpersonateTarget("chrome")}}, **more)

def open_with(ydl, request):
    try:
        return ydl.urlopen(request).read().decode()
    except Exception as error:
        return describe(error).kind.value
"""
PROXIED = """
install_socket_guard(policy)
proxy = EgressProxy(policy)
proxy.start()
egress.route_libcurl(proxy)
"""


def run(program: str, site: Site, secret: Site, *arguments: str) -> list[str]:
    return run_python(PRELUDE + program, site.url, secret.url, *arguments).stdout.splitlines()


def redirects(secret: Site) -> dict[str, tuple[int, dict[str, str], bytes]]:
    tls = secret.url.replace("http:", "https:")
    targets = {"plain": f"{secret.url}/", "tls": tls, "ftp": secret.url.replace("http:", "ftp:"), "file": "file:///etc"}
    return {f"/{name}": (302, {"Location": target}, b"") for name, target in targets.items()}


def test_libcurl_goes_out_through_the_proxy_only() -> None:
    program = """
with yt_dlp.YoutubeDL(PARAMETERS) as ydl:
    print(open_with(ydl, impersonated(GOOD + "/ok")))
    # The proxy of a request would win over a handler's own.
    print(open_with(ydl, impersonated(GOOD + "/ok", proxies={"all": BAD})))
    print(open_with(ydl, impersonated(BAD + "/")))
    print(open_with(ydl, impersonated(BAD.replace("http:", "https:") + "/")))
    print(open_with(ydl, impersonated(GOOD + "/plain")))
    print(open_with(ydl, impersonated(GOOD + "/tls")))
    assert len(proxy.blocked) == 4, proxy.blocked
    assert open_with(ydl, impersonated(GOOD + "/ftp")) not in {"blocked_address", "public"}
    assert open_with(ydl, impersonated(GOOD + "/file")) not in {"blocked_address", "public"}
"""
    with inside() as secret, Site("127.1.0.1", {"/ok": (200, {}, b"public"), **redirects(secret)}) as site:
        told = run(PROXIED + program, site, secret)
        assert told == ["public", "public", *["blocked_address"] * 4]
        assert secret.seen == []
        impersonating = [headers for headers in site.headers if "Chrome/" in headers["user-agent"]]
        assert len(impersonating) == len(site.seen) == 6
        assert not [name for headers in site.headers for name in headers if name.startswith("proxy-")]


def test_without_the_proxy_libcurl_cannot_be_used_at_all() -> None:
    program = """
egress.confine_request_handlers()
with yt_dlp.YoutubeDL(PARAMETERS) as ydl:
    assert set(ydl._request_director.handlers) == egress.GUARDED_HANDLERS
    for url in (GOOD + "/ok", BAD + "/"):
        try:
            ydl.urlopen(impersonated(url))
        except yt_dlp.networking.exceptions.RequestError as error:
            assert "not available" in str(error), error
        else:
            raise AssertionError(url)
"""
    with inside() as secret, Site("127.1.0.1", {"/ok": (200, {}, b"public")}) as site:
        run(program, site, secret)
        assert site.seen == secret.seen == []


def test_libcurl_as_yt_dlp_uses_it_does_get_inside() -> None:
    """What the tests above are worth: without our handler, libcurl passes the socket guard."""
    program = """
install_socket_guard(policy)
with yt_dlp.YoutubeDL(PARAMETERS) as ydl:
    print(open_with(ydl, impersonated(BAD + "/")))
"""
    with inside() as secret, Site("127.1.0.1", {}) as site:
        assert run(program, site, secret) == [SECRET.decode()]


def test_a_stopped_proxy_leaves_libcurl_no_way_out() -> None:
    program = """
proxy.stop()
with yt_dlp.YoutubeDL(PARAMETERS) as ydl:
    print(open_with(ydl, impersonated(GOOD + "/ok")), open_with(ydl, impersonated(BAD + "/")))
"""
    with inside() as secret, Site("127.1.0.1", {"/ok": (200, {}, b"public")}) as site:
        assert run(PROXIED + program, site, secret) == ["network network"]
        assert site.seen == secret.seen == []


def test_the_other_handlers_go_directly_and_are_guarded() -> None:
    program = """
from yt_dlp.networking import _websockets
kinds = []
for key in sorted(egress.GUARDED_HANDLERS - {"Websockets"}):
    with yt_dlp.YoutubeDL(PARAMETERS) as ydl:
        for other in set(ydl._request_director.handlers) - {key}:
            del ydl._request_director.handlers[other]
        kinds += [open_with(ydl, GOOD + "/ok"), open_with(ydl, GOOD + "/plain"), open_with(ydl, BAD + "/")]
assert kinds == ["public", "blocked_address", "blocked_address"] * 2, kinds
with yt_dlp.YoutubeDL(PARAMETERS) as ydl:
    for scheme in ("ws", "wss"):
        assert open_with(ydl, BAD.replace("http", scheme) + "/") == "blocked_address"
    # An answer that is no upgrade shows that the handler got to where it may go.
    assert open_with(ydl, GOOD.replace("http", "ws") + "/ok") != "blocked_address"
assert proxy.blocked == []
"""
    with inside() as secret, Site("127.1.0.1", {"/ok": (200, {}, b"public"), **redirects(secret)}) as site:
        run(PROXIED + program, site, secret)
        assert site.seen == ["/ok", "/plain", "/ok", "/plain", "/ok"]
        assert secret.seen == []
