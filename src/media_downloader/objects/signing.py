"""AWS Signature Version 4, for requests and for links that work for a while. No I/O."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
#: What a link stands for is not known when it is signed.
_UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class Signer:
    """Who asks, and which region's store."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str

    def headers(
        self, method: str, url: str, now: datetime, content_sha256: str, extra: Mapping[str, str]
    ) -> dict[str, str]:
        """Return all headers of a request, the signature among them; the store checks the body against the hash."""
        parts = urlsplit(url)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        headers = {**extra, "host": parts.netloc, "x-amz-content-sha256": content_sha256, "x-amz-date": stamp}
        signed = ";".join(sorted(headers))
        request = _canonical(method, parts.path, parts.query, headers, content_sha256)
        signature = self._signature(stamp, request)
        told = f"{_ALGORITHM} Credential={self._credential(stamp)}, SignedHeaders={signed}, Signature={signature}"
        return {**headers, "authorization": told}

    def link(self, method: str, url: str, now: datetime, seconds: int, more: Mapping[str, str]) -> str:
        """Return a link that anybody may use for so many seconds."""
        parts = urlsplit(url)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        query = query_string(
            {
                **more,
                "X-Amz-Algorithm": _ALGORITHM,
                "X-Amz-Credential": self._credential(stamp),
                "X-Amz-Date": stamp,
                "X-Amz-Expires": str(seconds),
                "X-Amz-SignedHeaders": "host",
            }
        )
        request = _canonical(method, parts.path, query, {"host": parts.netloc}, _UNSIGNED)
        return f"{url}?{query}&X-Amz-Signature={self._signature(stamp, request)}"

    def _scope(self, stamp: str) -> str:
        return f"{stamp[:8]}/{self.region}/s3/aws4_request"

    def _credential(self, stamp: str) -> str:
        return f"{self.access_key_id}/{self._scope(stamp)}"

    def _signature(self, stamp: str, request: str) -> str:
        text = "\n".join((_ALGORITHM, stamp, self._scope(stamp), hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{self.secret_access_key}".encode()
        for part in (*self._scope(stamp).split("/"), text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key.hex()


def path_of(key: str) -> str:
    """Return a key as it is written in a path: everything but letters, digits and -._~/ escaped."""
    return quote(key, safe="/-._~")


def query_string(parameters: Mapping[str, str]) -> str:
    """Return parameters in the one order and spelling that is signed."""
    pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _canonical(method: str, path: str, query: str, headers: Mapping[str, str], content_sha256: str) -> str:
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    return "\n".join((method, path or "/", query, lines, ";".join(sorted(headers)), content_sha256))
