"""The page at /docs: complete without any other host, and nothing else may run on it."""

import re

from tests.api.conftest import Face


async def test_the_page_and_its_parts_come_from_here_and_name_no_other_host(face: Face) -> None:
    page = await face.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/docs.css", "docs/docs.js", "openapi.json"} <= set(parts)
    for part in parts:
        assert not re.match(r"(?:[a-z]+:)?//", part), part
        if not part.startswith("data:"):
            found = await face.client.get(f"/{part}")
            assert found.status_code == 200
            assert found.headers["x-content-type-options"] == "nosniff"
            if part != "openapi.json":
                assert not re.search(r"https?://|@import|url\(", found.text)


async def test_who_comes_to_the_root_is_led_to_the_page(face: Face) -> None:
    answer = await face.client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "docs")
