"""The app over a real store, without anything that runs: jobs are in whatever state a test puts them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from media_downloader.api.app import create_app
from media_downloader.bootstrap import Container, bootstrap
from media_downloader.jobs.model import Artifact, Job, utc_now
from media_downloader.jobs.state import RUNNING, Signal, State
from media_downloader.ports import Change, Claim, NewJobs
from media_downloader.settings import Settings

#: On loopback, and allowed: no name is looked up for it.
LINK = "http://127.0.0.1:9/clip.mp4"


@dataclass
class Face:
    """The HTTP face of a container that was opened and not started."""

    container: Container
    app: FastAPI
    client: httpx2.AsyncClient

    async def job_in(self, state: State, signal: Signal | None = None) -> Job:
        """Return a job that got into a state by legal moves."""
        store = self.container.store
        now = utc_now()
        job = Job(id=uuid4().hex, url=LINK, site="127.0.0.1", created_at=now, updated_at=now)
        await store.add(NewJobs([job]))
        if state in {State.PAUSED, State.CANCELED}:
            await store.change(job.id, Change(state))
        elif state is not State.QUEUED:
            await store.claim(job.id, Claim("test", 600))
            facts = {}
            if state is State.DONE:
                name = f"{job.id}.mp4"
                (self.container.library.downloads_dir / name).write_bytes(b"film")
                facts["artifacts"] = (Artifact(name=name, size_bytes=4, type="video/mp4"),)
            if state is not State.EXTRACTING:
                await store.change(job.id, Change(state, facts))
            if signal is not None:
                await store.send_signal(job.id, signal)
        assert (signal is None) or state in RUNNING
        return await store.get(job.id)


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Face]:
    """Nothing downloads, nothing keeps house."""
    settings = Settings(
        downloads_dir=tmp_path / "downloads", data_dir=tmp_path / "data", allowed_endpoints=("127.0.0.1:9",)
    )
    container = bootstrap(settings)
    settings.data_dir.mkdir()
    container.library.open()
    await container.store.open()
    app = create_app(container)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield Face(container, app, client)
    await container.store.close()
