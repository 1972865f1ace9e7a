"""The operator's rules: which addresses that are not public may be reached all the same."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from media_downloader.errors import ConfigurationError, InvalidUrl
from media_downloader.netguard.addresses import IPAddress, IPNetwork, is_private, is_public, unwrapped
from media_downloader.netguard.hosts import Authority, parse_authority

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Policy:
    """What may be reached beside the public internet. Immutable; travels to the download process as JSON.

    ``allow_private`` opens private, loopback and shared addresses (`is_private`). Whatever else is not public, the
    metadata services of clouds above all, takes an entry of its own.
    An endpoint is a normalised host (a name, or an IP literal without brackets) and a port. A network covers all ports.
    """

    allow_private: bool = False
    allowed_endpoints: frozenset[Endpoint] = frozenset()
    allowed_networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, allow_private: bool, entries: Iterable[str]) -> Self:
        """Read the settings: ``nas.local:8080``, ``192.168.1.5:80``, ``[fd00::1]:443``, ``10.1.0.0/16``.

        Raises ConfigurationError, naming the entry, for anything else.
        """
        endpoints: set[Endpoint] = set()
        networks: list[IPNetwork] = []
        for entry in entries:
            if "/" in entry:
                networks.append(_network(entry))
            else:
                endpoints.add(_endpoint(entry))
        return cls(allow_private, frozenset(endpoints), tuple(networks))

    def to_dict(self) -> dict[str, Any]:
        """A JSON object that ``from_dict`` reads back."""
        endpoints = [str(Authority(host, port)) for host, port in sorted(self.allowed_endpoints)]
        networks = [str(network) for network in self.allowed_networks]
        return {"allow_private": self.allow_private, "allowed": endpoints + networks}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The policy that ``to_dict`` wrote. Raises ConfigurationError when it did not."""
        try:
            return cls.parse(bool(data["allow_private"]), data["allowed"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"not a network policy: {error!r}") from None

    def allows_address(self, address: IPAddress, port: int) -> bool:
        """Whether a connection to exactly this address and port is fine, by whatever name it was found."""
        if is_public(address) or (self.allow_private and is_private(address)):
            return True
        target = unwrapped(address)
        bare = ipaddress.ip_address(int(target)) if target.version == 4 else ipaddress.IPv6Address(int(target))
        return (str(bare), port) in self.allowed_endpoints or any(bare in network for network in self.allowed_networks)

    def lists_name(self, host: str, port: int) -> bool:
        """Whether this name (not what it resolves to) is listed with this port."""
        return (host, port) in self.allowed_endpoints


def _network(entry: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(entry.strip())
    except ValueError as error:
        raise ConfigurationError(f"{entry!r} in the list of allowed endpoints is no network: {error}") from None


def _endpoint(entry: str) -> Endpoint:
    try:
        authority = parse_authority(entry.strip(), default_port=0)
    except InvalidUrl as error:
        raise ConfigurationError(f"{entry!r} in the list of allowed endpoints: {error.detail}") from None
    if authority.port == 0:
        raise ConfigurationError(
            f"{entry!r} in the list of allowed endpoints has no port; "
            "write host:port, [IPv6]:port, or a network such as 10.0.0.0/8"
        )
    return authority.host, authority.port
