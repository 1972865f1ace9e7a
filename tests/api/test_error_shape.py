"""Every error has the one body, every code is written down, and every action gives in every state what the map says."""

import asyncio
import contextlib
import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from media_downloader import errors
from media_downloader.bootstrap import bootstrap
from media_downloader.bootstrap.container import DATABASE_NAME
from media_downloader.errors import MediaDownloaderError
from media_downloader.jobs.model import Cooldown, JobEvent, utc_now
from media_downloader.jobs.state import RUNNING, Action, Signal, State
from media_downloader.ports import Change, Envelope
from media_downloader.service import service
from tests.api.conftest import LINK, Face

API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"
UNKNOWN = "0" * 32

#: The map's table. A state: it is in that at once. A signal: a wish for its runner. "so": 200, nothing changes.
#: None: 409.
TABLE: dict[Action, dict[State, State | Signal | str | None]] = {
    Action.PAUSE: {State.QUEUED: State.PAUSED, **dict.fromkeys(RUNNING, Signal.PAUSE), State.PAUSED: "so"},
    Action.RESUME: {State.QUEUED: "so", **dict.fromkeys(RUNNING, "so"), State.PAUSED: State.QUEUED},
    Action.CANCEL: {
        State.QUEUED: State.CANCELED,
        **dict.fromkeys(RUNNING, Signal.CANCEL),
        State.PAUSED: State.CANCELED,
        State.ERROR: State.CANCELED,
        State.CANCELED: "so",
    },
    Action.RETRY: {
        State.QUEUED: "so",
        **dict.fromkeys(RUNNING, "so"),
        State.ERROR: State.QUEUED,
        State.CANCELED: State.QUEUED,
    },
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", Action)
async def test_an_action_gives_in_each_state_what_the_map_says(face: Face, action: Action, state: State) -> None:
    job = await face.job_in(state)
    before = (await face.client.get(f"/jobs/{job.id}")).json()
    answer = await face.client.post(f"/jobs/{job.id}/{action}")
    told = answer.json()
    match TABLE[action].get(state):
        case None:
            assert answer.status_code == 409
            assert (told["error"], told["state"]) == ("invalid_transition", state)
            assert set(told) >= {"error", "detail"}
            assert action not in before["allowed_actions"]
            assert (await face.client.get(f"/jobs/{job.id}")).json() == before
        case "so":
            assert answer.status_code == 200
            assert told == before
        case Signal() as signal:
            assert answer.status_code == 200
            assert (told["state"], told["signal"]) == (state, signal)
            assert action in before["allowed_actions"]
            assert (await face.client.post(f"/jobs/{job.id}/{action}")).json() == told
        case State() as target:
            assert answer.status_code == 200
            assert (told["state"], told["signal"]) == (target, None)
            assert action in before["allowed_actions"]
            assert (await face.client.post(f"/jobs/{job.id}/{action}")).json() == told


@pytest.mark.parametrize("state", sorted(RUNNING))
@pytest.mark.parametrize(
    "pending, action, becomes",
    [
        (Signal.PAUSE, Action.PAUSE, Signal.PAUSE),
        (Signal.PAUSE, Action.CANCEL, Signal.CANCEL),
        (Signal.PAUSE, Action.RESUME, None),
        (Signal.PAUSE, Action.RETRY, None),
        (Signal.CANCEL, Action.CANCEL, Signal.CANCEL),
        (Signal.CANCEL, Action.PAUSE, None),
        (Signal.CANCEL, Action.RESUME, None),
        (Signal.CANCEL, Action.RETRY, None),
    ],
)
async def test_a_wish_that_is_pending_may_only_be_repeated_or_raised_to_a_cancel(
    face: Face, state: State, pending: Signal, action: Action, becomes: Signal | None
) -> None:
    job = await face.job_in(state, pending)
    answer = await face.client.post(f"/jobs/{job.id}/{action}")
    assert answer.status_code == (409 if becomes is None else 200)
    assert (answer.json()["state"], answer.json()["signal"]) == (state, becomes or pending)


async def test_a_done_job_is_retried_when_its_file_is_gone_and_not_before(face: Face) -> None:
    job = await face.job_in(State.DONE)
    assert (await face.client.post(f"/jobs/{job.id}/retry")).status_code == 409
    (face.container.library.downloads_dir / job.artifacts[0].name).unlink()
    assert (await face.client.get(f"/jobs/{job.id}")).json()["allowed_actions"] == ["retry"]
    again = (await face.client.post(f"/jobs/{job.id}/retry")).json()
    assert (again["state"], again["artifacts"]) == ("queued", [])


def one_body(answer: Any, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert (answer.status_code, told["error"]) == (status, code), told
    assert isinstance(told["detail"], str)
    assert told["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "method, path, body, status, code",
    [
        ("GET", "/nothing", None, 404, "not_found"),
        ("GET", "/jobs/", None, 404, "not_found"),
        ("GET", f"/jobs/{UNKNOWN}", None, 404, "job_not_found"),
        ("GET", "/jobs/short", None, 404, "job_not_found"),
        ("GET", f"/jobs/{UNKNOWN}/log", None, 404, "job_not_found"),
        ("PATCH", f"/jobs/{UNKNOWN}", {"priority": 1}, 404, "job_not_found"),
        ("DELETE", f"/jobs/{UNKNOWN}", None, 404, "job_not_found"),
        ("TRACE", "/jobs", None, 405, "method_not_allowed"),
        ("BREW", "/health", None, 405, "method_not_allowed"),
        ("POST", "/health", {}, 405, "method_not_allowed"),
        ("POST", "/jobs", None, 400, "malformed_request"),
        ("POST", "/jobs", {}, 422, "invalid_request"),
        ("POST", "/jobs", {"url": LINK, "colour": "red"}, 422, "invalid_request"),
        ("POST", "/jobs", {"url": LINK, "options": {"colour": "red"}}, 422, "invalid_request"),
        ("PATCH", f"/jobs/{UNKNOWN}", {"state": "done"}, 422, "invalid_request"),
        ("PATCH", f"/jobs/{UNKNOWN}", {"before": UNKNOWN, "to_front": True}, 422, "invalid_request"),
        ("POST", "/info", {"url": LINK, "colour": "red"}, 422, "invalid_request"),
        ("POST", "/cleanup", {"dry_run": True, "colour": "red"}, 422, "invalid_request"),
        ("POST", "/cleanup", None, 400, "malformed_request"),
        ("GET", "/jobs?colour=red", None, 422, "invalid_request"),
        ("GET", "/jobs?cursor=red", None, 422, "invalid_cursor"),
        ("POST", "/jobs", {"url": "ftp://127.0.0.1/x"}, 422, "invalid_url"),
        ("POST", "/jobs", {"url": "http://10.0.0.1/x"}, 403, "url_blocked"),
        ("POST", "/info", {"url": "http://10.0.0.1/x"}, 403, "url_blocked"),
        ("POST", "/jobs", {"urls": ["x", "http://10.0.0.1/x"]}, 422, "all_rejected"),
        ("POST", "/jobs", {"url": LINK, "options": {"folder": "../x"}}, 422, "option_rejected"),
    ],
)
async def test_what_is_wrong_is_told_in_the_one_body(
    face: Face, method: str, path: str, body: Any, status: int, code: str
) -> None:
    one_body(await face.client.request(method, path, json=body), status, code)
    assert sum((await face.client.get("/jobs")).json()["counts"].values()) == 0


@pytest.mark.parametrize(
    "headers, content, status, code",
    [
        ({"Content-Type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
        ({"Content-Type": ""}, b"{}", 415, "unsupported_media_type"),
        ({"Content-Type": "application/json"}, b" " * 2_200_000, 413, "body_too_large"),
        ({"Host": "evil.example"}, b"{}", 421, "host_not_allowed"),
        ({"Origin": "https://evil.example"}, b"{}", 403, "origin_not_allowed"),
    ],
)
async def test_what_does_not_get_past_the_door_is_told_in_the_one_body(
    face: Face, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    one_body(await face.client.post("/jobs", headers=headers, content=content), status, code)


async def test_the_methods_of_a_path_are_named_wholly(face: Face) -> None:
    for path, allowed in [
        ("/jobs", "GET, POST"),
        (f"/jobs/{UNKNOWN}", "DELETE, GET, PATCH"),
        (f"/jobs/{UNKNOWN}/file", "GET, HEAD"),
        ("/health", "GET"),
    ]:
        refused = await face.client.put(path)
        one_body(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == allowed


async def test_a_mistake_of_ours_is_told_to_the_log_and_not_to_the_client(
    face: Face, capsys: pytest.CaptureFixture[str]
) -> None:
    def mistaken() -> None:
        raise ZeroDivisionError("a secret")

    face.app.add_api_route("/mistake", mistaken)
    broken = await face.client.get("/mistake")
    one_body(broken, 500, "internal_error")
    assert "secret" not in broken.text
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_an_answer_tells_what_a_job_waits_for_now(face: Face) -> None:
    job = await face.job_in(State.QUEUED)
    path = f"/jobs/{job.id}"
    assert (await face.client.get(path)).json()["waiting_for"] == "slot"
    until = utc_now() + timedelta(hours=1)
    await face.container.store.set_cooldown(Cooldown(site=job.site, until=until, reason="429"))
    assert (await face.client.get(path)).json()["waiting_for"] == "cooldown"
    await face.client.post("/queue/pause")
    assert (await face.client.get("/jobs")).json()["jobs"][0]["waiting_for"] == "queue_paused"


async def test_a_job_of_another_version_keeps_no_other_from_being_answered(face: Face) -> None:
    broken, sound = await face.job_in(State.QUEUED), await face.job_in(State.QUEUED)
    strange = '{"secret": 1}'
    _damage(face, f"UPDATE jobs SET document = '{strange}' WHERE id = '{broken.id}'")
    listed = (await face.client.get("/jobs")).json()["jobs"]
    assert [job["id"] for job in listed] == [sound.id]
    for answer in (
        await face.client.get(f"/jobs/{broken.id}"),
        await face.client.post(f"/jobs/{broken.id}/pause"),
        await face.client.patch(f"/jobs/{broken.id}", json={"priority": 1}),
        await face.client.delete(f"/jobs/{broken.id}"),
    ):
        one_body(answer, 409, "job_unreadable")
        assert "secret" not in answer.text
    assert (await face.client.post(f"/jobs/{sound.id}/pause")).json()["state"] == "paused"
    _damage(face, "DROP TABLE facts")
    one_body(await face.client.get("/queue"), 503, "store_unavailable")


def _damage(face: Face, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(face.container.settings.data_dir / DATABASE_NAME)) as database, database:
        database.execute(statement)


async def test_a_patch_that_is_refused_changes_nothing(face: Face) -> None:
    job = await face.job_in(State.QUEUED)
    before = (await face.client.get(f"/jobs/{job.id}")).json()
    patch = {"not_before": "2099-01-01T00:00:00Z", "before": UNKNOWN}
    one_body(await face.client.patch(f"/jobs/{job.id}", json=patch), 404, "job_not_found")
    assert (await face.client.get(f"/jobs/{job.id}")).json() == before


async def test_a_key_whose_job_was_removed_says_that_it_is_gone(face: Face) -> None:
    bodies: list[dict[str, Any]] = [{"url": LINK}, {"urls": [LINK, LINK]}]
    for number, body in enumerate(bodies):
        headers = {"Idempotency-Key": f"key-{number}"}
        first = await face.client.post("/jobs", json=body, headers=headers)
        assert first.status_code == 201
        told = first.json()
        for job in told.get("jobs", [told]):
            assert (await face.client.delete(f"/jobs/{job['id']}")).status_code == 200
        one_body(await face.client.post("/jobs", json=body, headers=headers), 410, "job_expired")


async def test_a_job_that_ends_by_itself_while_it_is_removed_is_removed(face: Face) -> None:
    job = await face.job_in(State.PROCESSING)
    news = face.container.bus.subscribe()
    removing = asyncio.create_task(face.client.delete(f"/jobs/{job.id}"))
    asked = await asyncio.wait_for(anext(news), 5)
    assert isinstance(asked, Envelope)
    assert asked.event == JobEvent(job=await face.container.store.get(job.id))
    # Its runner was publishing the file, and that is not stopped.
    await face.container.store.change(job.id, Change(State.DONE))
    assert (await removing).status_code == 200
    one_body(await face.client.get(f"/jobs/{job.id}"), 404, "job_not_found")


async def test_a_job_whose_runner_does_not_let_go_is_not_removed(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RUNNER_SECONDS", 0.2)
    job = await face.job_in(State.DOWNLOADING)
    one_body(await face.client.delete(f"/jobs/{job.id}"), 409, "invalid_transition")
    assert (await face.client.get(f"/jobs/{job.id}")).json()["signal"] == "cancel"


async def test_a_replay_gives_the_first_answer_whatever_has_become_of_the_link_since(face: Face) -> None:
    headers = {"Idempotency-Key": "one"}
    added = (await face.client.post("/jobs", json={"url": LINK}, headers=headers)).json()
    batch = {"urls": [LINK, "http://10.0.0.1/x", f"{LINK}?2", f"{LINK}?3"]}
    many = await face.client.post("/jobs", json=batch, headers={"Idempotency-Key": "many"})
    assert [entry["error"] for entry in many.json()["rejected"]] == ["url_blocked"]
    removed, expired, left = many.json()["jobs"]
    await face.client.delete(f"/jobs/{removed['id']}")
    await face.client.post(f"/jobs/{expired['id']}/cancel")
    await face.container.store.remove(expired["id"], expired=True)
    # An address that may not be reached any more stands for a name that does not resolve any more.
    await face.container.store.close()
    strict = bootstrap(face.container.settings.model_copy(update={"allowed_endpoints": ()}))
    await strict.store.open()
    face.app.state.container = strict
    one_body(await face.client.post("/jobs", json={"url": LINK}), 403, "url_blocked")
    again = await face.client.post("/jobs", json={"url": LINK}, headers=headers)
    assert (again.status_code, again.json()) == (201, added)
    again = await face.client.post("/jobs", json=batch, headers={"Idempotency-Key": "many"})
    assert again.status_code == 201
    assert again.json()["jobs"] == [left]
    told = [(entry["url"], entry["error"]) for entry in again.json()["rejected"]]
    assert told == [("http://10.0.0.1/x", "url_blocked"), (LINK, "job_expired"), (f"{LINK}?2", "job_expired")]
    await strict.store.close()


def kinds(kind: type[MediaDownloaderError]) -> list[type[MediaDownloaderError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in kinds(child))]


async def test_every_code_is_written_down_and_every_route_names_codes_that_exist(face: Face) -> None:
    written = set(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", API_PAGE.read_text(), re.MULTILINE))
    assert written == {(kind.code, str(kind.status)) for kind in kinds(errors.MediaDownloaderError)}
    schema = (await face.client.get("/openapi.json")).json()
    named = set()
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                named |= {(code, status) for code in re.findall(r"`(\w+)`:", answer["description"])}
    assert named <= written
    assert {"job_not_found", "job_expired", "no_file", "url_blocked"} <= {code for code, _ in named}
