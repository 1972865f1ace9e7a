"""Machines whose clocks are wrong: only the clock of Redis decides what is due, whose lease is out, and what is old."""

import ast
from pathlib import Path

import pytest

import media_downloader
from tests.chaos.conftest import SLOW, StartCluster, right, started
from tests.cluster import WorkerProcess
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import ROOT, wait_until

pytestmark = pytest.mark.chaos

TEN_MINUTES = 600
#: Where a machine's own wall clock may be read, and why it decides nothing that machines share.
WALL_CLOCK = {
    "bus/memory.py": "one process",
    "cli/render.py": "shown to a person",
    "downloader/download_task.py": "the moment that a link names at which it ends",
    "downloader/problems.py": "the moment that a server named for a retry, made into seconds at once",
    "downloader/resume.py": "a folder without files",
    "jobs/model.py": "the function itself",
    "library/library.py": "scraps of a day",
    "library/outbox.py": "when the volume does not tell its own",
    "objects/s3.py": "what a signature bears; the store refuses a wrong one",
    "runner/publishing.py": "written into the record of a file",
    "stores/sqlite_clock.py": "one machine",
    "stores/sqlite_file.py": "the name of a copy",
}


def test_no_other_code_reads_the_clock_of_its_machine() -> None:
    folder = Path(str(media_downloader.__file__)).parent
    readers = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"utc_now", "time.time", "time.time_ns", "datetime.now", "datetime.utcnow"}
    }
    assert readers == set(WALL_CLOCK)


def test_workers_are_ten_minutes_early_and_late(cluster: StartCluster, origin: Origin, media: Media) -> None:
    many = cluster(workers=0, slots=1, max_retries=3)
    shifted = {"PYTHONPATH": str(ROOT / "tests" / "shifted_clock")}
    early = many.add_worker(**shifted, SHIFTED_SECONDS=str(TEN_MINUTES))
    late = many.add_worker(**shifted, SHIFTED_SECONDS=str(-TEN_MINUTES))
    many.wait_workers(2)
    # One on each: what fails is tried again after a moment, neither at once for ever nor in ten minutes.
    failing = [
        many.server.add(origin.url("small.mp4", f"status=503,times=1,{name}"), options={"output_template": name})["id"]
        for name in ("one", "two")
    ]
    for job_id in failing:
        assert many.server.wait_done(job_id, 30)["attempt"] == 2
    assert _ran(early, failing) | _ran(late, failing) == set(failing)
    for job_id in failing:
        many.server.answer(many.server.client.delete(f"/jobs/{job_id}?files=true"), 200)
    # The lease of a worker that dies is neither over before its time nor ten minutes long.
    job_id = started(many.server, origin, SLOW)
    victim, heir = (early, late) if _ran(early, [job_id]) else (late, early)
    victim.kill()
    assert many.server.get(job_id)["state"] == "downloading"
    wait_until(lambda: _ran(heir, [job_id]), "the other worker to take the job over", 30)
    right(many, job_id, media)
    assert many.server.get(job_id)["attempt"] == 2


def _ran(worker: WorkerProcess, job_ids: list[str]) -> set[str]:
    """Return which of the jobs the worker has begun."""
    log = worker.log()
    return {job_id for job_id in job_ids if f"Starting job {job_id}" in log}
