"""The reference pages name every setting, route, error code and kind of failure, and none that is gone."""

import re
from collections.abc import Iterator
from pathlib import Path

from media_downloader import errors
from media_downloader.api.app import create_app
from media_downloader.bootstrap import bootstrap
from media_downloader.jobs.model import FailureKind
from media_downloader.settings import PREFIX, Settings

DOCS = Path(__file__).parents[2] / "docs"
#: Names that operators knew before this program.
KNOWN = {
    "downloads_dir": "YTDLP_OUTPUT_PATH",
    "allowed_origins": "ALLOWED_ORIGINS",
    "redis_url": "REDIS_URL",
    "celery_broker_url": "CELERY_BROKER_URL",
    "worker_concurrency": "CELERY_WORKER_CONCURRENCY",
}


def test_every_setting_has_a_heading_and_no_heading_is_stale() -> None:
    headings = set(re.findall(r"^### `(\w+)`", (DOCS / "configuration.md").read_text(), re.MULTILINE))
    assert headings == {KNOWN.get(name, PREFIX + name.upper()) for name in Settings.model_fields}


def test_every_route_has_a_heading_and_no_heading_is_stale(tmp_path: Path) -> None:
    headings = set(re.findall(r"^### `([A-Z]+ /\S*)`", (DOCS / "api.md").read_text(), re.MULTILINE))
    paths = create_app(bootstrap(Settings(data_dir=tmp_path, downloads_dir=tmp_path))).openapi()["paths"]
    assert headings == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def kinds(kind: type[errors.MediaDownloaderError]) -> Iterator[type[errors.MediaDownloaderError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def test_every_error_and_failure_is_named() -> None:
    text = (DOCS / "api.md").read_text()
    for kind in kinds(errors.MediaDownloaderError):
        assert f"| `{kind.code}` | {kind.status} |" in text
    for failure in FailureKind:
        assert f"- `{failure}`" in text
