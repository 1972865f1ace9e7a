"""One address of a broker as people write it to the one that Celery's transports understand, safe by default."""

import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

#: Addresses of RabbitMQ.
AMQP = ("amqp", "pyamqp")


def is_amqp(url: str) -> bool:
    """Say whether the broker is RabbitMQ, or another that speaks AMQP."""
    return urlsplit(url).scheme.startswith(AMQP)


def broker_address(url: str) -> str:
    """Return the address for Celery.

    ``unix://`` is ``redis+socket://`` there. A certificate is verified unless the address says otherwise: kombu takes
    any for ``rediss://`` (CERT_NONE), and whoever answers would be told the password.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={query.get('db', '0')}"
    if parts.scheme in {"rediss", "valkeys"}:
        checked = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true", **query}
        return urlunsplit(parts._replace(query=urlencode(checked, safe="/")))
    return url


def broker_tls(url: str) -> dict[str, object] | None:
    """Return what Celery is told of TLS beside the address: py-amqp compares no host's name by itself."""
    if urlsplit(url).scheme not in {"amqps", "pyamqps"}:
        return None
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(url).hostname}
