"""Only a power cut makes the newest bytes doubtful, not a crash of the program."""

import json
import os
from pathlib import Path

import pytest

from media_downloader.power import PowerRecord


def test_a_first_run_and_a_crash_in_the_same_boot_are_no_power_cut(tmp_path: Path) -> None:
    record = PowerRecord(tmp_path / "power.json")
    assert record.begin() is False
    assert record.begin() is False


def test_a_run_that_was_cut_off_in_another_boot_is(tmp_path: Path) -> None:
    path = tmp_path / "power.json"
    path.write_text(json.dumps({"boot_id": "another", "ended": False}))
    assert PowerRecord(path).begin() is True
    assert PowerRecord(path).begin() is False


def test_a_run_that_ended_in_order_is_trusted_after_a_reboot(tmp_path: Path) -> None:
    path = tmp_path / "power.json"
    record = PowerRecord(path)
    record.begin()
    record.end()
    path.write_text(path.read_text().replace(json.loads(path.read_text())["boot_id"], "another"))
    assert record.begin() is False


def test_a_torn_record_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "power.json"
    path.write_text("{")
    assert PowerRecord(path).begin() is True


def test_that_the_program_runs_is_on_the_disk_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut brings back the record of the last end in order, and torn bytes are trusted."""
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    PowerRecord(tmp_path / "power.json").begin()
    assert synced == [(tmp_path / "power.json").stat().st_ino, tmp_path.stat().st_ino]
