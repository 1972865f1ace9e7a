"""Addresses of brokers: what people write, and what Celery and its tools are given."""

import json
import os
import ssl
import subprocess
import sys

import pytest

from media_downloader.engines.broker_address import broker_address, broker_tls
from tests.program import ROOT

ADDRESSES = {
    "redis://user:p%40ss@host:6379/2": "redis://user:p%40ss@host:6379/2",
    "unix:///run/redis.sock": "redis+socket:///run/redis.sock?virtual_host=0",
    "unix://user:p%40ss@/run/redis.sock?db=3": "redis+socket://user:p%40ss@/run/redis.sock?virtual_host=3",
    "rediss://host/0": "rediss://host/0?ssl_cert_reqs=required&ssl_check_hostname=true",
    "rediss://host/0?ssl_ca_certs=/ca.pem": (
        "rediss://host/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=/ca.pem"
    ),
    "rediss://host/0?ssl_cert_reqs=none": "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=true",
    "amqp://user:secret@host//": "amqp://user:secret@host//",
    "amqps://user:secret@host//": "amqps://user:secret@host//",
}


@pytest.mark.parametrize(("written", "given"), ADDRESSES.items())
def test_what_celery_is_given(written: str, given: str) -> None:
    assert broker_address(written) == given


def test_rabbitmq_proves_its_name_too() -> None:
    assert broker_tls("amqps://user:secret@host//") == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "host"}
    assert broker_tls("amqp://host//") is None
    assert broker_tls("rediss://host/0") is None


def test_celerys_own_tools_are_given_the_same() -> None:
    """Their configuration stands alone: the program is not there where Flower runs."""
    program = (
        "import importlib, json, os, celeryconfig as c; told = {}\n"
        "for url in json.loads(os.environ['ADDRESSES']):\n"
        "    os.environ['CELERY_BROKER_URL'] = url\n"
        "    importlib.reload(c); told[url] = [c.broker_url, c.broker_use_ssl]\n"
        "print(json.dumps(told))"
    )
    environment = {"PATH": os.environ["PATH"], "ADDRESSES": json.dumps(list(ADDRESSES))}
    command = [sys.executable, "-B", "-c", program]
    told = subprocess.run(command, cwd=ROOT / "deploy", env=environment, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == {url: [broker_address(url), broker_tls(url)] for url in ADDRESSES}
