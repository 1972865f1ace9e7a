"""The whole program against every known way to get inside, in a network namespace that plays the internet.

Nothing is allowed here that a fresh installation does not allow. Addresses that look public are loopback's own, in a
namespace that ends with the test.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.egress_attacks import GOOD_FILE, PUBLIC_IPV6, SECRET, Attack, attacks
from tests.origin.compare import assert_same_media, sha256
from tests.origin.media import Media
from tests.program import ROOT, Job, wait_until

#: One group: they share a namespace.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("egress")]

UNSHARE = ["unshare", *(["--map-root-user"] if os.geteuid() else []), "--net", "--mount"]
UNSHARE += ["--pid", "--fork", "--kill-child", "--mount-proc"]
PATIENT = {"max_concurrent_downloads": 4, "max_per_site": 100, "max_retries": 0, "socket_timeout_seconds": 5}
OPEN = {**PATIENT, "allowed_endpoints": "0.0.0.0/0,::/0"}


def why_impossible() -> str | None:
    """Say why this machine lets us make no namespaces; None when it does."""
    for program in ("unshare", "ip", "mount"):
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    tried = subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no namespaces can be made here: {tried.stderr.strip()}"


class Namespace:
    """The little internet, seen from outside: what is asked of it goes over a pipe."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self.folder = folder

    def ask(self, what: str, *arguments: object) -> Any:
        """Have something done in there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the namespace has ended"
        return json.loads(answer)


class Server:
    """A server in there, asked through the pipe."""

    def __init__(self, namespace: Namespace, name: str, settings: dict[str, object]) -> None:
        self._namespace = namespace
        self._name = name
        self.downloads = Path(namespace.ask("start", name, settings)["downloads"])

    def send(self, requests: list[tuple[str, str, object]]) -> list[dict[str, Any]]:
        """Return status and text of each answer."""
        answers: list[dict[str, Any]] = self._namespace.ask("request", self._name, requests)
        return answers

    def jobs(self) -> dict[str, Job]:
        """Return all jobs by their ids."""
        (answer,) = self.send([("GET", "/jobs?limit=500", None)])
        return {job["id"]: job for job in json.loads(answer["text"])["jobs"]}

    def finish(self) -> dict[str, Job]:
        """Return all jobs by their ids once each has ended."""
        found: dict[str, Job] = {}

        def ended() -> bool:
            found.update(self.jobs())
            return all(job["state"] in {"done", "error", "canceled"} for job in found.values())

        wait_until(ended, "every job to end", 100)
        return found

    def outcomes(self, tried: list[Attack]) -> dict[str, str]:
        """Add every link; return by its name the error of its refusal, or the kind of its job's failure."""
        answers = self.send([("POST", "/jobs", {"url": one.url, "options": dict(one.options)}) for one in tried])
        jobs = self.finish()
        found = {}
        for one, answer in zip(tried, answers, strict=True):
            told = json.loads(answer["text"])
            found[one.name] = f"{answer['status']} {told.get('error')}"
            if answer["status"] == 201:
                job = jobs[told["id"]]
                found[one.name] = (job["failure"] or {"kind": "children" if job["is_playlist"] else "done"})["kind"]
        return found


@pytest.fixture(scope="module")
def namespace(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """One for all tests of this module, ended with everything in it."""
    reason = why_impossible()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("egress")
    command = [*UNSHARE, sys.executable, "-m", "tests.e2e.egress_world", str(folder), str(media.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Namespace(process, folder)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def guarded(namespace: Namespace) -> Server:
    """A server as it is installed."""
    return Server(namespace, "guarded", PATIENT)


def test_what_is_public_is_downloaded(guarded: Server, media: Media) -> None:
    links = {
        GOOD_FILE: media.small,
        f"http://[{PUBLIC_IPV6}]/ipv6/other.mp4": media.other,
        "http://media6.example/redirect=3/small.mp4": media.small,
        "http://media.example/plain/hls/index.m3u8": media.hls_source,
        "http://media.example/plain/hls-aes/index.m3u8": media.hls_source,
        "http://media.example/plain/hls/ffmpeg.m3u8": media.hls_source,
        "http://media.example/plain/dash/index.mpd": media.hls_source,
    }
    added = [json.loads(answer["text"]) for answer in guarded.send([("POST", "/jobs", {"url": url}) for url in links])]
    jobs = guarded.finish()
    for job, expected in zip((jobs[one["id"]] for one in added), links.values(), strict=True):
        assert job["state"] == "done", job
        path = guarded.downloads / job["artifacts"][0]["name"]
        if expected == media.hls_source:
            assert_same_media(path, expected)
        else:
            assert sha256(path) == sha256(expected)


def test_no_attack_gets_inside(namespace: Namespace, guarded: Server) -> None:
    tried = attacks()
    found = guarded.outcomes(tried)
    asked = guarded.send([("POST", "/info", {"url": one.url}) for one in tried])
    came = namespace.ask("inside")
    assert came == {"connections": 0, "lines": []}, found
    wrong = {
        one.name: found[one.name]
        for one in tried
        if found[one.name] not in {*one.kinds, "403 url_blocked", "422 url_blocked"}
    }
    assert wrong == {}
    assert {answer["status"] for answer in asked} <= {200, 403, 422}
    logs = (namespace.folder / "guarded" / "data" / "job-logs").iterdir()
    assert [log for log in logs if "Retrying" in log.read_text()] == [], "what is blocked is asked for once"
    written = [path for path in namespace.folder.rglob("*") if path.is_file()]
    assert len(written) > 3
    assert [path for path in written if SECRET in path.read_bytes()] == []


def test_the_attacks_would_get_inside_if_they_were_allowed(namespace: Namespace) -> None:
    """What the test above is worth."""
    before = len(namespace.ask("inside")["lines"])
    tried = [one for one in attacks() if one.arrives]
    Server(namespace, "open", OPEN).outcomes(tried)
    lines = namespace.ask("inside")["lines"][before:]
    missed = [one.name for one in tried if not any(f"/{one.name}/" in line for line in lines)]
    assert missed == []
