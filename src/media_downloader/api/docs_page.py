"""Interactive documentation that asks no other host: one page, one style sheet, one script, all ours."""

from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

router = APIRouter(include_in_schema=False)

#: Nothing but this server's own files and answers.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'"
)
_TYPES = {"docs.js": "text/javascript", "docs.css": "text/css"}


def _static(name: str) -> str:
    return files("media_downloader.api").joinpath("static", name).read_text(encoding="utf-8")


@router.get("/")
async def root() -> Any:
    """Lead people to the documentation."""
    return RedirectResponse("docs", 307)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Show the page."""
    return HTMLResponse(_static("docs.html"), headers={"Content-Security-Policy": POLICY})


@router.get("/docs/docs.js")
async def script() -> Response:
    """Return the page's script."""
    return Response(_static("docs.js"), media_type=_TYPES["docs.js"])


@router.get("/docs/docs.css")
async def style() -> Response:
    """Return the page's style sheet."""
    return Response(_static("docs.css"), media_type=_TYPES["docs.css"])
