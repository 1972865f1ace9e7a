"""Which addresses may be reached: at submit, at every connect, and through the filtering proxy."""

from media_downloader.netguard.addresses import IPAddress, IPNetwork, is_private, is_public, why_not_public
from media_downloader.netguard.gatekeeper import BLOCKED_MARKER, BlockedAddress, Gatekeeper, Resolver
from media_downloader.netguard.policy import Policy
from media_downloader.netguard.proxy import EgressProxy
from media_downloader.netguard.redaction import redact_line, redact_links, redact_text, redact_url
from media_downloader.netguard.sockets import install_socket_guard
from media_downloader.netguard.urls import ParsedUrl, check_url, parse_url, resolve_and_check, site_of

__all__ = [
    "BLOCKED_MARKER",
    "BlockedAddress",
    "EgressProxy",
    "Gatekeeper",
    "IPAddress",
    "IPNetwork",
    "ParsedUrl",
    "Policy",
    "Resolver",
    "check_url",
    "install_socket_guard",
    "is_private",
    "is_public",
    "parse_url",
    "redact_line",
    "redact_links",
    "redact_text",
    "redact_url",
    "resolve_and_check",
    "site_of",
    "why_not_public",
]
