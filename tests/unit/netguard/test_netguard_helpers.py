"""Programs that a download process starts have the proxy as their one way out, whatever a manifest tells them."""

import imageio_ffmpeg
import pytest
from netguard_loopback import PUBLIC_PLAYED, Answer, Site, inside, run_python

from media_downloader.downloader import landlock

needs_landlock = pytest.mark.skipif(
    not landlock.is_available(), reason="the kernel has no Landlock for TCP (Linux 6.7)"
)

PRELUDE = f"""
import subprocess, sys
from media_downloader.downloader import landlock
from media_downloader.downloader.options import FFMPEG_PROTOCOLS
from media_downloader.downloader.process_tree import adopt_subprocesses
from media_downloader.netguard import EgressProxy, Policy
GOOD, BAD, FFMPEG, OUT = sys.argv[1:]
proxy = EgressProxy(Policy.parse(False, {PUBLIC_PLAYED!r}))
proxy.start()

def ffmpeg(path):
    command = [FFMPEG, "-v", "error", "-nostdin", "-y", "-protocol_whitelist", FFMPEG_PROTOCOLS, "-i", GOOD + path]
    return subprocess.run([*command, "-c", "copy", OUT], capture_output=True, timeout=30).returncode
"""
CONFINED = PRELUDE + "adopt_subprocesses(proxy.environment(), landlock.only_tcp_port(proxy.port))\n"
#: What a manifest may name that ffmpeg's own check takes for http.
SMUGGLED = "httpproxy://{}/s.ts"


def manifests(inside_port: int) -> dict[str, Answer]:
    smuggled = SMUGGLED.format(f"127.0.0.1:{inside_port}")
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
    key = f'{head}#EXT-X-KEY:METHOD=AES-128,URI="{smuggled}"\n#EXTINF:1,\n/ok.ts\n#EXT-X-ENDLIST\n'
    section = f'{head}#EXT-X-MAP:URI="{smuggled}"\n#EXTINF:1,\n/ok.ts\n#EXT-X-ENDLIST\n'
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{smuggled}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    )
    texts = {
        "/segment.m3u8": f"{head}#EXTINF:1,\n{smuggled}\n#EXT-X-ENDLIST\n",
        "/key.m3u8": key,
        "/map.m3u8": section,
        "/dash.mpd": mpd,
    }
    return {path: (200, {}, text.encode()) for path, text in texts.items()}


ATTACK = """
for path in ("/segment.m3u8", "/key.m3u8", "/map.m3u8", "/dash.mpd"):
    assert ffmpeg(path) != 0, path
"""


def run(program: str, site: Site, secret: Site, out: object) -> None:
    run_python(program, site.url, secret.url, imageio_ffmpeg.get_ffmpeg_exe(), str(out))


@needs_landlock
def test_no_manifest_has_ffmpeg_connect_past_the_proxy(tmp_path) -> None:
    with inside() as secret, Site("127.1.0.1", manifests(secret.port)) as site:
        run(CONFINED + ATTACK, site, secret, tmp_path / "o.ts")
        assert len(site.seen) == 4
        assert secret.seen == []


def test_the_environment_alone_does_not_hold_ffmpeg(tmp_path) -> None:
    """What the test above is worth."""
    with inside() as secret, Site("127.1.0.1", manifests(secret.port)) as site:
        run(PRELUDE + "adopt_subprocesses(proxy.environment())\n" + ATTACK, site, secret, tmp_path / "o.ts")
        assert len(secret.seen) >= 4


@needs_landlock
def test_a_confined_program_reaches_the_public_side_through_the_proxy(tmp_path) -> None:
    clip = tmp_path / "clip.ts"
    program = """
make = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:duration=1", "-c:v", "mpeg2video", OUT]
subprocess.run(make, check=True)
"""
    with inside() as secret, Site("127.1.0.1", {}) as site:
        run(PRELUDE + program, site, secret, clip)
    answers = {
        "/ok.m3u8": (200, {}, b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/ok.ts\n#EXT-X-ENDLIST\n"),
        "/ok.ts": (200, {}, clip.read_bytes()),
    }
    with inside() as secret, Site("127.1.0.1", answers) as site:
        run(CONFINED + "assert ffmpeg('/ok.m3u8') == 0\nassert proxy.blocked == []", site, secret, tmp_path / "o.ts")
    assert (tmp_path / "o.ts").stat().st_size > 1000


@needs_landlock
def test_a_confined_program_can_connect_and_listen_nowhere_else(tmp_path) -> None:
    program = """
probe = '''
import socket, sys
for host, port in (("127.0.0.1", int(sys.argv[1])), ("::1", int(sys.argv[1])), ("127.1.0.1", 443)):
    try:
        socket.create_connection((host, port), 1)
    except PermissionError:
        continue
    raise AssertionError(host)
try:
    socket.create_server(("127.0.0.1", 0))
except PermissionError:
    pass
else:
    raise AssertionError("it listens")
socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5)
'''
subprocess.run([sys.executable, "-c", probe, BAD.rpartition(":")[2], str(proxy.port)], check=True, timeout=30)
"""
    with inside() as secret, Site("127.1.0.1", {}) as site:
        run(CONFINED + program, site, secret, tmp_path / "o.ts")
        assert secret.seen == []


@needs_landlock
def test_a_program_that_cannot_be_confined_is_not_started(tmp_path) -> None:
    program = """
adopt_subprocesses(proxy.environment(), 9999)
try:
    subprocess.run(["true"])
except subprocess.SubprocessError:
    sys.exit()
raise AssertionError("it was started")
"""
    with inside() as secret, Site("127.1.0.1", {}) as site:
        run(PRELUDE + program, site, secret, tmp_path / "o.ts")


def test_where_the_kernel_cannot_confine_it_ffmpeg_downloads_nothing(tmp_path) -> None:
    program = """
import yt_dlp
from media_downloader.downloader import egress
from media_downloader.downloader.problems import describe
egress.keep_ffmpeg_off_the_network()
parameters = {"quiet": True, "proxy": "", "ffmpeg_location": FFMPEG, "outtmpl": OUT, "hls_prefer_native": False}
with yt_dlp.YoutubeDL(parameters) as ydl:
    try:
        ydl.download([GOOD + "/segment.m3u8"])
    except Exception as error:
        failure = describe(error)
        assert failure.kind == "unsupported_url", failure
        assert "Landlock" in failure.message, failure
    else:
        raise AssertionError("downloaded")
"""
    with inside() as secret, Site("127.1.0.1", manifests(secret.port)) as site:
        run(PRELUDE + program, site, secret, tmp_path / "o.mp4")
        assert secret.seen == []
