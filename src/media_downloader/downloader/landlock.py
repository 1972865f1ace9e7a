"""Leaves a program that is about to be started one TCP port to connect to, by the kernel's Landlock."""

import ctypes
import os
import struct
import sys

from media_downloader.tools import Tool

# landlock(7). The numbers are the same on every architecture that Python's wheels are built for.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_RULE_NET_PORT = 2
_BIND_TCP, _CONNECT_TCP = 1, 2
#: struct landlock_ruleset_attr: accesses to files, accesses to the network. None is allowed but by a rule.
_RULESET = struct.Struct("=QQ")
#: struct landlock_net_port_attr: allowed accesses, port.
_NET_PORT = struct.Struct("=QQ")
#: The first version that knows the network; Linux 6.7.
_ABI_WITH_NETWORK = 4
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _call(number: int, *arguments: object) -> int:
    assert _libc is not None
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def is_available() -> bool:
    """Say whether this kernel can confine TCP connections."""
    if _libc is None:
        return False
    try:
        return _call(_CREATE_RULESET, None, 0, _GET_VERSION) >= _ABI_WITH_NETWORK
    except OSError:
        return False


def as_tool(*, unconfined_allowed: bool) -> Tool:
    """Return what ``/health`` and the doctor tell of it: whether live streams can be recorded here, and why not."""
    if is_available():
        return Tool("live_streams", "landlock", needed=False)
    if unconfined_allowed:
        return Tool("live_streams", "unconfined", needed=False)
    return Tool(
        "live_streams",
        None,
        needed=False,
        problem="Live streams and others that only ffmpeg can download are off: this kernel cannot confine ffmpeg to "
        "safe addresses (that takes Linux 6.7 or newer, with Landlock). Where nothing private is in reach of this "
        "machine, MEDIA_DOWNLOADER_ALLOW_UNCONFINED_FFMPEG=true turns them on all the same.",
    )


def only_tcp_port(port: int) -> int:
    """Return a ruleset, a file descriptor, under which TCP may only be connected to this port. Raises OSError."""
    attributes = _RULESET.pack(0, _BIND_TCP | _CONNECT_TCP)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    _call(_ADD_RULE, ruleset, _RULE_NET_PORT, _NET_PORT.pack(_CONNECT_TCP, port), 0)
    return ruleset


def restrict_self(ruleset: int) -> None:
    """Put this process, and all that it will start, under a ruleset for good. Raises OSError."""
    assert _libc is not None
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_RESTRICT_SELF, ruleset, 0)
