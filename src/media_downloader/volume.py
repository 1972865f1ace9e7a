"""Ties a store that machines share to the volume of its files: one random id in both.

A mount that failed leaves an empty folder which looks like a volume. Who sees another volume than the other members
would publish where nobody finds it, and take for lost, or for orphans, what is only somewhere else.
"""

import asyncio
import time

from media_downloader.errors import ConfigurationError
from media_downloader.library import Library
from media_downloader.library.volume import IN_USE_SECONDS
from media_downloader.ports import JobStore

#: How long a volume that is in use may keep a store that knows of none waiting: more than its members need to tell.
PATIENCE_SECONDS = IN_USE_SECONDS + 5.0
LOOK_SECONDS = 0.5


async def open_volume(store: JobStore, library: Library) -> None:
    """Prove that the downloads folder is the volume of the store's members, or tie a store that has none to it.

    Raises ``ConfigurationError``. Store and library must be open; a library of one machine needs no proof.
    """
    if library.volume is None:
        return
    known = await store.volume()
    if known is None:
        await _until_store_is_told(store, library)
        # The mark comes first: whoever is told of the id must find it.
        made = await asyncio.to_thread(library.volume.make)
        known = await store.volume(made)
    await _must_be(library, known)
    if known is not None:
        await asyncio.to_thread(library.volume.keep_only, known)


async def check_volume(store: JobStore, library: Library) -> None:
    """Prove the same again while it is open: it may be unmounted, and the store lost. Raises ``ConfigurationError``.

    A store that was lost is told of the volume again by who still sees it. Nobody makes a mark here.
    """
    if library.volume is None:
        return
    is_there = await asyncio.to_thread(library.is_present)
    known = await store.volume(library.volume.expected if is_there else None)
    await _must_be(library, known)
    await asyncio.to_thread(library.volume.touch)


async def _until_store_is_told(store: JobStore, library: Library) -> None:
    """Give members whose store was lost the time to name the volume; those of another store never will in this one."""
    assert library.volume is not None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while await store.volume() is None and await asyncio.to_thread(library.volume.is_in_use):
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"Servers or workers whose jobs are in another Redis use the downloads folder {library.downloads_dir}. "
                "Set YTDLP_OUTPUT_PATH to another folder, or REDIS_URL to their Redis."
            )
        await asyncio.sleep(LOOK_SECONDS)


async def _must_be(library: Library, known: str | None) -> None:
    assert library.volume is not None
    library.volume.expected = known or library.volume.expected
    if await asyncio.to_thread(library.is_present):
        return
    found = await asyncio.to_thread(library.volume.found)
    bears = f"bears the mark of {', '.join(found)}" if found else "bears no mark, as a folder does that is not mounted"
    raise ConfigurationError(
        f"This is not the volume of the other members: the jobs in Redis belong to the volume "
        f"{library.volume.expected}, and {library.downloads_dir} {bears}. Mount their volume there, or let "
        "YTDLP_OUTPUT_PATH name it. Was the volume replaced on purpose? Then stop all servers and workers, "
        "run redis-cli DEL jobs:volume, and start them again."
    )
