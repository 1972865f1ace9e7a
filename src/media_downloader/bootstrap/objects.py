"""Object storage, where a bucket is configured: who has it, and who copies to it."""

from typing import TYPE_CHECKING

from media_downloader.library import Library
from media_downloader.ports import EventBus, JobStore
from media_downloader.settings import Settings

if TYPE_CHECKING:
    from media_downloader.objects import ObjectStorage
    from media_downloader.uploader import Uploader


def with_outbox(settings: Settings, library: Library) -> Library:
    """Have the library note what is to be copied, where files are copied at all."""
    if settings.s3_bucket is not None:
        library.begin_outbox()
    return library


def storage_of(settings: Settings) -> "ObjectStorage | None":
    """Return the bucket, None when there is none. Raises ``ConfigurationError``."""
    if settings.s3_bucket is None:
        return None
    # Only here: nobody else pays for what most installations do not have.
    from media_downloader.objects import object_storage

    return object_storage(settings)


def uploader_of(settings: Settings, store: JobStore, bus: EventBus, library: Library) -> "Uploader | None":
    """Return what copies files, None when there is no bucket. Raises ``ConfigurationError``."""
    storage = storage_of(settings)
    if storage is None:
        return None
    from media_downloader.uploader import Uploader

    return Uploader(settings, store, bus, library, storage)
