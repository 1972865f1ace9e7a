"""Room on the disk is given out once."""

from media_downloader.space import SpaceLedger


def test_what_fits_is_reserved_and_what_does_not_is_refused_with_the_figures() -> None:
    ledger = SpaceLedger(lambda: 1_000, min_free_bytes=100)
    assert ledger.reserve("a", 600) is None
    shortage = ledger.reserve("b", 400)
    assert shortage is not None
    assert (shortage.needed_bytes, shortage.available_bytes) == (400, 300)
    assert ledger.reserve("b", 300) is None


def test_a_job_that_asks_again_does_not_stand_in_its_own_way() -> None:
    ledger = SpaceLedger(lambda: 1_000, min_free_bytes=0)
    assert ledger.reserve("a", 900) is None
    assert ledger.reserve("a", 950) is None


def test_what_was_written_or_given_back_is_free_for_others() -> None:
    ledger = SpaceLedger(lambda: 1_000, min_free_bytes=0)
    ledger.reserve("a", 900)
    ledger.update("a", 100)
    assert ledger.reserve("b", 900) is None
    ledger.release("b")
    ledger.release("a")
    assert ledger.reserve("c", 1_000) is None


def test_the_floor_is_told() -> None:
    assert SpaceLedger(lambda: 99, min_free_bytes=100).is_low()
    assert not SpaceLedger(lambda: 100, min_free_bytes=100).is_low()
