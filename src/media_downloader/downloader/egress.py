"""The ways out of a download process that do not lead over Python's sockets: libcurl's and ffmpeg's."""

import functools
from typing import Any

from yt_dlp.downloader.external import FFmpegFD

# A private name, but the one seam through which every YoutubeDL of a process takes its handlers.
from yt_dlp.networking.common import _REQUEST_HANDLERS
from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError

from media_downloader.downloader.problems import UnsupportedProtocol
from media_downloader.netguard import BlockedAddress, EgressProxy

try:
    from yt_dlp.networking import _curlcffi as curl
except ImportError:  # the extra `impersonate` is not installed, or is of a version that yt-dlp refuses
    curl = None

#: Handlers whose every connection is one of Python's sockets, which the socket guard judges.
GUARDED_HANDLERS = frozenset({"Urllib", "Requests", "Websockets"})
LIBCURL = "CurlCFFI"


def confine_request_handlers() -> None:
    """Drop every handler of this process whose connections the socket guard does not see, ones yet unknown included."""
    for key in set(_REQUEST_HANDLERS) - GUARDED_HANDLERS:
        del _REQUEST_HANDLERS[key]


def route_libcurl(proxy: EgressProxy) -> None:
    """Let libcurl, and with it impersonation, be used in this process: through the proxy and in no other way."""
    confine_request_handlers()
    if curl is not None:
        _REQUEST_HANDLERS[LIBCURL] = functools.partial(_libcurl_handler(), egress=proxy)


def keep_ffmpeg_off_the_network() -> None:
    """Refuse what only ffmpeg could download: on this machine, nothing holds it to the proxy.

    The proxy of its environment is not enough. A playlist can name a segment ``httpproxy://10.0.0.1:80/``, which ffmpeg
    connects to by itself, and that protocol cannot be forbidden: ffmpeg reaches our own proxy for https by it.
    """

    def refuse(self: Any, filename: str, info_dict: dict[str, Any]) -> bool:
        raise UnsupportedProtocol(
            "This stream can only be downloaded by ffmpeg, which this machine cannot confine to safe addresses "
            "(that takes Linux 6.7 or newer, with Landlock)."
        )

    FFmpegFD.real_download = refuse


def _libcurl_handler() -> Any:
    class EgressCurlCFFIRH(curl.CurlCFFIRH):  # type: ignore[misc] # yt-dlp has no types
        """libcurl with one way out, whatever a request, an extractor or the environment says of proxies."""

        def __init__(self, *, egress: EgressProxy, **more: Any) -> None:
            self._egress = egress
            super().__init__(**more)

        def _get_proxies(self, request: Any) -> dict[str, str]:
            return {"all": self._egress.url}

        def _create_instance(self, cookiejar: Any = None) -> Any:
            # Options of the session are set last, so they win over all others. Unless NOPROXY is set, libcurl takes it
            # from the environment, also beside a proxy that was set by hand.
            options = {
                curl.CurlOpt.PROXY: self._egress.url,
                curl.CurlOpt.NOPROXY: "",
                curl.CurlOpt.PROTOCOLS_STR: "http,https",
                curl.CurlOpt.REDIR_PROTOCOLS_STR: "http,https",
            }
            return curl.curl_cffi.requests.Session(cookies=cookiejar, curl_options=options, trust_env=False)

        def _send(self, request: Any) -> Any:
            refused = len(self._egress.blocked)
            try:
                return super()._send(request)
            except RequestError as error:
                if len(self._egress.blocked) == refused:
                    raise
                # To an extractor, the proxy's 403 would be an answer of the site.
                if isinstance(error, HTTPError):
                    error.close()
                blocked = BlockedAddress(self._egress.blocked[-1], "refused by the egress proxy")
                raise TransportError(cause=blocked) from blocked

    return EgressCurlCFFIRH
