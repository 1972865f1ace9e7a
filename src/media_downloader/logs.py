"""Where log lines go and what they look like; secrets are taken out on the way."""

import logging
import logging.handlers
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from media_downloader.errors import ConfigurationError
from media_downloader.netguard import redact_text
from media_downloader.settings import Settings

#: A longer value is cut: a log line must not carry a page.
MAX_VALUE_CHARS = 2_000


def configure_logging(settings: Settings, role: str | None = None) -> None:
    """Send structlog's and every library's lines to standard error, and to rotated files when a folder is set.

    Raises ``ConfigurationError`` for a folder that cannot be written.

    Each ``role`` ("worker-1") has a file of its own: lines are lost when several processes rotate one.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _drop_colors,
        _flatten_exception,
        _clean,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(_formatter(settings, shared, colors=sys.stderr.isatty()))
    if settings.log_dir is not None:
        handlers.append(_file_handler(settings, settings.log_dir, role))
        handlers[-1].setFormatter(_formatter(settings, shared, colors=False))
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for noisy in ("uvicorn.access", "httpcore2", "httpx2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _file_handler(settings: Settings, folder: Path, role: str | None) -> logging.Handler:
    name = "media-downloader" if role is None else f"media-downloader-{role}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(
            folder / f"{name}.log",
            maxBytes=settings.log_file_bytes,
            backupCount=settings.log_files,
            encoding="utf-8",
        )
    except OSError as error:
        raise ConfigurationError(
            f"The log folder {folder} cannot be written ({error.strerror}). Set MEDIA_DOWNLOADER_LOG_DIR to another."
        ) from None


def _formatter(
    settings: Settings, shared: list[structlog.typing.Processor], *, colors: bool
) -> structlog.stdlib.ProcessorFormatter:
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=colors)
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _drop_colors(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """uvicorn sends its lines a second time, with colours."""
    event.pop("color_message", None)
    return event


def _flatten_exception(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Turn a traceback into text early, so that it is cleaned like everything else."""
    if event.get("exc_info"):
        structlog.processors.format_exc_info(_logger, _name, event)
    return event


def _clean(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out secrets and control characters: a title must not forge a line or drive a terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            limit = MAX_VALUE_CHARS if key != "exception" else 20 * MAX_VALUE_CHARS
            # Cut late: of a password that is cut in two, the first half would not be known for one.
            text = redact_text(value[: 4 * limit])[:limit]
            keep = "\n\t" if key == "exception" else ""
            event[key] = "".join(char if char.isprintable() or char in keep else "\ufffd" for char in text)
    return event
