"""The README as its reader has it: blocks of lines, and a shell to paste them into."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.program import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = "https://example.org/video.mp4"


def block(first_words: str, language: str = "sh") -> str:
    """Return the one code block that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    [found] = [text for text in blocks if text.startswith(first_words)]
    return str(found)


def walks(text: str) -> tuple[str, list[str]]:
    """Return what comes before the first walk, and each walk."""
    before, *found = re.split(r"^(?=# \d\. )", text, flags=re.MULTILINE)
    assert [walk[:5] for walk in found] == ["# 1. ", "# 2. ", "# 3. ", "# 4. "]
    return before, found


class Shell:
    """A bash that a reader pastes lines into."""

    def __init__(self, folder: Path, environment: Mapping[str, str], here: Mapping[str, str]) -> None:
        """Take what stands in the README for something of this machine, and what that is."""
        self.folder = folder / "reader"
        self._environment = environment
        self._here = {"$PWD/.venv/bin": str(Path(sys.executable).parent), **here}

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._process = subprocess.Popen(
            ["bash"],
            env=dict(self._environment),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def paste(self, text: str) -> str:
        """Run the lines and return what they print; the last one must succeed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        for written, here in self._here.items():
            text = text.replace(written, here)
        self._process.stdin.write(f"{text}\necho; echo end-of-paste $?\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line.startswith("end-of-paste "):
                assert line == "end-of-paste 0\n", printed
                return printed
            printed += line
        raise AssertionError(f"bash ended: {printed}")
