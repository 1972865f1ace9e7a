"""What an answer says of the file that it is of, and whether two answers can be of the same one."""

from email.utils import parsedate_to_datetime

from pydantic import BaseModel, ConfigDict
from yt_dlp.networking import Response
from yt_dlp.utils import parse_http_range

#: A date is a strong validator when the file was at rest for so long before it was sent (RFC 9110 section 8.8.2.2).
STRONG_DATE_SECONDS = 60


class Validators(BaseModel):
    """Strong validators (RFC 9110 section 8.8) and the length of the whole file, as far as they were told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    etag: str | None = None
    last_modified: str | None = None
    total_bytes: int | None = None

    @classmethod
    def of(cls, response: Response) -> "Validators":
        """Return what an answer tells; a weak tag and a young date prove nothing."""
        etag = response.headers.get("ETag")
        return cls(
            etag=etag if etag and not etag.startswith("W/") else None,
            last_modified=_strong_date(response),
            total_bytes=whole_length(response),
        )

    @property
    def condition(self) -> str | None:
        """Return what goes into If-Range: a strong ETag, else a strong date."""
        return self.etag or self.last_modified

    def compare(self, now: "Validators") -> bool | None:
        """Say whether a later answer is of the same file; None when only its bytes could tell."""
        if None not in (self.total_bytes, now.total_bytes) and self.total_bytes != now.total_bytes:
            return False
        if self.etag is not None and now.etag is not None:
            return self.etag == now.etag
        if self.last_modified is not None and now.last_modified is not None:
            return self.last_modified == now.last_modified
        return None


def same_file(then: Validators, response: Response) -> bool:
    """Say whether a whole answer is of the file, as far as its validators tell."""
    if then.etag is not None:
        return bool(response.headers.get("ETag") == then.etag)
    if then.last_modified is not None:
        return bool(response.headers.get("Last-Modified") == then.last_modified)
    return then.total_bytes == whole_length(response)


def same_part(then: Validators, response: Response) -> bool:
    """Say whether a partial answer is of the file: a server may ignore If-Range, so look for ourselves."""
    etag = response.headers.get("ETag")
    if then.etag is not None and etag is not None and etag != then.etag:
        return False
    date = response.headers.get("Last-Modified")
    if then.etag is None and date is not None and date != then.last_modified:
        return False
    _, _, total = parse_http_range(response.headers.get("Content-Range"))
    return then.total_bytes is None or total is None or total == then.total_bytes


def whole_length(response: Response) -> int | None:
    """Return the length of the whole file, of which the answer may hold a part."""
    _, _, total = parse_http_range(response.headers.get("Content-Range"))
    if total is not None:
        return int(total)
    length = response.headers.get("Content-Length")
    if response.headers.get("Content-Encoding") or length is None or not length.isdigit():
        return None
    return int(length)


def _strong_date(response: Response) -> str | None:
    try:
        modified: str = response.headers["Last-Modified"]
        sent = parsedate_to_datetime(response.headers["Date"])
        rested = (sent - parsedate_to_datetime(modified)).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return modified if rested >= STRONG_DATE_SECONDS else None
