"""What is refused when a link is submitted, in every spelling, and what is let through unharmed."""

import ipaddress
import socket
import threading

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_netguard_addresses import private_ipv4, public_ipv4

from media_downloader.errors import InvalidUrl, UrlBlocked
from media_downloader.netguard import Policy, check_url, parse_url, resolve_and_check, site_of

STRICT = Policy()

FULL_WIDTH = {ord(character): ord(character) + 0xFEE0 for character in "0123456789abcdefx."}


def spell_part(number: int, base: str) -> str:
    return {"decimal": f"{number}", "octal": f"0{number:o}", "hex": f"0x{number:x}", "padded": f"0x{number:012X}"}[base]


@st.composite
def spelling(draw: st.DrawFn, addresses: st.SearchStrategy[ipaddress.IPv4Address]) -> str:
    """One of the many hosts that inet_aton, browsers and IDNA read as this address."""
    number = int(draw(addresses))
    count = draw(st.integers(1, 4))
    heads = [(number >> (24 - 8 * index)) & 0xFF for index in range(count - 1)]
    parts = [*heads, number & ((1 << (32 - 8 * len(heads))) - 1)]
    bases = draw(st.lists(st.sampled_from(["decimal", "octal", "hex", "padded"]), min_size=count, max_size=count))
    host = ".".join(spell_part(part, base) for part, base in zip(parts, bases, strict=True))
    disguise = draw(st.sampled_from(["none", "full width", "ideographic dots", "percent", "soft hyphen"]))
    if disguise == "full width":
        host = host.lower().translate(FULL_WIDTH)
    elif disguise == "ideographic dots":
        host = host.replace(".", "\u3002")
    elif disguise == "percent":
        host = "".join(f"%{ord(character):02x}" for character in host)
    elif disguise == "soft hyphen":
        host = "\u00ad".join(host)
    return host + draw(st.sampled_from(["", "."]))


@given(spelling(private_ipv4), st.sampled_from(["http", "https", "HTTP"]), st.sampled_from(["", ":80", ":8080", ":"]))
def test_every_spelling_of_every_private_ipv4_is_refused(host: str, scheme: str, port: str) -> None:
    with pytest.raises(UrlBlocked):
        check_url(f"{scheme}://user@{host}{port}/video?x=1", STRICT)


@given(spelling(public_ipv4))
def test_every_spelling_of_a_public_ipv4_is_accepted_and_made_canonical(host: str) -> None:
    parsed = parse_url(check_url(f"http://{host}/video", STRICT))
    assert str(ipaddress.IPv4Address(parsed.authority.host)) == parsed.authority.host
    assert str(parsed) == f"http://{parsed.authority.host}/video"


@given(public_ipv4, st.data())
def test_a_spelling_means_the_address_that_it_spells(address: ipaddress.IPv4Address, data: st.DataObject) -> None:
    assert parse_url(f"http://{data.draw(spelling(st.just(address)))}/").authority.host == str(address)


@given(spelling(st.ip_addresses(v=4)))
def test_hosts_mean_the_same_to_us_and_to_the_system(host: str) -> None:
    """Whatever C's own inet_aton accepts must not mean another address here."""
    try:
        theirs = socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        assume(False)
    assert parse_url(f"http://{host}/").authority.host == theirs


@given(st.text(max_size=60))
def test_any_text_is_a_good_link_or_an_error_on_purpose(text: str) -> None:
    for url in (text, f"http://{text}", f"https://{text}/x", f"http://a.example/{text}"):
        try:
            checked = check_url(url, STRICT)
        except (InvalidUrl, UrlBlocked):
            continue
        assert checked.isascii()
        assert checked.startswith(("http://", "https://"))
        assert check_url(checked, STRICT) == checked


LOOPBACK_AND_PRIVATE = [
    "127.0.0.1",
    "2130706433",
    "0x7f.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "0x7f000001",
    "0177.0.0.01",
    "127.0.0.1".translate(FULL_WIDTH),
    "0x7f.1".translate(FULL_WIDTH),
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[fd00::1]",
    "100.64.0.1",
    "192.168.0.1",
    "10.1",
    "172.16.5",
]
OTHER_LITERALS = [
    "0",
    "0.0.0.0",
    "0x",
    "[::]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "169.254.169.254",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "168.63.129.16",
    "255.255.255.255",
    "224.0.0.1",
]
LOCAL_NAMES = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost".translate({ord("l"): 0xFF4C}),
    "ⓛocalhost",
    "foo.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "nas.local",
    "metadata.google.internal",
    "metadata",
    "redis",
    "router.lan",
    "x.home.arpa",
]


@pytest.mark.parametrize("host", LOOPBACK_AND_PRIVATE + OTHER_LITERALS + LOCAL_NAMES)
def test_what_leads_inside_is_refused_and_told_how_to_allow(host: str) -> None:
    with pytest.raises(UrlBlocked) as caught:
        check_url(f"http://{host}:8080/x", STRICT)
    assert "MEDIA_DOWNLOADER_ALLOWED_ENDPOINTS" in caught.value.detail
    assert ("MEDIA_DOWNLOADER_ALLOW_PRIVATE_ADDRESSES" in caught.value.detail) is (host not in OTHER_LITERALS)
    assert ":8080" in caught.value.detail


@pytest.mark.parametrize("host", LOOPBACK_AND_PRIVATE + LOCAL_NAMES)
def test_allow_private_lets_a_home_or_an_office_through(host: str) -> None:
    assert check_url(f"http://{host}/x", Policy(allow_private=True))


@pytest.mark.parametrize("host", OTHER_LITERALS)
def test_allow_private_does_not_let_metadata_and_the_like_through(host: str) -> None:
    with pytest.raises(UrlBlocked) as caught:
        check_url(f"http://{host}/x", Policy(allow_private=True))
    assert "MEDIA_DOWNLOADER_ALLOW_PRIVATE_ADDRESSES" not in caught.value.detail


INVALID = [
    "",
    "   ",
    "youtube.com/watch?v=1",
    "ftp://example.org/x",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "ytsearch:cats",
    "http:example.org",
    "http:/example.org",
    "http://",
    "http:///path",
    "http://:80/",
    "http://user@/",
    "http://example.org:0/",
    "http://example.org:65536/",
    "http://example.org:8o/",
    "http://example.org:80:80/",
    "http://example.org:-1/",
    "http://exa mple.org/",
    "http://example.org/a b",
    "http://example.org/a\tb",
    "http://example.org/a\nb",
    "http://example.org/\x00",
    "http://example.org/\x7f",
    "http://example.org/\u2028x",
    "http://example.org/\x1b[31m",
    "http://example.org\\@127.0.0.1/",
    "http://example.org\\x",
    "http://example.org/..\\x",
    "http://a@b@example.org/",
    "http://example.org%00.evil.example/",
    "http://example.org%2f@127.0.0.1:80@x/",
    "http://%ff/",
    "http://%2531/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.x]/",
    "http://127.0.0.1.1/",
    "http://256.1.1.1/",
    "http://1.2.3.256/",
    "http://08.1/",
    "http://4294967296/",
    "http://a..example/",
    "http://-a.example/",
    "http://a_-.example/",
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 130 + "example/",
    "http://ex\u2100ample.org/",
    "http://exam\ud800ple.org/",
    "http://example.org/#__youtubedl_smuggle=%7B%7D",
    "http://example.org/" + "a" * 9000,
]


@pytest.mark.parametrize("url", INVALID, ids=lambda url: url[:40].encode("ascii", "backslashreplace").decode())
def test_what_is_no_fetchable_link_is_invalid_under_any_policy(url: str) -> None:
    with pytest.raises(InvalidUrl):
        check_url(url, Policy(allow_private=True))


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=x", "https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=x"),
        ("  https://Example.ORG  \n", "https://example.org/"),
        ("HTTPS://example.org:443/A?B#C", "https://example.org/A?B#C"),
        ("http://example.org:443/", "http://example.org:443/"),
        ("http://example.org.:80/x", "http://example.org/x"),
        ("https://example.org?x=1", "https://example.org/?x=1"),
        ("https://user:pa%40ss@example.org/", "https://user:pa%40ss@example.org/"),
        ("https://bücher.example/ä?ö#ü", "https://xn--bcher-kva.example/%C3%A4?%C3%B6#%C3%BC"),
        ("https://example.org/%2F%zz?a=b%20c", "https://example.org/%2F%zz?a=b%20c"),
        ("https://my_host.example.org/", "https://my_host.example.org/"),
        ("http://8.8.8.8/x", "http://8.8.8.8/x"),
        ("http://134744072/x", "http://8.8.8.8/x"),
        ("http://[2606:4700:4700:0::1111]:80/", "http://[2606:4700:4700::1111]/"),
        ("http://[::ffff:8.8.8.8]/", "http://[::ffff:808:808]/"),
        ("https://example.org/watch?u=http://127.0.0.1/", "https://example.org/watch?u=http://127.0.0.1/"),
    ],
)
def test_a_good_link_keeps_its_meaning_in_one_spelling(url: str, normal: str) -> None:
    checked = check_url(url, STRICT)
    assert parse_url(checked) == parse_url(normal)
    assert check_url(checked, STRICT) == checked
    if "ffff" not in url:
        assert checked == normal


def test_a_listed_endpoint_is_let_through_and_its_neighbours_are_not() -> None:
    policy = Policy.parse(False, ["nas.local:8080", "192.168.1.5:80", "127.1.0.0/16"])
    assert check_url("http://NAS.local:8080/v", policy) == "http://nas.local:8080/v"
    assert check_url("http://0xc0a80105/v", policy) == "http://192.168.1.5/v"
    assert check_url("http://127.1.2.3:99/v", policy) == "http://127.1.2.3:99/v"
    for url in ("http://192.168.1.5:81/", "http://127.0.0.1/", "http://localhost/"):
        with pytest.raises(UrlBlocked):
            check_url(url, policy)


def test_the_refusal_does_not_repeat_secrets() -> None:
    with pytest.raises(UrlBlocked) as caught:
        check_url("http://user:hunter2@127.0.0.1/?token=abc", STRICT)
    assert "hunter2" not in f"{caught.value.detail}{caught.value.facts}"
    assert "abc" not in f"{caught.value.detail}{caught.value.facts}"


def names(**table: list[str]):
    def resolve(host: str, port: int) -> list[str]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return table[host]

    return resolve


async def test_a_name_with_one_private_address_is_refused_at_submit() -> None:
    resolver = names(**{"mixed.test": ["93.184.216.34", "10.0.0.1"]})
    with pytest.raises(UrlBlocked, match=r"mixed\.test resolves to 10\.0\.0\.1"):
        await resolve_and_check("http://mixed.test/", STRICT, resolver)


async def test_a_public_a_listed_and_an_unknown_name_pass_at_submit() -> None:
    resolver = names(**{"good.test": ["93.184.216.34"], "nas.local": ["192.168.1.5"]})
    policy = Policy.parse(False, ["nas.local:80"])
    for url in ("http://good.test/", "http://nas.local/", "http://unknown.test/"):
        assert await resolve_and_check(url, policy, resolver) == url


async def test_a_resolver_that_hangs_does_not_hold_up_the_submit() -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        release.wait(10)
        return ["10.0.0.1"]

    assert await resolve_and_check("http://slow.test/", STRICT, hang, timeout_seconds=0.05) == "http://slow.test/"
    release.set()


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.youtube.com/watch?v=1", "youtube.com"),
        ("https://youtu.be/1", "youtube.com"),
        ("https://m.youtube.com/1", "youtube.com"),
        ("https://music.youtube.com/1", "youtube.com"),
        ("https://www.youtube-nocookie.com/embed/1", "youtube.com"),
        ("https://twitter.com/x", "x.com"),
        ("http://WWW.Example.ORG.:8080/", "example.org"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://www.de/", "www.de"),
        ("http://127.0.0.1:99/", "127.0.0.1"),
        ("http://[::1]/", "::1"),
        ("not a link", ""),
    ],
)
def test_the_site_of_a_link(url: str, site: str) -> None:
    assert site_of(url) == site
