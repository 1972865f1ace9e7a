"""Where in the bucket a job's file is. No I/O."""


def object_key(prefix: str, job_id: str, name: str) -> str:
    """Return the key of a published file: below its job's id, so that no two jobs ever share or overwrite one."""
    folder = prefix.strip("/")
    return f"{folder}/{job_id}/{name}" if folder else f"{job_id}/{name}"
