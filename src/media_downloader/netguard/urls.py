"""Judges a link when it is submitted, and tells which site it belongs to."""

import asyncio
import string
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from media_downloader.errors import InvalidUrl, UrlBlocked
from media_downloader.netguard.addresses import IPAddress, is_private, why_not_public
from media_downloader.netguard.gatekeeper import Resolver, resolve_in_thread
from media_downloader.netguard.hosts import Authority, is_local_name, is_loopback_name, parse_authority
from media_downloader.netguard.policy import Policy
from media_downloader.netguard.redaction import redact_url

MAX_URL_BYTES = 8192
RESOLVE_TIMEOUT_SECONDS = 5.0

DEFAULT_PORTS = {"http": 80, "https": 443}

# yt-dlp hides instructions to its extractors in the fragment (utils: smuggle_url), request headers and a proxy among
# them (GHSA-3ch3-jhc6-5r8x). Only yt-dlp itself may write them.
_SMUGGLE_MARK = "__youtubedl_smuggle"

_PRINTABLE_ASCII = "".join(sorted(set(string.printable) - set(string.whitespace)))

_SITE_ALIASES = {
    "youtu.be": "youtube.com",
    "youtube-nocookie.com": "youtube.com",
    "music.youtube.com": "youtube.com",
    "gaming.youtube.com": "youtube.com",
    "twitter.com": "x.com",
    "mobile.twitter.com": "x.com",
    "fb.watch": "facebook.com",
    "dai.ly": "dailymotion.com",
    "player.vimeo.com": "vimeo.com",
    "clips.twitch.tv": "twitch.tv",
    "old.reddit.com": "reddit.com",
    "v.redd.it": "reddit.com",
    "vm.tiktok.com": "tiktok.com",
}

HOW_TO_ALLOW = (
    "If it is meant to be reachable, list it in MEDIA_DOWNLOADER_ALLOWED_ENDPOINTS (as {endpoint}, or its network)"
)
HOW_TO_ALLOW_ALL = ", or set MEDIA_DOWNLOADER_ALLOW_PRIVATE_ADDRESSES=true"


@dataclass(frozen=True)
class ParsedUrl:
    """A link in its one spelling, taken apart."""

    scheme: str
    authority: Authority
    userinfo: str
    rest: str

    def __str__(self) -> str:
        at = f"{self.userinfo}@" if self.userinfo else ""
        default = DEFAULT_PORTS[self.scheme] == self.authority.port
        return f"{self.scheme}://{at}{self.authority.bracketed_host if default else self.authority}{self.rest}"


def parse_url(url: str) -> ParsedUrl:
    """Take a link apart and spell it in one way: ASCII, lower-case scheme and host, canonical address, no default port.

    White space around it is dropped; path, query and fragment stay as they are, except that characters outside ASCII
    become percent-encoded UTF-8. Raises InvalidUrl.
    """
    text = url.strip(" \t\r\n")
    _check_characters(text)
    try:
        parts = urlsplit(text)
    except ValueError:
        raise InvalidUrl("The link is not valid: its host cannot be read.") from None
    if parts.scheme not in DEFAULT_PORTS or not text[len(parts.scheme) :].startswith("://"):
        raise InvalidUrl("Only links that start with http:// or https:// can be downloaded.")
    if "\\" in parts.netloc or "\\" in parts.path:
        raise InvalidUrl("The link is not valid: it has a backslash, which programs read in different ways.")
    if parts.netloc.count("@") > 1:
        raise InvalidUrl("The link is not valid: it has more than one @ before its path.")
    if _SMUGGLE_MARK in text:
        raise InvalidUrl("The link is not valid: it holds internal data of the downloader.")
    userinfo, _, authority = parts.netloc.rpartition("@")
    parsed = parse_authority(authority, DEFAULT_PORTS[parts.scheme])
    rest = text.split("://", 1)[1][len(parts.netloc) :]
    encoded = quote(rest, safe=_PRINTABLE_ASCII) if rest.startswith("/") else "/" + quote(rest, safe=_PRINTABLE_ASCII)
    return ParsedUrl(parts.scheme, parsed, quote(userinfo, safe=_PRINTABLE_ASCII), encoded)


def check_url(url: str, policy: Policy) -> str:
    """The link in its one spelling, when nothing in it shows that it leads where it may not. No network is used.

    Raises InvalidUrl, or UrlBlocked for an address (in any spelling) or a name that is not public and not allowed.
    What a name resolves to is judged when a connection is made; `resolve_and_check` gives an early answer.
    """
    parsed = parse_url(url)
    authority = parsed.authority
    address = authority.address
    if address is not None:
        if not policy.allows_address(address, authority.port):
            raise _blocked(parsed, f"{address} is {why_not_public(address)}", address)
    elif not _name_may_be_tried(authority, policy):
        raise _blocked(parsed, f"{authority.host} is a name of this machine or of a local network")
    return str(parsed)


def _name_may_be_tried(authority: Authority, policy: Policy) -> bool:
    if policy.allow_private or policy.lists_name(authority.host, authority.port):
        return True
    if is_loopback_name(authority.host):
        return False
    # With networks listed, only the address can tell; the connect guard asks it.
    return bool(policy.allowed_networks) or not is_local_name(authority.host)


async def resolve_and_check(
    url: str, policy: Policy, resolver: Resolver | None = None, timeout_seconds: float = RESOLVE_TIMEOUT_SECONDS
) -> str:
    """`check_url`, and then refuse a name of which any address is not allowed. Raises InvalidUrl or UrlBlocked.

    Exists for a good message at submit and protects nothing (the name may resolve otherwise later): a name that does
    not resolve in time is let through, for the job to fail with its own message.
    """
    checked = check_url(url, policy)
    parsed = parse_url(checked)
    authority = parsed.authority
    if authority.address is not None or policy.lists_name(authority.host, authority.port):
        return checked
    addresses: tuple[IPAddress, ...] = ()
    try:
        async with asyncio.timeout(timeout_seconds):
            addresses = await resolve_in_thread(authority.host, authority.port, resolver)
    except OSError:  # also TimeoutError, and gaierror: the name does not resolve
        return checked
    for address in addresses:
        if not policy.allows_address(address, authority.port):
            raise _blocked(
                parsed, f"{authority.host} resolves to {address}, which is {why_not_public(address)}", address
            )
    return checked


def site_of(url: str) -> str:
    """The key of per-site limits: ``https://www.youtu.be/x`` is ``youtube.com``. Empty for no link; never raises."""
    try:
        host = parse_url(url).authority.host
    except InvalidUrl:
        return ""
    for prefix in ("www.", "m."):
        if host.startswith(prefix) and "." in host[len(prefix) :]:
            host = host[len(prefix) :]
    return _SITE_ALIASES.get(host, host)


def _check_characters(text: str) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidUrl("The link is not valid: it holds half of a character.") from None
    if length > MAX_URL_BYTES:
        raise InvalidUrl(f"The link is longer than {MAX_URL_BYTES} bytes.")
    if not text:
        raise InvalidUrl("The link is empty.")
    if any(character.isspace() or unicodedata.category(character) == "Cc" for character in text):
        raise InvalidUrl("The link is not valid: it holds white space or control characters.")


def _blocked(parsed: ParsedUrl, reason: str, address: IPAddress | None = None) -> UrlBlocked:
    how = HOW_TO_ALLOW.format(endpoint=parsed.authority)
    if address is None or is_private(address):
        how += HOW_TO_ALLOW_ALL
    detail = f"This link may not be downloaded: {reason}. {how}."
    return UrlBlocked(detail, url=redact_url(str(parsed)), host=parsed.authority.host, port=parsed.authority.port)
