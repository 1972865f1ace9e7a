"""Resolves a name once and judges every address of it; remembers where the listed names were found."""

import asyncio
import concurrent.futures
import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from media_downloader.errors import InvalidUrl
from media_downloader.netguard.addresses import IPAddress, unwrapped, why_not_public
from media_downloader.netguard.hosts import literal, normalize_host
from media_downloader.netguard.policy import Policy

T = TypeVar("T")

#: In the message of every refusal, so that it is recognised after yt-dlp, urllib3, ffmpeg or curl have wrapped it.
BLOCKED_MARKER = "address blocked by Media Downloader"

#: (host, port) to the addresses of the host, as text; raises socket.gaierror when there are none.
Resolver = Callable[[str, int], Sequence[str]]


class BlockedAddress(OSError):
    """A connection was refused by policy. An OSError, so that every HTTP client takes it for a failed connection."""

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(errno.EACCES, f"{BLOCKED_MARKER}: {target} ({reason})")
        self.target = target


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the system; in a process with the socket guard, through the guard."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class Gatekeeper:
    """The policy, with a memory of the addresses that its listed names resolved to. Safe to share between threads."""

    def __init__(self, policy: Policy, resolver: Resolver | None = None) -> None:
        self.policy = policy
        self._resolver = resolver or system_resolver
        self._learned: set[tuple[IPAddress, int]] = set()

    def permits(self, address: IPAddress, port: int) -> bool:
        """Whether a connection to this address and port may be made now."""
        return self.policy.allows_address(address, port) or (unwrapped(address), port) in self._learned

    def require(self, address: IPAddress, port: int) -> None:
        """Raise BlockedAddress unless the connection may be made."""
        if not self.permits(address, port):
            raise BlockedAddress(f"{address} port {port}", why_not_public(address) or "not allowed")

    def admit(self, address: IPAddress, port: int) -> None:
        """Permit one endpoint from now on: where a listed name was found, or a filtering proxy of our own."""
        self._learned.add((unwrapped(address), port))

    def resolve(self, host: str, port: int) -> tuple[IPAddress, ...]:
        """The addresses of a host, looked up once, all of them permitted. Blocks.

        One address that is not permitted refuses them all: a name that mixes public and private ones is an attack or
        a mistake. Raises BlockedAddress, or socket.gaierror when the host has no address.
        """
        addresses = self.look_up(host, port)
        self.judge(host, port, addresses)
        return addresses

    def look_up(self, host: str, port: int) -> tuple[IPAddress, ...]:
        """All addresses of a host, unjudged; an IP literal in any spelling is its own. Raises socket.gaierror."""
        address = literal(_one_spelling(host))
        if address is not None:
            return (address,)
        addresses = to_addresses(self._resolver(host, port))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return addresses

    def judge(self, host: str, port: int, addresses: Sequence[IPAddress]) -> None:
        """Learn where a listed name was found; raise BlockedAddress when another name has an address not permitted."""
        if self.lists(host, port):
            for address in addresses:
                self.admit(address, port)
            return
        for address in addresses:
            if not self.permits(address, port):
                raise BlockedAddress(f"{host} port {port}", f"{address} is {why_not_public(address)}")

    def lists(self, host: str, port: int) -> bool:
        """Whether the policy names this host and port, however the name is spelled."""
        return self.policy.lists_name(_one_spelling(host), port)


def _one_spelling(host: str) -> str:
    with suppress(InvalidUrl):
        return normalize_host(host)
    return host


def to_addresses(texts: Sequence[str]) -> tuple[IPAddress, ...]:
    """Parse what a resolver answered, without repeats and in its order."""
    return tuple(dict.fromkeys(ipaddress.ip_address(text) for text in texts))


async def resolve_in_thread(host: str, port: int, resolver: Resolver | None = None) -> tuple[IPAddress, ...]:
    """All addresses of a name, unjudged, without blocking the loop. Raises socket.gaierror."""
    look_up = resolver or system_resolver
    return await in_daemon_thread(lambda: to_addresses(look_up(host, port)))


async def in_daemon_thread(call: Callable[[], T]) -> T:
    """Run a blocking look-up. A thread of its own, because an executor would hold up the exit for one that hangs."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except OSError as error:
            future.set_exception(error)
        except ValueError as error:  # a name that cannot be encoded, an answer that is no address
            future.set_exception(socket.gaierror(socket.EAI_NONAME, str(error)))
        finally:
            if not future.done():  # a defect of the resolver; its traceback is the thread's own
                future.set_exception(socket.gaierror(socket.EAI_FAIL, "the resolver failed"))

    threading.Thread(target=run, name="resolve", daemon=True).start()
    return await asyncio.wrap_future(future)
