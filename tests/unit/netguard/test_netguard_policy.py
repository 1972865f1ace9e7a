"""The allow-list opens exactly what it names."""

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.errors import ConfigurationError
from media_downloader.netguard import Policy, is_private, is_public


def allows(policy: Policy, address: str, port: int) -> bool:
    return policy.allows_address(ipaddress.ip_address(address), port)


def test_the_default_allows_public_addresses_only() -> None:
    assert allows(Policy(), "8.8.8.8", 443)
    assert not allows(Policy(), "192.168.1.5", 80)


PRIVATE_BLOCKS = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
]
NEVER_BY_THE_LOT = [
    *METADATA,
    "169.254.1.1",
    "fe80::1%1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "2001:db8::1",
    "fec0::1",
    "100::1",
    "::127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "fd00::5efe:169.254.169.254",
    "fd00::200:5efe:10.0.0.1",
]


@pytest.mark.parametrize("block", PRIVATE_BLOCKS)
def test_allow_private_opens_the_addresses_of_a_home_or_an_office(block: str) -> None:
    network = ipaddress.ip_network(block)
    for address in (network[0], network[-1]):
        assert allows(Policy(allow_private=True), str(address), 80)
        assert not allows(Policy(), str(address), 80)
    if network.version == 4:
        assert allows(Policy(allow_private=True), f"::ffff:{network[1]}", 80)


@pytest.mark.parametrize("address", NEVER_BY_THE_LOT)
def test_allow_private_leaves_everything_else_shut_until_it_is_listed(address: str) -> None:
    assert not allows(Policy(), address, 80)
    assert not allows(Policy(allow_private=True), address, 80)
    bare = address.partition("%")[0]
    listed = f"[{bare}]" if ":" in bare else bare
    if bare.startswith("::ffff:"):  # the list names what a mapped address really is
        listed = bare.removeprefix("::ffff:")
    for allow_private in (False, True):
        assert allows(Policy.parse(allow_private, [f"{listed}:80"]), address, 80)
        assert not allows(Policy.parse(allow_private, [f"{listed}:80"]), address, 81)
        assert allows(Policy.parse(allow_private, ["0.0.0.0/0", "::/0"]), address, 81)


@given(st.ip_addresses(), st.booleans())
def test_what_a_policy_without_a_list_opens_is_public_or_private_and_no_metadata(address, allow_private: bool) -> None:
    opened = Policy(allow_private=allow_private).allows_address(address, 80)
    assert opened is (is_public(address) or (allow_private and is_private(address)))


@given(st.sampled_from(PRIVATE_BLOCKS).flatmap(lambda block: st.ip_addresses(network=block)))
def test_no_private_address_is_public_and_its_metadata_is_not_private(address) -> None:
    assert not is_public(address)
    written = ipaddress.ip_address(str(address))
    isatap = address.version == 6 and (int(address) >> 32) & 0xFFFFFFFF in (0x5EFE, 0x02005EFE)
    metadata = str(written) in METADATA or written in ipaddress.ip_network("fd00:ec2::/32")
    assert is_private(address) is not (metadata or isatap)


@given(st.ip_addresses().filter(lambda address: not any(address in ipaddress.ip_network(b) for b in PRIVATE_BLOCKS)))
def test_allow_private_opens_nothing_outside_its_blocks(address) -> None:
    if address.version == 6 and address.ipv4_mapped is not None:
        assert is_private(address) is is_private(address.ipv4_mapped)
    else:
        assert not is_private(address)


def test_an_endpoint_opens_one_port_of_one_host() -> None:
    policy = Policy.parse(False, ["192.168.1.5:80", "[FD00::0001]:443", "NAS.Local.:8080"])
    assert allows(policy, "192.168.1.5", 80)
    assert allows(policy, "::ffff:192.168.1.5", 80)
    assert allows(policy, "fd00::1", 443)
    assert not allows(policy, "192.168.1.5", 81)
    assert not allows(policy, "192.168.1.6", 80)
    assert policy.lists_name("nas.local", 8080)
    assert not policy.lists_name("nas.local", 80)


def test_a_network_opens_all_its_addresses() -> None:
    policy = Policy.parse(False, ["127.1.0.0/16", "fd00:1::/32"])
    assert allows(policy, "127.1.0.5", 1)
    assert allows(policy, "::ffff:127.1.0.5", 1)
    assert allows(policy, "fd00:1::7", 65535)
    assert not allows(policy, "127.0.0.1", 1)
    assert not allows(policy, "fd00:2::7", 1)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "nas.local",
        "192.168.1.5",
        "fd00::1:443",
        "[fd00::1]",
        "nas:0",
        "nas:65536",
        "nas:x",
        "10.0.0.1/8",
        "10/x",
        "a b:1",
        ":80",
    ],
)
def test_an_entry_that_says_nothing_clear_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Policy.parse(False, [entry])
    assert repr(entry) in caught.value.detail


def test_a_policy_survives_json() -> None:
    policy = Policy.parse(True, ["nas.local:8080", "[fd00::1]:443", "10.0.0.0/8", "fd00::/8"])
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


@pytest.mark.parametrize("data", [{}, {"allow_private": False}, {"allow_private": False, "allowed": [3]}])
def test_json_that_is_no_policy_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Policy.from_dict(data)
