"""What every JobStore promises of its search: the same words find the same jobs, and no secret is found.

And of the ids that it knows.
"""

import pytest

from media_downloader.jobs.model import Media
from media_downloader.ports import Change, JobQuery, JobStore
from tests.contract.test_store import a_job, added

SECRET = "https://user:hunter2@example.org/watch?v=abc&token=s3cretvalue1234567890"


@pytest.mark.parametrize(
    "text, found",
    [
        ("WATCH?V=ABC", [1]),
        (SECRET, [1]),
        (f"film {SECRET}", [1]),
        ("hunter2", []),
        ("s3cretvalue", []),
        ("film", [1, 2]),
        ("straße FILM", [2]),
        ("STRASSE", [2]),
        ("nothing", []),
        ("  ", [1, 2, 3]),
    ],
)
async def test_words_find_titles_and_links_and_no_secrets(store: JobStore, text: str, found: list[int]) -> None:
    await added(store, a_job(1, url=SECRET), a_job(2, media=Media(title="Film in der Straße %_*")), a_job(3))
    await store.change(a_job(1).id, Change(facts={"media": Media(title="A film")}))
    page = await store.find(JobQuery(text=text, sort="created_at"))
    assert [int(job.id, 16) for job in page.jobs] == found


async def test_ids_are_told_from_those_that_are_no_job_s(store: JobStore) -> None:
    await added(store, a_job(1), a_job(2), a_job(3))
    await store.remove(a_job(2).id, expired=False)
    asked = [a_job(number).id for number in range(1, 500)]
    assert set(await store.known(asked)) == {a_job(1).id, a_job(3).id}
    assert set(await store.known([])) == set()
