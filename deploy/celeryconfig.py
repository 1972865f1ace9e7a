"""Where Celery's own tools (inspect, control, Flower) find the workers. Servers and workers do not read this."""

import os
import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_parts = urlsplit(os.environ.get("CELERY_BROKER_URL") or os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0")
_query = dict(parse_qsl(_parts.query))
# As in media_downloader.engines.broker_address, which is not there where Flower runs: certificates are verified.
broker_url = urlunsplit(_parts)
if _parts.scheme == "unix":
    broker_url = f"redis+socket://{_parts.netloc}{_parts.path}?virtual_host={_query.get('db', '0')}"
elif _parts.scheme in {"rediss", "valkeys"}:
    _checked = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true", **_query}
    broker_url = urlunsplit(_parts._replace(query=urlencode(_checked, safe="/")))
_is_amqp = _parts.scheme.startswith(("amqp", "pyamqp"))

broker_use_ssl = (
    {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": _parts.hostname}
    if _parts.scheme in {"amqps", "pyamqps"}
    else None
)
# The program keeps the broker's keys apart from its jobs by this prefix; a tool without it sees no worker.
broker_transport_options = {} if _is_amqp else {"global_keyprefix": "media_downloader:broker:"}
accept_content = ["json"]
result_backend = None
