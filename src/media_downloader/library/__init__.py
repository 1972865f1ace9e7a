"""Where files live: confinement, names, publishing, serving, deleting. Blocking: call it from a thread."""

from media_downloader.library.files import INLINE_TYPES, OpenFile, content_disposition, inline_type
from media_downloader.library.library import FolderFacts, Library, OldFiles
from media_downloader.library.names import safe_folder, safe_name
from media_downloader.library.publishing import PublishPlan, SourceFile
from media_downloader.library.workdirs import LOCAL_PREFIX, SHARED_PREFIX, Orphan

__all__ = [
    "INLINE_TYPES",
    "LOCAL_PREFIX",
    "SHARED_PREFIX",
    "FolderFacts",
    "Library",
    "OldFiles",
    "OpenFile",
    "Orphan",
    "PublishPlan",
    "SourceFile",
    "content_disposition",
    "inline_type",
    "safe_folder",
    "safe_name",
]
