"""The allow-list opens exactly what it names."""

import ipaddress
import json

import pytest

from media_downloader.errors import ConfigurationError
from media_downloader.netguard import Policy


def allows(policy: Policy, address: str, port: int) -> bool:
    return policy.allows_address(ipaddress.ip_address(address), port)


def test_the_default_allows_public_addresses_only() -> None:
    assert allows(Policy(), "8.8.8.8", 443)
    assert not allows(Policy(), "192.168.1.5", 80)


def test_allow_private_allows_all() -> None:
    assert allows(Policy(allow_private=True), "127.0.0.1", 80)
    assert allows(Policy(allow_private=True), "fe80::1%1", 80)


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
