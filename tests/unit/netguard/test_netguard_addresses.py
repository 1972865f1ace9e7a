"""No address that leads into a private network passes, whatever it is wrapped in."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.netguard import is_public, why_not_public

NOT_PUBLIC_BLOCKS = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
NETWORKS = [ipaddress.IPv4Network(block) for block in NOT_PUBLIC_BLOCKS]

private_ipv4 = st.sampled_from(NETWORKS).flatmap(lambda network: st.ip_addresses(v=4, network=network))
public_ipv4 = st.ip_addresses(v=4).filter(
    lambda address: address.is_global and not any(address in network for network in NETWORKS)
)


def mapped(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0xFFFF << 32) | int(v4))


def nat64(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x0064FF9B << 96) | int(v4))


def local_nat64(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x0064FF9B0001 << 80) | int(v4))


def six_to_four(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x2002 << 112) | (int(v4) << 80) | 1)


def teredo_client(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (int(v4) ^ 0xFFFFFFFF))


def teredo_server(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x20010000 << 96) | (int(v4) << 64) | (0x08080808 ^ 0xFFFFFFFF))


def compatible(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(int(v4))


def isatap(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x2A00145040010800 << 64) | (0x00005EFE << 32) | int(v4))


def isatap_unique(v4: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address((0x2A00145040010800 << 64) | (0x02005EFE << 32) | int(v4))


WRAPPERS = [mapped, nat64, local_nat64, six_to_four, teredo_client, teredo_server, compatible, isatap, isatap_unique]


@pytest.mark.parametrize("block", NOT_PUBLIC_BLOCKS)
def test_first_and_last_address_of_every_special_block_is_refused(block: str) -> None:
    network = ipaddress.IPv4Network(block)
    assert not is_public(network[0])
    assert not is_public(network[-1])


@given(private_ipv4)
def test_no_private_ipv4_is_public(address: ipaddress.IPv4Address) -> None:
    assert not is_public(address)


@given(private_ipv4, st.sampled_from(WRAPPERS))
def test_no_wrapping_makes_a_private_ipv4_public(address: ipaddress.IPv4Address, wrap) -> None:
    assert not is_public(wrap(address))
    assert why_not_public(wrap(address))


@given(public_ipv4)
def test_a_public_ipv4_is_public_also_when_translated(address: ipaddress.IPv4Address) -> None:
    assert is_public(address)
    assert is_public(mapped(address))
    assert is_public(nat64(address))


@pytest.mark.parametrize(
    "text",
    [
        "::",
        "::1",
        "::2",
        "::8.8.8.8",
        "100::1",
        "64:ff9b:1::808:808",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fdff:ffff::1",
        "fe80::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_special_ipv6_is_refused(text: str) -> None:
    assert not is_public(ipaddress.IPv6Address(text))


@pytest.mark.parametrize("text", ["2606:4700:4700::1111", "2a00:1450:4001:800::200e", "2001:4860:4860::8888"])
def test_global_unicast_ipv6_is_public(text: str) -> None:
    assert is_public(ipaddress.IPv6Address(text))


@given(st.ip_addresses(v=6).filter(lambda address: not 0x2000 <= int(address) >> 112 < 0x4000))
def test_outside_global_unicast_only_translated_public_ipv4_is_public(address: ipaddress.IPv6Address) -> None:
    inside_translation = int(address) >> 32 in (0xFFFF, 0x0064FF9B << 64)
    assert is_public(address) is (inside_translation and is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))


def test_the_reason_names_what_the_address_is() -> None:
    assert why_not_public(ipaddress.ip_address("127.0.0.1")) == "a loopback address"
    assert why_not_public(ipaddress.ip_address("::ffff:10.0.0.1")) == "a private address (10.0.0.1) in IPv6 clothing"
    assert why_not_public(ipaddress.ip_address("8.8.8.8")) is None
