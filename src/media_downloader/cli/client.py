"""Talks to a running server over its own API."""

from typing import Any

import httpx2
import typer

from media_downloader.cli.render import plain

#: Exit codes: the server refused, or is not there.
REFUSED = 1
UNREACHABLE = 3
#: Digits of a whole id, and of the shortest beginning of one that is taken.
ID_DIGITS = 32
PREFIX_DIGITS = 4
#: A server that is there answers long before.
ANSWER_SECONDS = 30.0


class Refused(Exception):
    """What was asked for cannot be; the text is one line for people."""


class Client:
    """One server. One that is not there ends the program, with a line that says what to do."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._http = httpx2.Client(base_url=url, timeout=ANSWER_SECONDS, trust_env=False)
        except (httpx2.InvalidURL, ValueError) as error:
            raise self._unreachable(str(error)) from None

    def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Return the JSON of an answer. Raises ``Refused`` with the server's own words."""
        try:
            response = self._http.request(method, path, **more)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(str(error)) from None
        try:
            body = response.json()
            if response.is_success:
                # Every answer of ours names a job, or jobs.
                return {"id": body["id"], **body} if "jobs" not in body else dict(body)
            told = f"{body['detail']} ({body['error']})"
        except (ValueError, KeyError, TypeError):
            raise self._unreachable(f"what answers there ({response.status_code}) is no Media Downloader") from None
        raise Refused(plain(told))

    def job_id(self, prefix: str) -> str:
        """Return the id of the job that a person means: whole, or its beginning when only one begins so.

        Raises ``Refused``.
        """
        prefix = prefix.lower()
        known = PREFIX_DIGITS <= len(prefix) <= ID_DIGITS and all(char in "0123456789abcdef" for char in prefix)
        if not known:
            raise Refused(
                f"This is no id: an id has {ID_DIGITS} hexadecimal digits, and at least {PREFIX_DIGITS} of its "
                "beginning are needed. See: mdl jobs list"
            )
        if len(prefix) == ID_DIGITS:
            return prefix
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 500}
        while len(found) < 2:
            page = self.ask("GET", "/jobs", params=params)
            found += [job for job in page["jobs"] if job["id"].startswith(prefix)]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        if not found:
            raise Refused("No job's id begins so. See: mdl jobs list")
        if len(found) > 1:
            raise Refused(f"Several ids begin so, give more digits: {found[0]['id']}, {found[1]['id']}, ...")
        return str(found[0]["id"])

    def _unreachable(self, why: str) -> typer.Exit:
        told = plain(f"No server at {self._url}: {why or 'it does not answer'}.")
        typer.echo(f"{told} Start one with: mdl serve (or say where it is: --server URL)", err=True)
        return typer.Exit(UNREACHABLE)
