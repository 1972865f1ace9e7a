"""Which IP addresses belong to the public internet, whatever they are wrapped in."""

import ipaddress
from collections.abc import Iterator

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds answer their own machines, without a password, with keys and start-up scripts. Some lie in blocks that
# are private, one (Azure's) in a public one; no media is on any of them.
_METADATA = tuple(
    ipaddress.ip_network(block)
    for block in (
        "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack, ...
        "169.254.170.2",  # AWS: keys of a container's role
        "fd00:ec2::/32",  # AWS, over IPv6
        "fd20:ce::254",  # Google, over IPv6
        "fd00:c1::a9fe:a9fe",  # Oracle, over IPv6
        "fd00:42::42",  # Scaleway, over IPv6
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host ("WireServer")
        "192.0.0.192",  # Oracle, of old
    )
)
_METADATA_KIND = "a cloud's metadata address"

# IANA IPv4 and IPv6 special-purpose registries. `is_global` alone will not do: its answer for these blocks has changed
# between patch releases of Python, and it calls multicast (224/4), site-local and IPv4-compatible addresses global.
_REFUSED_IPV4 = {block: _METADATA_KIND for block in _METADATA if block.version == 4} | {
    ipaddress.IPv4Network(block): kind
    for block, kind in {
        "0.0.0.0/8": "an address of this host",
        "10.0.0.0/8": "a private address",
        "100.64.0.0/10": "a shared (CGNAT) address",
        "127.0.0.0/8": "a loopback address",
        "169.254.0.0/16": "a link-local address",
        "172.16.0.0/12": "a private address",
        "192.0.0.0/24": "a protocol-assignment address",
        "192.0.2.0/24": "a documentation address",
        "192.88.99.0/24": "a 6to4 relay address",
        "192.168.0.0/16": "a private address",
        "198.18.0.0/15": "a benchmarking address",
        "198.51.100.0/24": "a documentation address",
        "203.0.113.0/24": "a documentation address",
        "224.0.0.0/4": "a multicast address",
        "240.0.0.0/4": "a reserved or broadcast address",
    }.items()
}

_REFUSED_IPV6 = {block: _METADATA_KIND for block in _METADATA if block.version == 6} | {
    ipaddress.IPv6Network(block): kind
    for block, kind in {
        "::/128": "the unspecified address",
        "::1/128": "a loopback address",
        # RFC 4291 2.5.5.1 deprecates these; nothing public answers there, so what they embed does not matter.
        "::/96": "an IPv4-compatible address",
        # RFC 8215: translation inside one network. Where it embeds the IPv4 address depends on that network.
        "64:ff9b:1::/48": "a local translation (NAT64) address",
        "100::/64": "a discard-only address",
        # RFC 2928: Teredo (2001::/32), benchmarking, ORCHID; no host that serves media is in it.
        "2001::/23": "a protocol-assignment address (Teredo, ORCHID or benchmarking)",
        "2001:db8::/32": "a documentation address",
        "3fff::/20": "a documentation address",
        "fc00::/7": "a private (unique local) address",
        "fe80::/10": "a link-local address",
        "fec0::/10": "a site-local address",
        "ff00::/8": "a multicast address",
    }.items()
}

# What a home or an office has at its addresses, and what "allow private addresses" opens. A list of what it opens,
# not of what it does not: link-local, multicast, reserved and translated addresses stay shut.
_PRIVATE = tuple(
    ipaddress.ip_network(block)
    for block in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)

# The only block that IANA gives out as global unicast (RFC 3587).
_GLOBAL_UNICAST_IPV6 = ipaddress.IPv6Network("2000::/3")

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")  # RFC 3056: bits 16..47
# RFC 5214: interface identifiers ::0:5efe:a.b.c.d and ::200:5efe:a.b.c.d, in any prefix.
_ISATAP_MARKS = frozenset({0x00005EFE, 0x02005EFE})


def embedded_ipv4(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses to which packets for this address may be handed on by a translator or a tunnel."""
    number = int(address)
    if address in _MAPPED or address in _NAT64:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        yield ipaddress.IPv4Address((number >> 80) & 0xFFFFFFFF)
    if (number >> 32) & 0xFFFFFFFF in _ISATAP_MARKS:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)


def unwrapped(address: IPAddress) -> IPAddress:
    """The address itself, or the IPv4 address that a mapped one (::ffff:a.b.c.d) really connects to."""
    if isinstance(address, ipaddress.IPv6Address) and address in _MAPPED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _why_not_public_ipv4(address: ipaddress.IPv4Address) -> str | None:
    for block, kind in _REFUSED_IPV4.items():
        if address in block:
            return kind
    return None if address.is_global else "a special-purpose address"


def why_not_public(address: IPAddress) -> str | None:
    """What the address is when it is not a public one ("a loopback address"); None for a public one."""
    if isinstance(address, ipaddress.IPv4Address):
        return _why_not_public_ipv4(address)
    for inner in embedded_ipv4(address):
        kind_of_inner = _why_not_public_ipv4(inner)
        if kind_of_inner is not None:
            return f"{kind_of_inner} ({inner}) in IPv6 clothing"
    if address in _MAPPED or address in _NAT64:
        return None
    for block, kind in _REFUSED_IPV6.items():
        if address in block:
            return kind
    if address not in _GLOBAL_UNICAST_IPV6 or not address.is_global:
        return "a reserved or special-purpose address"
    return None


def is_public(address: IPAddress) -> bool:
    """True only for global unicast; an address that wraps an IPv4 one is as public as what it wraps.

    Teredo, IPv4-compatible and local NAT64 addresses are never public. Sources: the IANA special-purpose registries,
    RFC 6890, 6052, 8215, 3056, 4380, 5214.
    """
    return why_not_public(address) is None


def is_private(address: IPAddress) -> bool:
    """True for what an operator may open all at once: private (unique local), loopback and shared addresses.

    Never for the metadata services of clouds, link-local, multicast, reserved or unspecified addresses, nor for IPv4 in
    IPv6 clothing other than the mapped one, which is the same connection.
    """
    target = unwrapped(address)
    if any(target in block for block in _METADATA) or not any(target in block for block in _PRIVATE):
        return False
    return isinstance(target, ipaddress.IPv4Address) or not any(embedded_ipv4(target))
