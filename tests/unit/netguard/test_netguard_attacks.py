"""The attacks on other downloaders, replayed against real yt-dlp and ffmpeg behind the guard and the proxy.

yt-dlp alone fetches the secret in most of these; here, not one request may arrive inside.
"""

import json

import imageio_ffmpeg
import pytest
from netguard_loopback import PUBLIC_PLAYED, SECRET, Answer, Site, inside, run_python

PROGRAM = f"""
import ipaddress, json, os, sys
from pathlib import Path
import yt_dlp
from media_downloader.netguard import BLOCKED_MARKER, EgressProxy, Policy, install_socket_guard

folder, ffmpeg, urls = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
policy = Policy.parse(sys.argv[4] == "open", {PUBLIC_PLAYED!r})

def resolver(host, port):
    return {{"localhost": ["127.0.0.1"], "rebound.test": ["127.0.0.1"], "mixed.test": ["127.1.0.1", "127.0.0.1"]}}[host]

gate = install_socket_guard(policy, resolver)
proxy = EgressProxy(policy)
proxy.start()
os.environ.update(proxy.environment())

class Log:
    def __init__(self): self.lines = []
    def debug(self, line): self.lines.append(line)
    info = warning = error = debug

report = {{}}
for number, (name, url, native) in enumerate(urls):
    log = Log()
    options = {{
        "logger": log, "retries": 0, "fragment_retries": 0, "extractor_retries": 0, "proxy": "",
        "outtmpl": str(folder / f"{{number}}.%(ext)s"), "ffmpeg_location": ffmpeg, "allow_unplayable_formats": True,
        "hls_prefer_native": native, "cachedir": False, "socket_timeout": 10,
    }}
    before = len(proxy.blocked)
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.download([url])
    except (yt_dlp.utils.YoutubeDLError, ValueError) as error:
        log.lines.append(str(error))
    report[name] = BLOCKED_MARKER in "\\n".join(log.lines) or len(proxy.blocked) > before
print(json.dumps(report))
"""


def page(body: str) -> Answer:
    return 200, {"Content-Type": "text/html"}, f"<html><head><title>t</title>{body}</head></html>".encode()


def playlist(*lines: str) -> Answer:
    text = "\n".join(["#EXTM3U", "#EXT-X-VERSION:3", *lines]) + "\n"
    return 200, {"Content-Type": "application/vnd.apple.mpegurl"}, text.encode()


def pages(target: str) -> dict[str, Answer]:
    """What a hostile site serves to have the downloader fetch the target."""
    segment = ("#EXT-X-TARGETDURATION:1", "#EXTINF:1,", f"{target}/seg.ts", "#EXT-X-ENDLIST")
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{target}/key"'
    rss = (
        '<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><item><title>i</title>'
        f'<enclosure url="{target}/e.mp4" type="video/mp4"/></item></channel></rss>'
    )
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}/d.mp4</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    return {
        "/302": (302, {"Location": f"{target}/r.mp4"}, b""),
        "/307": (307, {"Location": f"{target}/r.mp4"}, b""),
        "/video": page(f'<video src="{target}/v.mp4"></video>'),
        "/og": page(f'<meta property="og:video" content="{target}/v.mp4">'),
        "/refresh": page(f'<meta http-equiv="refresh" content="0; url={target}/v.mp4">'),
        "/rss": (200, {"Content-Type": "application/rss+xml"}, rss.encode()),
        "/segment.m3u8": playlist(*segment),
        "/key.m3u8": playlist("#EXT-X-TARGETDURATION:1", key, "#EXTINF:1,", "/ok.ts", "#EXT-X-ENDLIST"),
        "/variant.m3u8": playlist("#EXT-X-STREAM-INF:BANDWIDTH=1", f"{target}/variant.m3u8"),
        "/map.m3u8": playlist(f'#EXT-X-MAP:URI="{target}/init.mp4"', *segment),
        "/dash.mpd": (200, {"Content-Type": "application/dash+xml"}, mpd.encode()),
        "/ok.ts": (200, {}, b"\x47" * 1880),
    }


SPELLINGS = [
    "127.0.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "127.1",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[::1]",
    "127.0.0.1".translate({ord("1"): 0xFF11, ord("0"): 0xFF10}),
    "localhost",
    "rebound.test",
    "mixed.test",
]


@pytest.mark.parametrize("native", [True, False], ids=["native HLS", "ffmpeg HLS"])
def test_not_one_attack_gets_inside(native: bool, tmp_path) -> None:
    with inside() as secret, Site("127.1.0.1", pages(f"http://127.0.0.1:{secret.port}")) as site:
        hostile = [name for name in pages("") if name != "/ok.ts"]
        attacks = [(name, site.url + name, native) for name in hostile]
        attacks += [(host, f"http://{host}:{secret.port}/s.mp4", native) for host in SPELLINGS]
        done = run_python(PROGRAM, str(tmp_path), imageio_ffmpeg.get_ffmpeg_exe(), json.dumps(attacks), "guarded")
        report = json.loads(done.stdout.splitlines()[-1])
        assert set(report) == {name for name, _, _ in attacks}
        # A refusal on record for each shows that the attack was really tried.
        assert [name for name, refused in report.items() if not refused] == []
        assert secret.seen == []
        assert [path for path in tmp_path.iterdir() if SECRET in path.read_bytes()] == []


def test_the_same_attacks_get_inside_when_private_addresses_are_allowed(tmp_path) -> None:
    """The control: without the policy they do arrive, each by its own way."""
    with inside() as secret, Site("127.1.0.1", pages(f"http://127.0.0.1:{secret.port}")) as site:
        attacks = [
            (name, site.url + name, native) for native in (True, False) for name in pages("") if name != "/ok.ts"
        ]
        attacks += [(host, f"http://{host}:{secret.port}/s.mp4", True) for host in SPELLINGS if host != "[::1]"]
        run_python(PROGRAM, str(tmp_path), imageio_ffmpeg.get_ffmpeg_exe(), json.dumps(attacks), "open")
        arrived = {"/r.mp4", "/v.mp4", "/e.mp4", "/seg.ts", "/key", "/variant.m3u8", "/init.mp4", "/d.mp4", "/s.mp4"}
        assert arrived <= set(secret.seen)
        assert secret.seen.count("/s.mp4") >= len(SPELLINGS) - 1
        assert any(SECRET in path.read_bytes() for path in tmp_path.iterdir())
