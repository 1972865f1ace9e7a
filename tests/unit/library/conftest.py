"""Downloads folders on every kind of filesystem that a publish must know."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from media_downloader.library import kernel


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads"


@pytest.fixture(params=["rename", "link", "placeholder"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the filesystem can: a kernel that refuses a call is played, as none of them can be mounted everywhere."""

    def refuse(code: int) -> Callable[..., None]:
        def refused(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        return refused

    if request.param != "rename":
        monkeypatch.setattr(kernel, "rename_without_replacing", refuse(errno.EINVAL))
    if request.param == "placeholder":
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    return str(request.param)


@pytest.fixture(params=["same filesystem", "another filesystem"])
def work(request: pytest.FixtureRequest, root: Path) -> Iterator[Path]:
    """Where work folders are."""
    if request.param == "same filesystem":
        yield root
        return
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == root.stat().st_dev:
        pytest.skip("There is only one filesystem here.")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
