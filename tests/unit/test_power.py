"""Only a power cut makes the newest bytes doubtful, not a crash of the program."""

import json
from pathlib import Path

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
