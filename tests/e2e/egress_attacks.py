"""Ways to have a downloader fetch what is inside: links, and pages and manifests of a hostile site."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PUBLIC, PUBLIC_IPV6, HOSTILE = "93.184.216.34", "2a00:1450:4001:800::200e", "11.22.33.44"
#: What must not be reached, on these ports. 80 is where clouds answer.
INSIDE_ADDRESSES = ("127.0.0.1", "10.0.0.5", "169.254.169.254", "100.100.100.200", "::1", "fd00::5")
INSIDE_PORT = 9100
INSIDE_PORTS = (80, INSIDE_PORT)
SECRET = b"the-secret-of-the-inside-1c7e"

HOSTS = f"""
{PUBLIC} media.example
{PUBLIC_IPV6} media6.example
{HOSTILE} hostile.example
127.0.0.1 localhost inward.example
{HOSTILE} mixed.example
127.0.0.1 mixed.example
{HOSTILE} mixed6.example
::1 mixed6.example
"""
SITE = "http://hostile.example"
GOOD_FILE = "http://media.example/plain/small.mp4"

Answer = tuple[int, dict[str, str], bytes]

SPELLINGS: Mapping[str, str] = {
    "decimal": "2130706433",
    "octal": "017700000001",
    "hex": "0x7f000001",
    "short": "127.1",
    "zero": "0.0.0.0",
    "mapped": "[::ffff:127.0.0.1]",
    "ipv6": "[::1]",
    "full-width": "127.0.0.1".translate({ord("1"): 0xFF11, ord("0"): 0xFF10}),
    "trailing-dot": "127.0.0.1.",
    "localhost": "localhost",
    "private": "10.0.0.5",
    "unique-local": "[fd00::5]",
    "link-local": "169.254.169.254",
    "shared": "100.100.100.200",
    "inward-name": "inward.example",
    "mixed-name": "mixed.example",
    "mixed-name-ipv6": "mixed6.example",
}
#: A list of networks does not open a name of loopback; of a mixed name, the public address may answer.
NOT_BY_A_NETWORK = {"localhost", "mixed-name", "mixed-name-ipv6"}


@dataclass(frozen=True)
class Attack:
    """One link that somebody adds."""

    name: str
    url: str
    options: Mapping[str, object] = field(default_factory=dict)
    #: Kinds of failure that are right when the link itself is not refused.
    kinds: frozenset[str] = frozenset({"blocked_address"})
    #: Whether it gets inside when everything is allowed; else it needs luck, or more than a policy stops it.
    arrives: bool = True


def inside(name: str, host: str = "127.0.0.1") -> str:
    """Where an attack leads; its name is in the path, so that its arrival is known."""
    return f"http://{host}:{INSIDE_PORT}/{name}"


def _page(body: str) -> Answer:
    return 200, {"Content-Type": "text/html"}, f"<html><head><title>t</title>{body}</head></html>".encode()


def _hls(*lines: str) -> Answer:
    text = "\n".join(["#EXTM3U", "#EXT-X-VERSION:3", *lines, ""])
    return 200, {"Content-Type": "application/vnd.apple.mpegurl"}, text.encode()


def _segments(url: str, *before: str) -> Answer:
    return _hls("#EXT-X-TARGETDURATION:1", *before, "#EXTINF:1,", url, "#EXT-X-ENDLIST")


def _dash(representation: str) -> Answer:
    text = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">{representation}'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    return 200, {"Content-Type": "application/dash+xml"}, text.encode()


def _feed(*urls: str) -> Answer:
    items = "".join(f'<item><title>i</title><enclosure url="{url}" type="video/mp4"/></item>' for url in urls)
    text = f'<?xml version="1.0"?><rss version="2.0"><channel><title>t</title>{items}</channel></rss>'
    return 200, {"Content-Type": "application/rss+xml"}, text.encode()


#: yt-dlp takes this for an encryption that it does not know and calls ffmpeg; ffmpeg takes it for a comment.
FOR_FFMPEG = "##EXT-X-KEY:METHOD=FFMPEG"
OK_SEGMENT = "/ok.ts"


def pages() -> dict[str, Answer]:
    """What the hostile site serves, by path."""
    group = '#EXT-X-MEDIA:TYPE={},GROUP-ID="g",NAME="n",LANGUAGE="en",DEFAULT=YES,URI="{}"'
    stream = '#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.42c00d,mp4a.40.2",{}="g"'
    good_hls = "http://media.example/plain/hls/index.m3u8"
    track = f'<track kind="subtitles" srclang="en" src="{inside("subtitles")}/s.vtt">'
    segment_list = f'<SegmentList><SegmentURL media="{inside("dash-list")}/s.m4s"/></SegmentList>'
    template = f'<SegmentTemplate duration="1" media="{inside("dash-template")}/$Number$.m4s"/>'
    return {
        OK_SEGMENT: (200, {}, b"\x47" * 1880),
        "/302": (302, {"Location": f"{inside('302')}/r.mp4"}, b""),
        "/307": (307, {"Location": f"{inside('307')}/r.mp4"}, b""),
        "/chain": (302, {"Location": f"{SITE}/chain-end"}, b""),
        "/chain-end": (301, {"Location": f"{inside('chain')}/r.mp4"}, b""),
        "/302-decimal": (302, {"Location": f"{inside('302-decimal', '2130706433')}/r.mp4"}, b""),
        "/302-mapped": (302, {"Location": f"{inside('302-mapped', '[::ffff:7f00:1]')}/r.mp4"}, b""),
        "/302-userinfo": (302, {"Location": f"{inside('302-userinfo', 'media.example:80@127.0.0.1')}/r.mp4"}, b""),
        "/302-metadata": (302, {"Location": "http://169.254.169.254/302-metadata/keys"}, b""),
        "/video": _page(f'<video src="{inside("video")}/v.mp4"></video>'),
        "/og": _page(f'<meta property="og:video" content="{inside("og")}/v.mp4">'),
        "/refresh": _page(f'<meta http-equiv="refresh" content="0; url={inside("refresh")}/v.mp4">'),
        "/subtitles": _page(f'<video src="{GOOD_FILE}">{track}</video>'),
        "/thumbnail": _page(
            f'<meta property="og:image" content="{inside("thumbnail")}/t.jpg"><video src="{GOOD_FILE}"></video>'
        ),
        "/rss": _feed(f"{inside('rss')}/e.mp4"),
        "/rss-list": _feed(f"{inside('rss-list')}/1.mp4", f"{inside('rss-list')}/2.mp4"),
        "/rss-name": _feed("http://inward.example:9100/rss-name/1.mp4", "http://inward.example:9100/rss-name/2.mp4"),
        "/variant.m3u8": _hls("#EXT-X-STREAM-INF:BANDWIDTH=1", f"{inside('variant')}/v.m3u8"),
        "/audio.m3u8": _hls(group.format("AUDIO", f"{inside('audio')}/a.m3u8"), stream.format("AUDIO"), good_hls),
        "/subs.m3u8": _hls(group.format("SUBTITLES", f"{inside('subs')}/s.m3u8"), stream.format("SUBTITLES"), good_hls),
        "/segment.m3u8": _segments(f"{inside('segment')}/s.ts"),
        "/key.m3u8": _segments(OK_SEGMENT, f'#EXT-X-KEY:METHOD=AES-128,URI="{inside("key")}/k"'),
        "/map.m3u8": _segments(OK_SEGMENT, f'#EXT-X-MAP:URI="{inside("map")}/i.mp4"'),
        "/ff-segment.m3u8": _segments(f"{inside('ff-segment')}/s.ts", FOR_FFMPEG),
        "/ff-key.m3u8": _segments(OK_SEGMENT, FOR_FFMPEG, f'#EXT-X-KEY:METHOD=AES-128,URI="{inside("ff-key")}/k"'),
        "/ff-map.m3u8": _segments(OK_SEGMENT, FOR_FFMPEG, f'#EXT-X-MAP:URI="{inside("ff-map")}/i.mp4"'),
        "/ff-redirect.m3u8": _segments("/ff-redirect.ts", FOR_FFMPEG),
        "/ff-redirect.ts": (302, {"Location": f"{inside('ff-redirect')}/s.ts"}, b""),
        "/ff-rebound.m3u8": _segments("http://inward.example:9100/ff-rebound/s.ts", FOR_FFMPEG),
        "/ff-proxy.m3u8": _segments(f"httpproxy://127.0.0.1:{INSIDE_PORT}/ff-proxy/s.ts", FOR_FFMPEG),
        "/ff-https.m3u8": _segments(f"https://127.0.0.1:{INSIDE_PORT}/ff-https/s.ts", FOR_FFMPEG),
        "/dash.mpd": _dash(f"<BaseURL>{inside('dash')}/d.mp4</BaseURL>"),
        "/dash-list.mpd": _dash(segment_list),
        "/dash-template.mpd": _dash(template),
        "/flip": _page('<video src="/flip.mp4"></video>'),
    }


def attacks() -> list[Attack]:
    """Every attack, each under a name of its own."""
    found = [
        Attack(name, f"{inside(name, host)}/s.mp4", arrives=name not in NOT_BY_A_NETWORK)
        for name, host in SPELLINGS.items()
    ]
    special = {
        # The public file is fetched, the picture or the track of the inside is not.
        "thumbnail": {"kinds": frozenset({"done"}), "arrives": False},
        "subtitles": {"options": {"subtitles": ["en"]}},
        "subs.m3u8": {"options": {"subtitles": ["en"]}},
        # No entry is left of such a list: each is refused when it would be added.
        "rss-list": {"kinds": frozenset({"unavailable"})},
        # The kernel stops this one, and nothing but ffmpeg's failure tells of it.
        "ff-proxy.m3u8": {"kinds": frozenset({"processing_failed", "unknown"}), "arrives": False},
        "ff-https.m3u8": {"arrives": False},
        # A child of the list ends so; the list itself has no failure of its own.
        "rss-name": {"kinds": frozenset({"blocked_address", "children"})},
    }
    for path in pages():
        name = path.removeprefix("/")
        if path not in {OK_SEGMENT, "/chain-end", "/ff-redirect.ts", "/flip"}:
            found.append(Attack(name.partition(".")[0], SITE + path, **special.get(name, {})))
    # Names whose address changes after so many look-ups: the check when the link is added, the page, the file, ...
    for count in range(1, 5):
        url = f"http://after{count}.flip.example:{INSIDE_PORT}/flip"
        found.append(Attack(f"flip-{count}", url, arrives=False, kinds=frozenset({"blocked_address", "unavailable"})))
    return found
