"""Our signatures are those that others compute, who have nothing of ours."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from obstore.store import S3Store

from media_downloader.objects.signing import Signer, path_of, query_string

KEYS = ("AKIAEXAMPLE", "a/secret+key")
SIGNER = Signer(*KEYS, "eu-central-1")
NAMES = ["plain.mp4", "ünï # 100% [x]*?~ (2)'&+=.mp4", "a b/c  d.mkv", "日本.webm"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("query", [{}, {"uploads": ""}, {"partNumber": "2", "uploadId": "a+b/c=="}])
def test_a_request_is_signed_as_botocore_does(name: str, query: dict[str, str]) -> None:
    url = f"https://store.example:9000/bucket/{path_of(name)}" + (f"?{query_string(query)}" if query else "")
    ours = SIGNER.headers("PUT", url, datetime.now(UTC), "0" * 64, {"x-amz-meta-a": "some  words", "content-md5": "x"})
    signed = ours.pop("authorization")
    request = AWSRequest("PUT", url, headers=ours)
    auth = S3SigV4Auth(Credentials(*KEYS), "s3", "eu-central-1")
    request.context["timestamp"] = ours["x-amz-date"]
    request.context["payload_signing_enabled"] = True
    auth.payload = lambda _: "0" * 64  # type: ignore[method-assign,assignment]
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert signed.rpartition("=")[2] == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_is_signed_as_obstore_does(name: str, method: str) -> None:
    store = S3Store(
        "bucket",
        endpoint="https://store.example:9000",
        region="eu-central-1",
        access_key_id=KEYS[0],
        secret_access_key=KEYS[1],
    )
    theirs = obstore.sign(store, "GET" if method == "GET" else "HEAD", name, timedelta(seconds=90))
    query = parse_qs(urlsplit(theirs).query)
    now = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = SIGNER.link(method, f"https://store.example:9000/bucket/{path_of(name)}", now, 90, {})
    assert parse_qs(urlsplit(ours).query)["X-Amz-Signature"] == query["X-Amz-Signature"]
    assert KEYS[1] not in ours


def test_who_signs_does_not_print_the_secret() -> None:
    assert KEYS[1] not in repr(SIGNER)
