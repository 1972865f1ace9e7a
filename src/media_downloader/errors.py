"""Every error that is raised on purpose; each carries its public code and, where it can reach HTTP, its status."""

from collections.abc import Mapping
from typing import Any, ClassVar


class MediaDownloaderError(Exception):
    """Root of all errors raised on purpose.

    ``code`` is public API: clients branch on it, so it never changes its meaning.
    ``facts`` go into the error body beside ``error`` and ``detail``.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts: Mapping[str, Any] = facts


# --- what a request asked for cannot be accepted ---------------------------------------------------------------------


class RequestError(MediaDownloaderError):
    """The request itself is at fault."""

    code = "invalid_request"
    status = 422


class MalformedRequest(RequestError):
    """The body is not JSON, or not in the encoding that it says."""

    code = "malformed_request"
    status = 400


class InvalidUrl(RequestError):
    """The link is no http or https URL that could be fetched."""

    code = "invalid_url"


class UrlBlocked(RequestError):
    """The link leads to an address that may not be reached from here."""

    code = "url_blocked"
    status = 403


class OptionRejected(RequestError):
    """An option of a job is unknown, malformed or not allowed."""

    code = "option_rejected"


class AllRejected(RequestError):
    """Not one of the links of a batch was accepted."""

    code = "all_rejected"


class IdempotencyConflict(RequestError):
    """The Idempotency-Key was used before, for another request."""

    code = "idempotency_conflict"
    status = 409


class InvalidCursor(RequestError):
    """A cursor that this server did not give out."""

    code = "invalid_cursor"


class BodyTooLarge(RequestError):
    """The body is longer than any real request."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(RequestError):
    """Writes are JSON only, so that no HTML form of another site can make one."""

    code = "unsupported_media_type"
    status = 415


class HostNotAllowed(RequestError):
    """The Host header names no address of this server (DNS rebinding)."""

    code = "host_not_allowed"
    status = 421


class OriginNotAllowed(RequestError):
    """A page of another site made this request (CSRF)."""

    code = "origin_not_allowed"
    status = 403


class NotFound(RequestError):
    """No such route."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The route exists, but not with this method."""

    code = "method_not_allowed"
    status = 405


class ProbeFailed(RequestError):
    """The link could not be looked at; ``kind`` says why, as a job's failure would."""

    code = "probe_failed"
    status = 422


class ProbeBusy(RequestError):
    """As many links as allowed are being looked at already."""

    code = "probe_busy"
    status = 429


# --- jobs ------------------------------------------------------------------------------------------------------------


class JobError(MediaDownloaderError):
    """What was asked of a job does not fit it."""

    code = "job_error"
    status = 409


class JobNotFound(JobError):
    """No job has this id."""

    code = "job_not_found"
    status = 404


class JobExpired(JobError):
    """The job has left the list; ``files`` names what it made."""

    code = "job_expired"
    status = 410


class InvalidTransition(JobError):
    """The action does not apply in the job's state, which ``state`` names."""

    code = "invalid_transition"


class JobUnreadable(JobError):
    """Another version of the program wrote this job; it is kept as it is, and nothing can be done to it here."""

    code = "job_unreadable"


class ClaimRefused(JobError):
    """The job cannot be claimed now: taken, not due, paused, or its site is at its limit."""

    code = "claim_refused"


class LeaseLost(JobError):
    """The attempt that wrote is no longer the one that holds the job."""

    code = "lease_lost"


# --- files -----------------------------------------------------------------------------------------------------------


class LibraryError(MediaDownloaderError):
    """A file cannot be had."""

    code = "library_error"
    status = 404


class NoFileYet(LibraryError):
    """The job has not made a file (yet)."""

    code = "no_file"
    status = 409


class FileMissing(LibraryError):
    """The file is no longer where it was put; ``folder_files`` names what is."""

    code = "file_missing"
    status = 404


class PathEscapesLibrary(LibraryError):
    """A path leads out of the downloads folder."""

    code = "path_escapes_library"
    status = 403


class DiskFull(LibraryError):
    """The disk has too little room for what was asked."""

    code = "disk_full"
    status = 507


class RangeNotSatisfiable(LibraryError):
    """No byte of the file is in the range that was asked for; ``size_bytes`` says how many there are."""

    code = "range_not_satisfiable"
    status = 416


# --- what the program stands on --------------------------------------------------------------------------------------


class BackendError(MediaDownloaderError):
    """Something that the program stands on is not there."""

    code = "backend_error"
    status = 503


class StoreUnavailable(BackendError):
    """The store cannot be reached or written."""

    code = "store_unavailable"


class StoreTooNew(BackendError):
    """A newer version of the program wrote this store; this one must not touch it."""

    code = "store_too_new"


class EngineUnavailable(BackendError):
    """Nothing can run downloads now."""

    code = "engine_unavailable"


class DownloaderUnavailable(BackendError):
    """Download processes cannot be started."""

    code = "downloader_unavailable"


class StorageUnavailable(BackendError):
    """The object storage cannot be reached, or refuses."""

    code = "storage_unavailable"


class ConfigurationError(MediaDownloaderError):
    """A setting has a value that the program cannot work with."""

    code = "configuration_error"
