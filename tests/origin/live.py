"""A live stream: an HLS playlist that grows by a segment a second until it ends, and then is gone or stays."""

import time

from tests.origin.media import HLS_SECONDS
from tests.origin.server import Origin

#: Segments that the playlist names at once.
WINDOW = 5
PATH = "hls/live.m3u8"


class LiveStream:
    """One stream of an origin. It repeats the segments of the plain HLS stream for as long as it lasts."""

    def __init__(self, origin: Origin) -> None:
        self._began = time.monotonic()
        self._last: int | None = None
        self._gone = False
        origin.pages[PATH] = self._playlist

    def end(self) -> None:
        """Let the playlist say that nothing more comes."""
        self._last = self._segments()

    def vanish(self) -> None:
        """Take the stream away, as sites do once it is over: 404."""
        self._gone = True

    def _segments(self) -> int:
        """Return how many segments there have been so far."""
        now = WINDOW + int(time.monotonic() - self._began)
        return now if self._last is None else self._last

    def _playlist(self) -> bytes | None:
        if self._gone:
            return None
        count = self._segments()
        first = max(0, count - WINDOW)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            "#EXT-X-TARGETDURATION:1",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{max(0, (first - 1) // HLS_SECONDS)}",
        ]
        for number in range(first, count):
            if number and number % HLS_SECONDS == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            lines += ["#EXTINF:1.0,", f"seg{number % HLS_SECONDS:03d}.ts"]
        if self._last is not None:
            lines.append("#EXT-X-ENDLIST")
        return ("\n".join(lines) + "\n").encode()
