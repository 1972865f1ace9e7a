"""Takes the secrets out of links and text before they reach a log, an event or an answer."""

import re
from urllib.parse import quote, unquote

MASK = "***"

_SECRET_NAMES = frozenset(
    {
        "sig",
        "lsig",
        "hmac",
        "key",
        "pass",
        "pwd",
        "pw",
        "code",
        "policy",
        "jwt",
        "sid",
        "sign",
        "hash",
        "md5",
        "pot",
        "spc",
        "hdnea",
        "hdnts",
        "hdntl",
        "hdnel",
        "verify",
        "__gda__",
        "__token__",
        "__youtubedl_smuggle",
    }
)
_SECRET_PARTS = re.compile(
    r"token|secret|passw|passphrase|signature|auth(?!or)|credential|session|cookie|api[-_]?key|access[-_]?key|private[-_]?key"
    r"|key[-_]pair[-_]id|^x-(amz|goog|oss|ms)-|^sig[-_]|[-_]sig$|[-_]hash$"
)

# What stands before the host, whatever characters a password has; a link in free text ends at some of them.
_USERINFO = re.compile(r"""([a-z][a-z0-9+.-]{0,30}://)[^\s/?#"<>]*@""", re.IGNORECASE)
# A part of a query without its link: "?token=..." is what yt-dlp calls a video whose path has no last component.
_QUERY_PAIR = re.compile(r"""(?<=[?&#;])([^\s?&#;="'<>]{1,64})=([^\s?&#;"'<>]+)""")
_URL = re.compile(r"""[a-z][a-z0-9+.-]{0,30}://[^\s"'<>\\^`{|}]+""", re.IGNORECASE)
_SPLIT_URL = re.compile(r"([a-z][a-z0-9+.-]*://)([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?\Z", re.IGNORECASE | re.DOTALL)

# Google's and Akamai's manifests carry signatures in the path: /sig/AOq.../ and /hdntl=exp=1~hmac=f00/.
_PATH_PAIR = re.compile(r"(/(?:sig|lsig|signature|token|hdnea|hdnts|hdntl|hmac|spc|pot)/)[^/?#;]+", re.IGNORECASE)
_PATH_PARAMETER = re.compile(r"([/;]([A-Za-z0-9_.-]{1,64})=)([^/?#;]+)")

_HEADERS = (
    r"(?:set-)?cookie2?|(?:proxy-)?authorization|x-[a-z-]{0,20}token"
    r"|x-(?:api|auth|access|csrf|xsrf|youtube|goog|amz)[a-z0-9-]{0,40}"
)
_QUOTED_HEADER = re.compile(
    rf"""(?P<name>(?P<quote>["'])(?:{_HEADERS})(?P=quote)\s*[:=,]\s*)(?P<open>["'])(?:\\.|(?!(?P=open))[^\\])*""",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN_HEADER = re.compile(rf"""(?<![\w-])((?:{_HEADERS})[ \t]*:[ \t]*)(?!["'])[^\r\n]+""", re.IGNORECASE)
# "Bearer of bad news" is prose: a token has a digit or is long.
_BEARER = re.compile(
    r"\b(bearer\s+)(?=[A-Za-z0-9._~+/-]{0,20}\d|[A-Za-z0-9._~+/-]{20})[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE
)
_ASSIGNMENT = re.compile(
    r"""(?<![A-Za-z0-9])((?:[A-Za-z0-9]{1,30}[-_]){0,3}"""
    r"""(?:password|passwd|secret|api[-_]?key|token|signature|sig|hmac)["']?\s*=\s*["']?)[^\s&;,"'<>]+""",
    re.IGNORECASE,
)


def redact_url(url: str) -> str:
    """The link without user and password, and with ``***`` for every value that looks like a secret. Never raises.

    Names of parameters stay, and values such as ``expires``, so that the link can still be recognised. A link within
    a parameter's value is treated in the same way.
    """
    return _redact_url(url, depth=2)


def redact_text(text: str) -> str:
    """Free text without secrets: links as `redact_links` has them, and the values of Cookie and Authorization headers,
    bearer tokens and ``password=``-like assignments masked. Never raises; takes time in proportion to the length.
    """
    text = _QUOTED_HEADER.sub(lambda match: f"{match['name']}{match['open']}{MASK}", text)
    text = _PLAIN_HEADER.sub(rf"\g<1>{MASK}", text)
    text = redact_links(text)
    text = _BEARER.sub(rf"\g<1>{MASK}", text)
    return _ASSIGNMENT.sub(rf"\g<1>{MASK}", text)


def redact_links(text: str) -> str:
    """The text with the secrets of the links in it masked, and of what looks like a piece of one; all else stays.

    For what people read as it is, such as a title: "Cookie: the film" is no header there.
    """
    text = _USERINFO.sub(r"\g<1>", text)
    text = _URL.sub(lambda match: redact_url(match[0]), text)
    return _QUERY_PAIR.sub(lambda match: f"{match[1]}={MASK}" if _is_secret(unquote(match[1])) else match[0], text)


def redact_line(text: str, limit: int) -> str:
    """One line for a log: without secrets, without control characters, and no longer than the limit."""
    # Cut late: of a password that is cut in two, the first half would not be known for one.
    plain = redact_text(text[: 4 * limit])[:limit].strip()
    return "".join(char if char.isprintable() else " " for char in plain)


def _redact_url(url: str, depth: int) -> str:
    match = _SPLIT_URL.match(url)
    if match is None:
        return url
    scheme, authority, path, query, fragment = match.groups(default="")
    host = authority.rpartition("@")[2]
    return scheme + host + _redact_path(path) + _redact_pairs(query, depth) + _redact_pairs(fragment, depth)


def _redact_path(path: str) -> str:
    path = _PATH_PAIR.sub(rf"\g<1>{MASK}", path)
    return _PATH_PARAMETER.sub(lambda match: f"{match[1]}{MASK}" if _is_secret(match[2]) else match[0], path)


def _redact_pairs(text: str, depth: int) -> str:
    """A query or a fragment with its leading ? or #."""
    pieces = re.split(r"([?#&;])", text)
    return "".join(_redact_pair(piece, depth) for piece in pieces)


def _redact_pair(pair: str, depth: int) -> str:
    name, equals, value = pair.partition("=")
    if not equals or not value:
        return pair
    if _is_secret(unquote(name)):
        return f"{name}={MASK}"
    plain = unquote(value)
    if depth > 0 and "://" in plain:
        clean = _URL.sub(lambda match: _redact_url(match[0], depth - 1), plain)
        if clean != plain:
            return f"{name}={quote(clean, safe='*') if plain != value else clean}"
    return pair


def _is_secret(name: str) -> bool:
    lowered = name.lower()
    return lowered in _SECRET_NAMES or _SECRET_PARTS.search(lowered) is not None
