"""Refuses, in this process and for good, every connection of a Python socket to an address that is not permitted."""

import ipaddress
import os
import socket
import sys
from contextlib import suppress
from typing import Any, cast

from media_downloader.netguard.addresses import IPAddress
from media_downloader.netguard.gatekeeper import BlockedAddress, Gatekeeper, Resolver, to_addresses
from media_downloader.netguard.hosts import literal
from media_downloader.netguard.policy import Policy

# Raised by CPython's _socket for each of these, with the socket and the address (sendmsg: None when it is connected).
_GUARDED_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


def install_socket_guard(policy: Policy, resolver: Resolver | None = None) -> Gatekeeper:
    """Guard this process. It cannot be undone; forked children inherit it, programs that are executed do not.

    The enforcement is an audit hook: it sees the address that ``connect`` and ``sendto`` are about to use, also from
    ``_socket`` itself, and from code that keeps its own reference to a patched function. It accepts numbers only, as C
    would look a name up again behind its back. Beside it, ``socket.socket.connect`` and ``getaddrinfo`` are replaced by
    ones that look a name up once and refuse it when any of its addresses is not permitted. Sockets of every family but
    IPv4 and IPv6 cannot connect; socket pairs and accepted connections are not touched.

    Refusals are BlockedAddress. What opens sockets without Python (ffmpeg, libcurl, uvloop) is not seen: it belongs
    behind an EgressProxy. ``resolver`` replaces the system's. The answer can `admit` single endpoints later.
    """
    gatekeeper = Gatekeeper(policy, resolver)
    _replace_getaddrinfo(gatekeeper, resolver)
    _replace_connect(gatekeeper)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _GUARDED_EVENTS:
            _judge(gatekeeper, *arguments)

    sys.addaudithook(hook)
    return gatekeeper


def _judge(gatekeeper: Gatekeeper, sock: socket.socket, destination: object) -> None:
    if destination is None:
        return
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(destination, tuple):
        raise BlockedAddress(repr(destination), "only IPv4 and IPv6 may be used")
    address = _number(destination[0]) if len(destination) >= 2 else None
    if address is None:
        raise BlockedAddress(repr(destination[:2]), "not a numeric address")
    gatekeeper.require(address, int(destination[1]))


def _number(host: object) -> IPAddress | None:
    """The address, read by the parser that C uses (inet_pton); None for a name or any lenient spelling."""
    text = bytes(host).decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)
    with suppress(OSError, ValueError):
        return ipaddress.IPv4Address(socket.inet_pton(socket.AF_INET, text))
    with suppress(OSError, ValueError):
        return ipaddress.IPv6Address(socket.inet_pton(socket.AF_INET6, text.partition("%")[0]))
    return None


def _replace_getaddrinfo(gatekeeper: Gatekeeper, resolver: Resolver | None) -> None:
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002
        name = os.fsdecode(host) if isinstance(host, bytes) else host
        # None and "" are this machine's own addresses, asked for to listen; numbers are judged when they are connected.
        if not name or literal(name) is not None or flags & socket.AI_PASSIVE:
            return original(host, port, family, type, proto, flags)
        if resolver is None:
            answers = original(host, port, family, type, proto, flags)
        else:
            answers = _answers(gatekeeper, name, port, family, type)
        gatekeeper.judge(name, int(answers[0][4][1]), to_addresses([str(answer[4][0]) for answer in answers]))
        return answers

    socket.getaddrinfo = getaddrinfo


def _answers(gatekeeper: Gatekeeper, name: str, port: Any, family: int, kind: int) -> list[Any]:
    number = int(port or 0)
    answers: list[Any] = []
    for address in gatekeeper.look_up(name, number):
        own_family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        if family in (0, own_family):
            where = (str(address), number) if address.version == 4 else (str(address), number, 0, 0)
            answers.append((own_family, kind or socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where))
    if not answers:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address of this family")
    return answers


def _replace_connect(gatekeeper: Gatekeeper) -> None:
    """A name given to ``connect`` becomes the first of its addresses, all of them checked; the hook judges numbers."""
    plain_connect = socket.socket.connect
    plain_connect_ex = socket.socket.connect_ex

    def connect(self: socket.socket, address: Any) -> None:
        plain_connect(self, _by_number(gatekeeper, self, address))

    def connect_ex(self: socket.socket, address: Any) -> int:
        return plain_connect_ex(self, _by_number(gatekeeper, self, address))

    target = cast(Any, socket.socket)
    target.connect = connect
    target.connect_ex = connect_ex


def _by_number(gatekeeper: Gatekeeper, sock: socket.socket, address: Any) -> Any:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple) or len(address) < 2:
        return address
    host = address[0]
    if not isinstance(host, str) or not host or _number(host) is not None:
        return address
    version = 4 if sock.family == socket.AF_INET else 6
    for found in gatekeeper.resolve(host, int(address[1])):
        if found.version == version:
            return (str(found), *address[1:])
    raise socket.gaierror(socket.EAI_NONAME, "the name has no address of this family")
