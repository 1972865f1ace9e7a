"""What must never be in a committed file: a package registry's host, an index option, a path of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Settings and locks that an installer or a builder reads.
LOCKS = ("*.lock", "*.toml", "*.cfg", "*.ini", "*.txt", "*.yaml", "*.yml", "*.json")
CONFIGURATION = (*LOCKS, "*.in", "*.service", "Makefile", ".npmrc", "*Dockerfile*", ".env.example")
FORBIDDEN = re.compile(
    r'index-url|find-links|trusted-host|"resolved"|registry\s*=|://[^\s"]*/(?:simple|packages)/|'
    r"\b(?:pypi|pythonhosted|npmjs|yarnpkg)\.(?:org|com)\b",
    re.IGNORECASE,
)


def committed(*patterns: str) -> list[Path]:
    if not (ROOT / ".git").exists():
        found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    else:
        listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        command = [*listing, "--", *patterns]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in found if path.is_file()]


def test_no_lock_or_configuration_names_a_package_registry() -> None:
    files = committed(*CONFIGURATION)
    assert any(path.name == "requirements.lock" for path in files)
    named = [f"{path.name}: {match.group()}" for path in files if (match := FORBIDDEN.search(path.read_text("utf-8")))]
    assert named == []


@pytest.mark.parametrize(
    "line", ["--index-url http://x", 'registry = "x"', "https://files.pythonhosted.org/p", "http://m/simple/six"]
)
def test_the_pattern_would_find_a_registry(line: str) -> None:
    assert FORBIDDEN.search(line)


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("requirements.lock", 20),
        ("requirements-dev.lock", 20),
        ("requirements-demo.lock", 1),
        ("deploy/flower.lock", 10),
    ],
)
def test_every_locked_package_has_a_version_and_hashes(name: str, at_least: int) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    packages = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(packages) >= at_least
    for package in packages:
        assert re.match(r"[a-z0-9._\[\]-]+==\S+", package, re.IGNORECASE), package
        assert "--hash=sha256:" in package, package


def test_no_committed_text_carries_a_path_of_the_machine_it_was_written_on() -> None:
    private = re.compile(r"(?:^|[^A-Za-z0-9_.])/(?:root|work|home/[a-z]+)/")
    files = [
        path
        for path in committed("*.py", "*.md", "*.toml", "*.yaml", "*Dockerfile", "Makefile", ".ci/*")
        if path != Path(__file__)
    ]
    found = [str(path.relative_to(ROOT)) for path in files if private.search(path.read_text("utf-8"))]
    assert found == []
