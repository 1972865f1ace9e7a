"""yt-dlp that tells no site the secrets of another's link in a Referer header."""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from yt_dlp import YoutubeDL
from yt_dlp.networking import Request

from media_downloader.netguard import redact_url


class ReticentYoutubeDL(YoutubeDL):  # type: ignore[misc] # yt-dlp has no types
    """yt-dlp takes the whole link of a page for the Referer of its media: user, password, token and all."""

    def urlopen(self, req: Any) -> Any:
        """Open a URL."""
        if isinstance(req, Request):
            shorten_referer(req.headers, req.url)
        return super().urlopen(req)


def shorten_referer(headers: MutableMapping[str, str], url: str) -> None:
    """Rewrite the Referer among the headers of a request for the URL, if there is one."""
    for name in [name for name in headers if name.lower() == "referer"]:
        headers[name] = told_referer(headers[name], url)


def told_referer(referer: str, url: str) -> str:
    """Return what a request may tell of the page that led to it: never a user, a password or a fragment (RFC 9110
    section 10.1.3), and to another host no query that holds a secret.
    """
    try:
        page, target = urlsplit(referer), urlsplit(url)
        bare = urlunsplit((page.scheme, page.netloc.rpartition("@")[2], page.path, page.query, ""))
        if page.hostname != target.hostname and redact_url(bare) != bare:
            bare = urlunsplit((page.scheme, page.netloc.rpartition("@")[2], "/", "", ""))
    except ValueError:
        return ""
    return bare
