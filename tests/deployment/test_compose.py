"""compose.yaml as Docker Compose reads it: what every container may do, and how they hang together."""

import json
import subprocess
from pathlib import Path

import pytest

from media_downloader.worker.station import STOP_SECONDS
from tests.deployment.images import compose, services, tool
from tests.program import ROOT

NAMES = [f"media-downloader-{name}" for name in ("api", "worker", "redis", "flower")]
EVERY = pytest.mark.parametrize("name", NAMES)


def test_the_services_are_those_that_operators_know() -> None:
    assert sorted(services()) == sorted(NAMES)
    assert {name for name, service in services().items() if "profiles" in service} == {"media-downloader-flower"}


def test_only_the_worker_may_be_many() -> None:
    named = {name: service.get("container_name") for name, service in services().items()}
    assert named == {name: None if name == "media-downloader-worker" else name for name in NAMES}
    assert services()["media-downloader-worker"]["deploy"]["replicas"] == 1


@EVERY
def test_a_container_has_no_power_and_a_limit(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["user"] not in {"root", "0", "0:0"}
    assert "privileged" not in service
    assert {service.get(kind) for kind in ("network_mode", "pid", "ipc")} == {None}
    assert not any("docker.sock" in str(volume["source"]) for volume in service.get("volumes", []))
    limits = service["deploy"]["resources"]["limits"]
    assert int(limits["memory"]) > 0
    assert limits["pids"] > 0
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["stop_grace_period"].endswith("s")


@EVERY
def test_an_image_has_a_version_and_ours_come_from_here(name: str) -> None:
    service = services()[name]
    image, _, tag = service["image"].partition(":")
    assert tag not in {"", "latest"}
    if image == "redis":
        assert "build" not in service
    else:
        assert (tag, service["pull_policy"]) == ("local", "build")
        assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_only_loopback_is_published_and_redis_not_at_all() -> None:
    ports = {name: service.get("ports", []) for name, service in services().items()}
    assert ports["media-downloader-redis"] == ports["media-downloader-worker"] == []
    assert [(port["host_ip"], port["published"], port["target"]) for port in ports["media-downloader-api"]] == [
        ("127.0.0.1", "8000", 8000)
    ]
    assert {port["host_ip"] for port in ports["media-downloader-flower"]} == {"127.0.0.1"}
    # Downloads reach the internet, Redis reaches nothing.
    assert list(services()["media-downloader-redis"]["networks"]) == ["backend"]
    assert compose()["networks"]["backend"]["internal"] is True


def test_opening_the_api_opens_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_bytes((ROOT / "compose.yaml").read_bytes())
    (tmp_path / ".env").write_text("PUBLISH_ADDRESS=0.0.0.0\nFLOWER_BASIC_AUTH=me:secret\n")
    command = [tool("docker-compose"), "--project-directory", str(tmp_path), "--profile", "flower", "config"]
    command += ["--format", "json"]
    told = subprocess.run(
        command, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    ).stdout
    read = json.loads(told)["services"]
    assert read["media-downloader-api"]["ports"][0]["host_ip"] == "0.0.0.0"
    assert read["media-downloader-flower"]["ports"][0]["host_ip"] == "127.0.0.1"
    assert read["media-downloader-flower"]["environment"]["FLOWER_BASIC_AUTH"] == "me:secret"


def test_redis_keeps_every_job_and_others_wait_until_it_answers() -> None:
    redis = services()["media-downloader-redis"]
    told = " ".join(redis["command"])
    assert "--appendonly yes" in told
    assert "--appendfsync everysec" in told
    assert "--maxmemory-policy noeviction" in told
    assert redis["healthcheck"]["test"] == ["CMD-SHELL", "redis-cli ping | grep -q PONG"]
    assert [(volume["source"], volume["target"]) for volume in redis["volumes"]] == [("redis", "/data")]
    for name in set(NAMES) - {"media-downloader-redis"}:
        assert services()[name]["depends_on"]["media-downloader-redis"]["condition"] == "service_healthy"


def test_servers_and_workers_share_the_downloads_and_nothing_else_that_they_write() -> None:
    mounted = {
        name: {volume["target"]: volume for volume in services()[f"media-downloader-{name}"]["volumes"]}
        for name in ("api", "worker")
    }
    assert {volumes["/app/downloads"]["source"] for volumes in mounted.values()} == {"downloads"}
    assert all(volumes["/app/cookies"]["read_only"] for volumes in mounted.values())
    assert mounted["api"]["/app/data"]["source"] == "data"
    # Many workers: a volume for their own data would be one for all of them.
    assert set(mounted["worker"]) == {"/app/downloads", "/app/cookies"}
    assert any(place.startswith("/app/data:") for place in services()["media-downloader-worker"]["tmpfs"])
    assert all("downloads" in (Path(volumes["/app/downloads"]["target"]).name) for volumes in mounted.values())


def test_a_worker_is_given_more_time_to_end_than_it_takes() -> None:
    assert int(services()["media-downloader-worker"]["stop_grace_period"].removesuffix("s")) >= 3 * STOP_SECONDS


def test_settings_of_the_containers_win_over_those_of_the_operators_file(tmp_path: Path) -> None:
    for name in ("compose.yaml", "Dockerfile"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    settings = {
        "MEDIA_DOWNLOADER_PORT": "9",
        "MEDIA_DOWNLOADER_MODE": "local",
        "MEDIA_DOWNLOADER_JOB_TTL": "60",
        "PUBLISH_PORT": "8080",
        "WORKERS": "4",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [tool("docker-compose"), "--project-directory", str(tmp_path), "config"]
    told = subprocess.run(
        command, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    ).stdout
    assert 'MEDIA_DOWNLOADER_JOB_TTL: "60"' in told
    assert 'MEDIA_DOWNLOADER_PORT: "8000"' in told
    assert "MEDIA_DOWNLOADER_MODE: celery" in told
    assert 'published: "8080"' in told
    assert "replicas: 4" in told
