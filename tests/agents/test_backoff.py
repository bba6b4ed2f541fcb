"""How long a failed process stays down."""

from tailrace.agents.backoff import STABLE, Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(1, 60)
    assert [backoff.after_failure(0.5, False) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_process_that_lived_or_got_on_begins_anew() -> None:
    backoff = Backoff(1, 60)
    for _ in range(5):
        backoff.after_failure(0.5, False)
    assert backoff.after_failure(STABLE, False) == 1
    assert backoff.after_failure(0.5, False) == 2
    assert backoff.after_failure(0.5, True) == 1


def test_the_third_corrupt_end_in_ten_minutes_is_the_last() -> None:
    backoff = Backoff(1, 60)
    assert [backoff.gives_up_on_corrupt(now) for now in (0, 500, 601, 700)] == [False, False, False, True]
