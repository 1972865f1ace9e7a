"""Reads the host and port of a URL the way every lenient parser might, and spells them in one way."""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote

from media_downloader.errors import InvalidUrl
from media_downloader.netguard.addresses import IPAddress

MAX_HOST_LENGTH = 253  # RFC 1035 2.3.4, without the root's dot

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
# RFC 6761/6762/8375, ICANN's .internal, and the suffixes that home routers and offices use; none is public DNS.
_LOCAL_SUFFIXES = (
    ".local",
    ".localdomain",
    ".internal",
    ".intranet",
    ".lan",
    ".home",
    ".corp",
    ".private",
    ".home.arpa",
)


@dataclass(frozen=True)
class Authority:
    """A host in its one spelling (ASCII, lower case, IP literals canonical and without brackets) and a port."""

    host: str
    port: int

    @property
    def address(self) -> IPAddress | None:
        """The address, when the host is an IP literal."""
        return literal(self.host)

    @property
    def bracketed_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.bracketed_host}:{self.port}"


def literal(host: str) -> IPAddress | None:
    """The address that a canonical literal spells; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback_name(host: str) -> bool:
    """Whether the name means this machine, on every machine (RFC 6761 6.3)."""
    return host in _LOOPBACK_NAMES or host.endswith(".localhost")


def is_local_name(host: str) -> bool:
    """Whether the name is one of a local network: a single label (``redis``, ``nas``) or a suffix such as .local."""
    return is_loopback_name(host) or "." not in host or host.endswith(_LOCAL_SUFFIXES)


def parse_authority(text: str, default_port: int) -> Authority:
    """``host``, ``host:port``, ``[v6]`` or ``[v6]:port`` to one spelling. Raises InvalidUrl.

    Numbers in decimal, octal, hex and short forms (inet_aton), full-width digits, ideographic dots, percent-encoding
    and one trailing dot mean what they mean to the most lenient of the programs that will see the URL.
    """
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            _refuse("the brackets around its IPv6 address do not match")
        return Authority(_ipv6(inside), _port(rest[1:], default_port))
    host, colon, port = text.partition(":")
    if ":" in port:
        _refuse("an IPv6 address must stand in brackets")
    return Authority(normalize_host(host), _port(port if colon else "", default_port))


def normalize_host(host: str) -> str:
    """A name or IPv4 address, in any spelling, in its one spelling. Raises InvalidUrl."""
    if len(host) > 4 * MAX_HOST_LENGTH:
        _refuse("its host is too long")
    # Decoded once, as the WHATWG URL standard says; what is still encoded then is refused below.
    try:
        decoded = unquote(host, errors="strict")
    except UnicodeDecodeError:
        _refuse("its host is not UTF-8")
    text = unicodedata.normalize("NFKC", decoded).lower()
    text = text.replace("\u3002", ".").removesuffix(".")
    if not text:
        _refuse("it names no host")
    if len(text) > MAX_HOST_LENGTH:
        _refuse("its host is too long")
    # The numbers are looked for after IDNA, which drops soft hyphens and joiners that could hide them.
    text = text if text.isascii() else _idna(text)
    labels = text.split(".")
    if _NUMBER.match(labels[-1]):
        return _ipv4(labels)
    if len(text) > MAX_HOST_LENGTH or not all(_LABEL.match(label) for label in labels):
        _refuse("its host is no valid name")
    return text


def _idna(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        _refuse("its host is no valid international name")


def _ipv4(labels: list[str]) -> str:
    """inet_aton(3): one to four numbers, each decimal, octal (0...) or hex (0x...); the last one fills what is left."""
    if len(labels) > 4 or not all(_NUMBER.match(label) for label in labels):
        _refuse("its host looks like an IPv4 address but is none")
    try:
        *heads, last = (_inet_number(label) for label in labels)
        if any(head > 0xFF for head in heads):
            raise ValueError
        number = sum(head << (24 - 8 * index) for index, head in enumerate(heads))
        if last >= 1 << (32 - 8 * len(heads)):
            raise ValueError
    except ValueError:
        _refuse("its host looks like an IPv4 address but is none")
    return str(ipaddress.IPv4Address(number + last))


def _inet_number(label: str) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") and len(label) > 1 else 10)


def _ipv6(text: str) -> str:
    if "%" in text:
        _refuse("an address with a zone (%) has a meaning on one machine only")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        _refuse("its host is no valid IPv6 address")


def _port(text: str, default_port: int) -> int:
    if not text:
        return default_port
    if not _PORT.match(text) or not 0 < int(text) < 65536:
        _refuse("its port is not a number from 1 to 65535")
    return int(text)


def _refuse(reason: str) -> NoReturn:
    raise InvalidUrl(f"The link is not valid: {reason}.")
