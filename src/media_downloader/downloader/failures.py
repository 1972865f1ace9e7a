"""From yt-dlp's and the network's errors to a kind, a message and a hint; of yt-dlp's classes it knows names only."""

import errno
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from media_downloader.jobs.model import FailureKind as K
from media_downloader.netguard import BLOCKED_MARKER, redact_text

#: Worth another attempt without anybody doing anything.
TRANSIENT: frozenset[K] = frozenset(
    {K.RATE_LIMITED, K.NETWORK, K.SERVER_ERROR, K.INCOMPLETE, K.LIVE_NOT_STARTED, K.DISK_FULL}
)
#: Concern the whole site: none of its jobs starts meanwhile.
SITE_WIDE: frozenset[K] = frozenset({K.RATE_LIMITED})

#: Longest message that is told.
MAX_MESSAGE_CHARS = 600

HINTS: dict[K, str] = {
    K.UNAVAILABLE: "Open the link in a browser: the media may have been removed or moved.",
    K.PRIVATE: "Only people whom the owner let in can see it.",
    K.LOGIN_REQUIRED: "The site wants a login for this.",
    K.AGE_RESTRICTED: "The site wants to know your age, which takes a login.",
    K.GEO_RESTRICTED: "The site does not show it in the country of this server.",
    K.DRM: "It is copy-protected and cannot be downloaded.",
    K.UNSUPPORTED_URL: "No media was found behind this link. Check that it leads to a page with a video or to a file.",
    K.NO_SUCH_FORMAT: "Choose another preset or format; POST /info lists the formats that there are.",
    K.RATE_LIMITED: "The site asked us to slow down. All jobs of the site wait.",
    K.NETWORK: "The connection failed. It is tried again by itself.",
    K.SERVER_ERROR: "The site has a fault. It is tried again by itself.",
    K.DISK_FULL: "Make room on the disk; the job goes on by itself from the bytes it has.",
    K.TOO_LARGE: "Raise max_size_bytes, or choose a smaller format.",
    K.LIVE_NOT_STARTED: "The stream has not begun. It is tried again by itself.",
    K.BLOCKED_ADDRESS: (
        "The link leads to an address that downloads may not reach. If it is yours, list it in "
        "MEDIA_DOWNLOADER_ALLOWED_ENDPOINTS."
    ),
    K.INCOMPLETE: "What came in is not the whole file. It is tried again by itself.",
    K.PROCESSING_FAILED: "See the job's log; another format may work.",
    K.BAD_OPTIONS: "Change the options and add the link again.",
    K.CRASHED: "See the job's log.",
    K.UNKNOWN: "See the job's log. A newer yt-dlp may know the site better.",
}

#: Names of exception classes that say it all, wherever in the chain they are.
_BY_CLASS: dict[str, K] = {
    "BlockedAddress": K.BLOCKED_ADDRESS,
    "GeoRestrictedError": K.GEO_RESTRICTED,
    "UnsupportedError": K.UNSUPPORTED_URL,
    "TooLarge": K.TOO_LARGE,
    "ContentTooShortError": K.INCOMPLETE,
    "Incomplete": K.INCOMPLETE,
    "ContentChanged": K.INCOMPLETE,
    "BadOptions": K.BAD_OPTIONS,
    "UnsupportedProtocol": K.UNSUPPORTED_URL,
    "NotOneMedia": K.UNSUPPORTED_URL,
}

_BY_TEXT: tuple[tuple[K, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (K.BLOCKED_ADDRESS, re.escape(BLOCKED_MARKER)),
        (K.DISK_FULL, r"no space left on device|disk quota exceeded"),
        (
            K.RATE_LIMITED,
            r"http error 429|too many requests|rate.?limit|not a bot|unusual traffic|captcha|try again later|"
            r"temporarily (?:blocked|banned)|request limit|slow down",
        ),
        (K.SERVER_ERROR, r"http error 5\d\d|internal server error|bad gateway|gateway time-?out|service unavailable"),
        (
            K.AGE_RESTRICTED,
            r"age.?(?:restricted|limit|gate|verif)|confirm your age|inappropriate for some users|adult content",
        ),
        (
            K.GEO_RESTRICTED,
            r"geo.?(?:restrict|block)|"
            r"not (?:be )?(?:made )?available (?:in|from) your (?:country|region|location)|"
            r"blocked (?:it )?in your (?:country|region)|country|your location",
        ),
        (K.DRM, r"\bdrm\b|widevine|fairplay|playready|copy.?protect"),
        (
            K.LIVE_NOT_STARTED,
            r"live event will begin|premieres? in|will (?:begin|start) (?:in|at|soon|shortly)|"
            r"not (?:yet )?(?:started|live)|"
            r"is (?:not|n't) live|upcoming|offline",
        ),
        (K.PRIVATE, r"private (?:video|media|post|account|playlist)|is private|video is protected|members?.?only"),
        (
            K.LOGIN_REQUIRED,
            r"log.?in|sign.?in|logged.?in|cookies|account (?:credentials|needed|required)|authenticat|subscrib|"
            r"purchase|premium|password|http error 401",
        ),
        (
            K.NO_SUCH_FORMAT,
            r"requested format is not available|no (?:video |suitable )?formats found|no video formats",
        ),
        (
            K.UNSUPPORTED_URL,
            r"unsupported url|is not a valid url|no (?:video|media|playable media) (?:could be )?found|"
            r"no suitable extractor|"
            r"unable to extract|unsupported protocol|no media",
        ),
        (
            K.UNAVAILABLE,
            r"http error (?:404|410)|not found|unavailable|not available|removed|deleted|does(?: not|n't) exist|"
            r"terminated|no longer|copyright|taken down|expired",
        ),
        (K.TOO_LARGE, r"larger than max|file too large|exceeds? the (?:size )?limit"),
        (K.INCOMPLETE, r"content too short|incomplete ?read|more expected|fragment \d+ not found|did not get any data"),
        (
            K.NETWORK,
            r"timed? ?out|connection (?:re(?:set|fused)|aborted|error|closed)|"
            r"name or service|name resolution|getaddrinfo|"
            r"network is unreachable|no route to host|unreachable|ssl|certificate|remote end closed|broken pipe|"
            r"temporary failure|failed to (?:resolve|perform)|unable to download|transporterror",
        ),
        (K.PROCESSING_FAILED, r"postprocess|ffmpeg|conversion failed|merg|could not write header|invalid data found"),
    )
)

_BY_STATUS: dict[int, K] = {
    401: K.LOGIN_REQUIRED,
    402: K.LOGIN_REQUIRED,
    403: K.UNAVAILABLE,
    404: K.UNAVAILABLE,
    407: K.NETWORK,
    408: K.NETWORK,
    410: K.UNAVAILABLE,
    413: K.TOO_LARGE,
    425: K.RATE_LIMITED,
    429: K.RATE_LIMITED,
    451: K.GEO_RESTRICTED,
}

_BY_ERRNO: dict[int, K] = {
    errno.ENOSPC: K.DISK_FULL,
    errno.EDQUOT: K.DISK_FULL,
    errno.EFBIG: K.TOO_LARGE,
}

_BOILERPLATE = re.compile(
    r";? ?please report this issue on .*|\(caused by .*|; see  ?https?://\S+ .*|"
    r"Confirm you are on the latest version.*|"
    r"Use --list-formats .*|Use --cookies.*|See  ?https?://github\.com/yt-dlp\S* .*",
    re.IGNORECASE | re.DOTALL,
)
_PREFIX = re.compile(r"^(?:ERROR: )?(?:\[[^\]\n]{1,60}\] )?(?:[^\s:]{1,100}: )?")


@dataclass(frozen=True)
class Trouble:
    """What an exception and its causes told."""

    message: str
    #: Names of the exception classes of the whole chain.
    classes: Collection[str] = field(default_factory=frozenset)
    #: Status of the HTTP answer that was at its root.
    status: int | None = None
    #: errno of the operating system's error that was at its root.
    error_number: int | None = None


def kind_of(trouble: Trouble) -> K:
    """Return the kind: the surest sign decides, the text of the message last."""
    return (
        next((kind for name, kind in _BY_CLASS.items() if name in trouble.classes), None)
        or (K.BLOCKED_ADDRESS if BLOCKED_MARKER in trouble.message else None)
        or _BY_ERRNO.get(trouble.error_number or 0)
        or _by_sure_status(trouble.status)
        or _by_text(trouble)
        or _BY_STATUS.get(trouble.status or 0)
        or _by_family(trouble.classes)
    )


def _by_text(trouble: Trouble) -> K | None:
    """An answer with a status has come over the line, so "unable to download" says nothing of the network there."""
    kinds = (kind for kind, pattern in _BY_TEXT if pattern.search(trouble.message))
    return next((kind for kind in kinds if kind is not K.NETWORK or trouble.status is None), None)


def _by_sure_status(status: int | None) -> K | None:
    """A 403 may mean a login, a country, an age or an expired link: there the text knows better."""
    if status is None or status == 403:
        return None
    return K.SERVER_ERROR if 500 <= status <= 599 else _BY_STATUS.get(status)


def _by_family(classes: Collection[str]) -> K:
    if "TransportError" in classes or "IncompleteRead" in classes:
        return K.NETWORK
    return K.PROCESSING_FAILED if "PostProcessingError" in classes else K.UNKNOWN


def clean_message(text: str) -> str:
    """Return yt-dlp's message for people: no prefix, no colours, no request to report, no secret, not too long."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    text = _BOILERPLATE.sub("", text)
    if text.startswith("ERROR: ") or text.startswith("["):
        text = _PREFIX.sub("", text, count=1)
    text = redact_text(text.strip())
    text = "".join(char for char in text if char.isprintable())
    if len(text) > MAX_MESSAGE_CHARS:
        text = text[: MAX_MESSAGE_CHARS - 1] + "…"
    return text or "The download failed."
