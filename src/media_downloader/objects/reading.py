"""Reading from the bucket through obstore: the only module that knows it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from media_downloader.errors import ConfigurationError, StorageUnavailable
from media_downloader.objects.problems import explain

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential, S3Store

#: Pieces in which an object is passed on, as for local files.
PIECE_BYTES = 1024 * 1024
#: Long enough for a big file to a slow browser; the connection itself must come in time.
CLIENT: "ClientConfig" = {"timeout": "1 day", "connect_timeout": "10s", "read_timeout": "60s", "allow_http": True}
RETRY_SECONDS = 10


@dataclass(frozen=True)
class ObjectFacts:
    """What is told of an object to whoever reads it."""

    size_bytes: int
    etag: str
    modified_at: datetime


def require_obstore() -> None:
    """Raise ``ConfigurationError`` when the extra is not installed."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "MEDIA_DOWNLOADER_S3_BUCKET needs the extra s3, which is not installed: "
            'pip install "media-downloader[s3]", or unset the bucket.'
        ) from None


class Reader:
    """One bucket. Raises ``StorageUnavailable``; an object that is not there is None."""

    def __init__(self, endpoint: str, bucket: str, region: str, access_key_id: str, secret_access_key: str) -> None:
        self._endpoint, self._bucket, self._region = endpoint, bucket, region
        self._keys = (access_key_id, secret_access_key)
        self._made: S3Store | None = None

    def _store(self) -> "S3Store":
        if self._made is None:
            from obstore.store import S3Store

            # Said outright, and the keys by a function: what the environment tells other programs (AWS_SESSION_TOKEN)
            # must not be mixed with our settings.
            self._made = S3Store(
                self._bucket,
                endpoint=self._endpoint,
                region=self._region,
                credential_provider=self._credentials,
                skip_signature=False,
                virtual_hosted_style_request=False,
                client_options=CLIENT,
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            )
        return self._made

    def _credentials(self) -> "S3Credential":
        access_key_id, secret_access_key = self._keys
        return {
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
            "token": None,
            "expires_at": None,
        }

    async def head(self, key: str) -> ObjectFacts | None:
        """Return an object's facts."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            found = await obstore.head_async(self._store(), key)
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise StorageUnavailable(explain(_kind(error), self._bucket)) from None
        return ObjectFacts(found["size"], found["e_tag"] or "", found["last_modified"])

    async def pieces(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a range as they come in."""
        import obstore
        from obstore.exceptions import BaseError

        if start >= stop:
            return
        try:
            result = await obstore.get_async(self._store(), key, options={"range": (start, stop)})
            async for piece in result.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError:
            raise StorageUnavailable("Object storage: the object is gone.") from None
        except BaseError as error:
            raise StorageUnavailable(explain(_kind(error), self._bucket)) from None


def _kind(error: Exception) -> str:
    """Return what ``explain`` knows. The error's own text holds addresses, and is dropped."""
    name = type(error).__name__
    return {"PermissionDeniedError": "403", "UnauthenticatedError": "403"}.get(name, name)
