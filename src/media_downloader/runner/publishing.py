"""From a verified result in the work folder to published files and their record."""

from pathlib import Path, PurePosixPath

from media_downloader.downloader.protocol import Finished
from media_downloader.jobs.model import Artifact, Job, utc_now
from media_downloader.library import Library, PublishPlan, SourceFile, safe_folder
from media_downloader.netguard import redact_url


def publish(library: Library, workdir: Path, job: Job, finished: Finished) -> tuple[Artifact, ...]:
    """Give every file its final name and write the media record; repeating it changes nothing.

    Blocks on the disk. Raises ``DiskFull`` and ``PathEscapesLibrary``.
    """
    folder = PurePosixPath() if job.options.folder is None else safe_folder(job.options.folder)
    sources = tuple(SourceFile(made.path, Path(made.path).suffix.lstrip("."), made.label) for made in finished.files)
    names = library.publish(workdir, PublishPlan(sources, finished.name, folder))
    artifacts = tuple(
        Artifact(
            name=name,
            size_bytes=made.size_bytes,
            type=made.type,
            role=made.role,
            language=made.language,
            duration_seconds=made.duration_seconds,
            sha256=made.sha256,
        )
        for name, made in zip(names, finished.files, strict=True)
    )
    record = {
        "job_id": job.id,
        "url": redact_url(job.url),
        "media": job.media.model_dump(mode="json"),
        "options": job.options.model_dump(mode="json", exclude_defaults=True),
        "files": [artifact.model_dump(mode="json") for artifact in artifacts],
        "published_at": utc_now().isoformat(),
        **finished.record,
    }
    library.write_record(job.id, record)
    return artifacts
