"""The images: no root, no secret, nothing that is not locked, a health check and an init."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from media_downloader.engines.celery_app import KEY_PREFIX
from media_downloader.settings import Settings
from tests.deployment.images import Stage, stages, tool
from tests.program import ROOT

MAIN = ROOT / "Dockerfile"
FLOWER = ROOT / "deploy/flower.Dockerfile"
FILES = pytest.mark.parametrize("path", [MAIN, FLOWER], ids=lambda path: path.name)


def runtime() -> Stage:
    return stages(MAIN)[-1]


@FILES
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    told = subprocess.run([tool("hadolint"), str(path)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(MAIN.read_text("utf-8").replace("python:3.13-slim-bookworm AS runtime", "python:latest AS runtime"))
    told = subprocess.run([tool("hadolint"), str(bad)], capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "DL3007" in told.stdout


@FILES
def test_bases_have_a_version_and_no_platform(path: Path) -> None:
    names: set[str] = set()
    for stage in stages(path):
        assert stage.base in names or re.fullmatch(r"python:3\.\d+-slim-bookworm", stage.base), stage.base
        names.add(stage.name)


@FILES
def test_what_runs_is_not_root_and_has_a_fixed_number(path: Path) -> None:
    last = stages(path)[-1]
    assert last.last("USER") == "1000:1000"
    assert any("--uid 1000" in command for command in last.all("RUN"))
    after = [kind for kind, _ in last.instructions]
    assert "RUN" not in after[len(after) - after[::-1].index("USER") :]


@FILES
def test_nothing_comes_from_the_net_but_locked_packages_and_those_of_debian(path: Path) -> None:
    for stage in stages(path):
        assert stage.all("ADD") == []
        assert all("://" not in source for source in stage.all("COPY"))
        for command in stage.all("RUN"):
            assert not re.search(r"\b(curl|wget|git|npm|uv)\b|https?://", command), command
            for install in re.findall(r"pip install [^&|;]*", command):
                locked = "--require-hashes" in install and "--only-binary=:all:" in install
                assert locked or "--no-index" in install, install


@FILES
def test_no_secret_is_in_an_image(path: Path) -> None:
    for stage in stages(path):
        assert stage.all("ARG") == []
        words = " ".join([*stage.environment(), *stage.all("LABEL")]).upper()
        assert not re.search(r"PASS|SECRET|TOKEN|KEY|REDIS_URL|BROKER", words)
        mounts = re.findall(r"--mount=(\S+)", " ".join(stage.all("RUN")))
        assert all(mount.startswith("type=secret,id=pip,") for mount in mounts)


def test_what_the_images_are_made_of_passes_dockerignore_and_nothing_else_does() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for path in (MAIN, FLOWER)
        for stage in stages(path)
        for copy in stage.all("COPY")
        if "--from" not in copy
        for source in copy.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_tini_is_first_and_the_program_second() -> None:
    assert json.loads(runtime().last("ENTRYPOINT")) == ["/usr/bin/tini", "--", "media-downloader"]
    assert json.loads(runtime().last("CMD")) == ["serve"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert "media-downloader" in scripts
    [packages] = re.findall(r"apt-get install [^&]*", " ".join(runtime().all("RUN")))
    assert {"tini", "ffmpeg", "--no-install-recommends"} <= set(packages.split())


def test_the_health_checks_use_what_is_in_the_image() -> None:
    assert json.loads(runtime().last("HEALTHCHECK").partition("CMD ")[2]) == ["media-downloader", "health"]
    command = json.loads(re.sub(r"^.*?CMD ", "", stages(FLOWER)[-1].last("HEALTHCHECK")))
    assert command[:2] == ["python", "-c"]
    compile(command[2], "health check", "exec")


def test_the_environment_of_the_image_is_of_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = runtime().environment()
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.host, settings.port) == ("0.0.0.0", int(runtime().last("EXPOSE")))
    assert settings.downloads_dir == Path("/app/downloads")
    assert settings.data_dir == Path("/app/data")
    # With a read-only root, whatever is written must be below one of these.
    assert json.loads(runtime().last("VOLUME")) == ["/app/downloads", "/app/data"]
    assert Path(environment["HOME"]) == Path(environment["DENO_DIR"]).parent == settings.data_dir


def test_celerys_own_tools_look_where_the_program_puts_its_messages() -> None:
    program = "import json, celeryconfig as c; print(json.dumps([c.broker_url, c.broker_transport_options]))"

    def read(**environment: str) -> object:
        command = [sys.executable, "-B", "-c", program]
        told = subprocess.run(command, cwd=ROOT / "deploy", env=environment, capture_output=True, text=True, check=True)
        return json.loads(told.stdout)

    assert read(REDIS_URL="redis://r/0") == ["redis://r/0", {"global_keyprefix": KEY_PREFIX}]
    assert read(CELERY_BROKER_URL="amqp://q", REDIS_URL="redis://r/0") == ["amqp://q", {}]


def test_flower_and_the_workers_have_one_celery() -> None:
    def locked(path: str) -> set[str]:
        return set(re.findall(r"^(?:celery|kombu|redis)==\S+", (ROOT / path).read_text("utf-8"), re.MULTILINE))

    assert len(locked("deploy/flower.lock")) == 3
    assert locked("deploy/flower.lock") == locked("requirements.lock")
    assert "flower" not in (ROOT / "requirements.lock").read_text("utf-8")


def test_the_image_can_copy_to_object_storage_with_what_the_tests_ran_with() -> None:
    def locked(path: str) -> list[str]:
        return re.findall(r"^obstore==\S+", (ROOT / path).read_text("utf-8"), re.MULTILINE)

    assert locked("deploy/s3.lock") == locked("requirements-dev.lock") != []
    installs = [command for command in stages(ROOT / "Dockerfile")[0].all("RUN") if "pip install" in command]
    assert any("--requirement s3.lock" in command for command in installs)
