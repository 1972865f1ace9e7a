"""A job's log is bounded and survives."""

from pathlib import Path

from media_downloader.job_log import KEPT_BYTES, JobLogs


def test_lines_come_back_in_order_also_to_a_new_instance(tmp_path: Path) -> None:
    JobLogs(tmp_path / "logs").append("a", ["one", "two\n"])
    JobLogs(tmp_path / "logs").append("a", ["three"])
    assert JobLogs(tmp_path / "logs").read("a") == "one\ntwo\nthree\n"


def test_an_unknown_job_has_an_empty_log_and_can_be_forgotten(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path)
    assert logs.read("a") == ""
    logs.remove("a")


def test_the_newest_64_kib_are_kept_from_the_start_of_a_line(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path)
    for start in range(0, 20_000, 100):
        logs.append("a", [f"line {number:06}" for number in range(start, start + 100)])
    text = logs.read("a")
    assert len(text) <= KEPT_BYTES
    assert text.startswith("line ")
    assert text.endswith("line 019999\n")
    assert (tmp_path / "a.log").stat().st_size <= 2 * KEPT_BYTES + 2_000


def test_a_log_that_is_removed_is_gone(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path)
    logs.append("a", ["x"])
    assert logs.job_ids() == ["a"]
    logs.remove("a")
    assert logs.job_ids() == []
