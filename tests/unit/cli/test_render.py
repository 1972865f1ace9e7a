"""Numbers, times and titles as people read them; nothing that a title says can drive a terminal."""

from datetime import UTC, datetime, timedelta

import pytest

from media_downloader.cli.render import duration, moment, part_of, plain, size


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (None, "?"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (52_954_267, "50.5 MiB"),
        (2**40, "1.0 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_bytes_have_the_unit_that_suits_them(count: int | None, told: str) -> None:
    assert size(count) == told


def test_a_part_is_told_in_the_unit_of_the_whole() -> None:
    assert part_of(1_048_576, 52_954_267) == "1.0 of 50.5 MiB"
    assert part_of(512, 900) == "512 of 900 B"
    assert part_of(2048, None) == "2.0 KiB"


@pytest.mark.parametrize(("seconds", "told"), [(None, ""), (7.4, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_durations_are_told_as_on_a_clock(seconds: float | None, told: str) -> None:
    assert duration(seconds) == told


def test_a_moment_of_another_day_has_its_date() -> None:
    now = datetime.now(UTC)
    assert len(moment(now + timedelta(days=400))) == len("2030-01-01 03:00")
    assert len(moment(datetime.now(UTC))) == len("14:03:22")


def test_control_characters_and_marks_that_turn_text_around_are_replaced() -> None:
    assert plain("a\x1b]0;b\x07\r\nc\u202ed\x9b31m") == "a\ufffd]0;b\ufffd\ufffd\ufffdc\ufffdd\ufffd31m"
    assert plain("Ünï 東京 🎬") == "Ünï 東京 🎬"
