"""What a store's refusal means, in words that say what to do; never with a key or an address in it. No I/O."""

from media_downloader.settings import PREFIX

_KEYS = f"{PREFIX}S3_ACCESS_KEY_ID and {PREFIX}S3_SECRET_ACCESS_KEY"


def explain(code: str, bucket: str) -> str:
    """Return a sentence for S3's error code, an HTTP status or the name of a transport error."""
    known = {
        "InvalidAccessKeyId": f"the store does not know the access key. Check {_KEYS}.",
        "SignatureDoesNotMatch": f"the store refuses the secret key. Check {_KEYS}.",
        "AccessDenied": (
            f'the access key may not do this in the bucket "{bucket}": it must read, write, list and delete.'
        ),
        "403": f'the store refuses the access key or the bucket "{bucket}". Check {_KEYS}.',
        "NoSuchBucket": f'there is no bucket "{bucket}". Make it, or check {PREFIX}S3_BUCKET.',
        "AuthorizationHeaderMalformed": f"the bucket is in another region. Check {PREFIX}S3_REGION.",
        "PermanentRedirect": f"the bucket is in another region. Check {PREFIX}S3_REGION.",
        "RequestTimeTooSkewed": "the clocks of this machine and of the store differ too much.",
        "BadDigest": "what arrived there is not what was sent; it is sent again.",
        "XAmzContentSHA256Mismatch": "what arrived there is not what was sent; it is sent again.",
    }
    if code in known:
        return f"Object storage: {known[code]}"
    if code.isdecimal() or code in {"InternalError", "SlowDown", "ServiceUnavailable"}:
        return f"Object storage: the store does not work now ({code})."
    if code.endswith(("Error", "Timeout")):
        return f"Object storage: the endpoint cannot be reached ({code}). Check {PREFIX}S3_ENDPOINT."
    return f"Object storage: the store refuses ({code})."
