"""Finished files in S3-compatible object storage. Imported only where a bucket is configured."""

from media_downloader.objects.keys import object_key
from media_downloader.objects.storage import ObjectStorage, StoredObject, object_storage

__all__ = ["ObjectStorage", "StoredObject", "object_key", "object_storage"]
