"""What is told of a download process that died: its last lines, without the secrets of the links in them."""

import socket
import tempfile

from media_downloader.downloader.process import _parse
from media_downloader.downloader.protocol import Logged
from media_downloader.downloader.zygote import Forked, Server

LINE = "[https @ 0x55] Opening 'https://user:S3@example.org/v.ts?token=S3&id=7' for reading\x1b[0m"
CLEAN = "[https @ 0x55] Opening 'https://example.org/v.ts?token=***&id=7' for reading [0m"


def test_standard_error_of_a_dead_process_is_told_without_secrets() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as told:
        told.write(f"{LINE}\n\n".encode())
        words = Server._last_words(Forked(4711, ours, told), -11)
    assert [word.text for word in words] == [CLEAN, "The process was ended by signal 11 (SIGSEGV)."]


def test_a_line_that_is_no_message_is_told_without_secrets() -> None:
    heard = _parse(f'{{"type": "log, {LINE}'.encode())
    assert isinstance(heard, Logged)
    assert heard.text.endswith(CLEAN)
