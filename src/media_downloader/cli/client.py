"""Talks to a running server over its own API."""

from typing import Any

import httpx2
import typer

#: Exit codes: the server refused, or is not there.
REFUSED = 1
UNREACHABLE = 3


class Client:
    """One server. What it refuses ends the program with the server's own words."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx2.Client(base_url=url, timeout=30.0, trust_env=False)

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Return the JSON of an answer."""
        try:
            response = self._http.request(method, path, **more)
        except httpx2.TransportError as error:
            typer.echo(f"No server at {self._url} ({error}). Start one with: media-downloader serve", err=True)
            raise typer.Exit(UNREACHABLE) from None
        if response.is_success:
            return response.json()
        try:
            body = response.json()
            told = f"{body['detail']} ({body['error']})"
        except (ValueError, KeyError, TypeError):
            told = f"The server answered {response.status_code}."
        typer.echo(told, err=True)
        raise typer.Exit(REFUSED)

    def job_id(self, prefix: str) -> str:
        """Return the id of the job that a person means: whole, or its beginning when only one begins so."""
        if len(prefix) == 32:
            return prefix
        if len(prefix) < 4 or not all(char in "0123456789abcdef" for char in prefix):
            typer.echo("An id has 32 hexadecimal digits; at least 4 of its beginning are needed.", err=True)
            raise typer.Exit(REFUSED)
        found: list[str] = []
        cursor = None
        while True:
            params = {"limit": 500} | ({"cursor": cursor} if cursor else {})
            page = self.ask("GET", "/jobs", params=params)
            found += [job["id"] for job in page["jobs"] if job["id"].startswith(prefix)]
            cursor = page["next_cursor"]
            if cursor is None or len(found) > 1:
                break
        if len(found) != 1:
            typer.echo("No job begins so." if not found else "Several jobs begin so; give more digits.", err=True)
            raise typer.Exit(REFUSED)
        return found[0]
