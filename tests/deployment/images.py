"""Dockerfiles as their instructions, and compose.yaml as Docker Compose itself reads it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.program import ROOT

#: Where the programs of the dev lock are.
BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    """Return a program of the dev lock; its wheel is not made for every machine."""
    path = BIN / name
    if not path.exists():
        pytest.skip(f"{name} has no wheel for this machine")
    return str(path)


@dataclass
class Stage:
    """One FROM and what stands below it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Return the arguments of every instruction of this kind."""
        return [arguments for kind, arguments in self.instructions if kind == instruction]

    def last(self, instruction: str) -> str:
        """Return the arguments of the one that holds."""
        return self.all(instruction)[-1]

    def environment(self) -> dict[str, str]:
        """Return what ENV sets."""
        return dict(re.findall(r"(\w+)=(\S+)", " ".join(self.all("ENV"))))


def stages(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        kind, _, arguments = line.strip().partition(" ")
        if kind == "FROM":
            base, _, name = arguments.partition(" AS ")
            found.append(Stage(base.strip(), name.strip()))
        else:
            found[-1].instructions.append((kind, arguments.strip()))
    return found


@cache
def compose() -> dict[str, Any]:
    """Return compose.yaml, checked and resolved by Docker Compose, with nothing set in the environment."""
    command = [tool("docker-compose"), "--project-directory", str(ROOT), "--file", str(ROOT / "compose.yaml")]
    command += ["--env-file", os.devnull, "--profile", "flower", "config", "--format", "json"]
    read = subprocess.run(
        command, env={"HOME": "/nonexistent", "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    assert read.stderr == ""
    found: dict[str, Any] = json.loads(read.stdout)
    return found


def services() -> dict[str, dict[str, Any]]:
    """Return the services of compose.yaml by their names."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found
