"""The places in yt-dlp where a stream's list of fragments is known, and where each fragment is about to be fetched."""

from pathlib import Path
from typing import Any

from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.ism import IsmFD
from yt_dlp.utils import parse_http_range

from media_downloader.downloader.fragments import SECONDS_KEY, StreamPlan, seconds_of_playlist
from media_downloader.downloader.guarded import CHANGED, PROVING_KEY, GuardedYoutubeDL, Part
from media_downloader.downloader.problems import ContentChanged


def guard_fragments() -> None:
    """Have every fragmented download show its list of fragments before the first one is fetched, and each of them then.

    These are the seams between "the manifest was read" and "fragments come in" (yt_dlp/downloader/fragment.py).
    A live stream's list has no end and cannot be resumed; it is let through as it is.
    """
    _guard_lists()
    _guard_each_fragment()
    _guard_playlists()


def _guard_lists() -> None:
    original, smooth = FragmentFD.download_and_append_fragments, IsmFD.real_download

    def listed(self: Any, ctx: dict[str, Any], fragments: Any, info_dict: dict[str, Any], **more: Any) -> Any:
        if not ctx.get("live") and isinstance(self.ydl, GuardedYoutubeDL):
            fragments = list(fragments)
            self.ydl.pin_fragments(Path(ctx["filename"]).name, StreamPlan.of(fragments, info_dict))
        return original(self, ctx, fragments, info_dict, **more)

    def smooth_listed(self: Any, filename: str, info_dict: dict[str, Any]) -> Any:
        if isinstance(self.ydl, GuardedYoutubeDL):
            # This one goes through its list by itself, and counts its files from 0.
            found = [{"frag_index": index, "url": part["url"]} for index, part in enumerate(info_dict["fragments"])]
            self.ydl.pin_fragments(Path(filename).name, StreamPlan.of(found, info_dict))
        return smooth(self, filename, info_dict)

    FragmentFD.download_and_append_fragments = listed
    IsmFD.real_download = smooth_listed


def _guard_each_fragment() -> None:
    original = FragmentFD._download_fragment

    def one(self: Any, ctx: dict[str, Any], frag_url: str, info_dict: dict[str, Any], *more: Any, **named: Any) -> Any:
        if ctx.get("live") or not isinstance(self.ydl, GuardedYoutubeDL):
            return original(self, ctx, frag_url, info_dict, *more, **named)
        headers = (more[0] if more else named.get("headers")) or {}
        start, end, _ = parse_http_range(headers.get("Range"))
        part = Part(Path(ctx["filename"]).name, int(ctx["fragment_index"]), start, end)
        with self.ydl.fetching(part):
            return original(self, ctx, frag_url, info_dict, *more, **named)

    FragmentFD._download_fragment = one


def _guard_playlists() -> None:
    original = HlsFD.can_download.__func__

    def can_download(cls: Any, manifest: str, info_dict: dict[str, Any], *more: Any, **named: Any) -> Any:
        info_dict[SECONDS_KEY] = seconds_of_playlist(manifest)
        can = original(cls, manifest, info_dict, *more, **named)
        if not can and info_dict.get(PROVING_KEY):
            raise ContentChanged(CHANGED)
        return can

    HlsFD.can_download = classmethod(can_download)
