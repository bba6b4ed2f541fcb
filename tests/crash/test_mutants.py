"""Plants faults one at a time, and expects the unmodified crash suites to fail and to say what is broken.

The faults of docs/design/delivery.md, "How it is proved": publish before decide; positions outside the
transaction; positions read before InitProducerId; no compare on `next`; no epoch check; an unknown COMMIT taken
for failure (or for success); and one fsync left out in each place that the source has. The broker's transactions
have mutants of their own, in tests/broker/api/test_transaction_mutants.py.

Each suite must pass unmutated, with the same seed. A sync that no suite misses is either not needed, and then it
goes, or the suites are too weak.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.errors import TailraceError
from tests import test_fs
from tests.crash import (
    test_file_channel,
    test_kafka_sink,
    test_landing,
    test_log,
    test_log_every_call,
    test_spool,
)
from tests.support import mutants
from tests.support.live_broker import LiveBroker
from tests.support.ramdisk import ramdisk
from tests.support.source_places import Place, syncs

BROKEN = (AssertionError, pytest.fail.Exception)

killed = test_landing.test_sigkill_at_every_failpoint_keeps_the_nine_invariants
woken = test_landing.test_a_zombie_that_wakes_up_beside_a_new_owner_does_no_harm
reset = test_landing.test_a_reset_under_a_sleeping_lander_is_not_undone_by_it
unanswered = test_landing.test_a_lost_reply_to_commit_neither_loses_nor_doubles

LANDING: dict[str, tuple[Callable[[Path], None], str]] = {
    "publish before decide": (
        lambda path: killed(path, "landing.before_decide"),
        "invariant 3: .* belongs to no decided batch",
    ),
    "no compare on next": (reset, "invariant 5: .* was replaced at .*, and went on"),
    "no epoch check": (
        lambda path: woken(path, "landing.before_publish", "only acquires"),
        "invariant 5: batch .* was decided under epoch 1, which was over",
    ),
    "unknown COMMIT taken for failure": (
        lambda path: unanswered(path, "ledger.decide.commit_reply", 2),
        "invariant 9: a rebuild would be needed",
    ),
    "unknown COMMIT taken for success": (
        lambda path: unanswered(path, "ledger.decide.commit_request", 5),
        "invariant 3: .* belongs to no decided batch",
    ),
    "recovery does not publish what is decided": (
        lambda path: killed(path, "landing.after_decide"),
        "invariant 4: .* is in the ledger and not on disk",
    ),
}
"""The part of the landing suite that catches the fault soonest, and the invariant that it names."""


@pytest.mark.parametrize("fault", LANDING)
def test_the_landing_suite_catches(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    suite, named = LANDING[fault]
    suite(made(tmp_path / "right"))
    mutants.plant(fault, monkeypatch)
    with pytest.raises(BROKEN, match=named):
        suite(made(tmp_path / "wrong"))


def killed_between_positions_and_end(broker: LiveBroker, patch: pytest.MonkeyPatch) -> None:
    test_kafka_sink.test_killed_at_each_step_every_row_is_there_once(broker, "kafka_sink.positions_sent", 1)


def a_zombie_commits_before_init(broker: LiveBroker, patch: pytest.MonkeyPatch) -> None:
    test_kafka_sink.test_a_zombie_commits_in_time_or_not_at_all(broker, test_kafka_sink.before_init, patch)


KAFKA_SINK: dict[str, tuple[Callable[[LiveBroker, pytest.MonkeyPatch], None], str]] = {
    "positions outside the transaction": (
        killed_between_positions_and_end,
        "every row once and in order: .* has 15 rows doubled, 0 lost",
    ),
    "positions read before InitProducerId": (
        a_zombie_commits_before_init,
        "every row once and in order: .* has 10 rows doubled, 0 lost",
    ),
}


@pytest.mark.parametrize("fault", KAFKA_SINK)
def test_the_kafka_sink_suite_catches(fault: str, broker: LiveBroker, monkeypatch: pytest.MonkeyPatch):
    suite, named = KAFKA_SINK[fault]
    with monkeypatch.context() as patch:
        suite(broker, patch)
    mutants.plant(fault, monkeypatch)
    with pytest.raises(BROKEN, match=named):
        suite(broker, monkeypatch)


def test_every_fault_that_can_be_planted_is_caught_by_a_suite():
    assert {*LANDING, *KAFKA_SINK} == set(mutants.SWAPS)


Proof = Callable[[Path, Callable[[str, int], bool] | None], None]
"""A part of a crash suite. Its second argument leaves out the syncs of one place; None leaves out none."""


def log_and_channel() -> Iterator[Proof]:
    """The quick ones first."""
    for seed in range(3):
        yield lambda d, skip, seed=seed: test_log.power_cut_history(d, seed, leave_out=skip)
        yield lambda d, skip, seed=seed: test_file_channel.power_cut_history(d, seed, leave_out=skip)
    for scenario in test_log_every_call.SCENARIOS:
        yield lambda d, skip, s=scenario: test_log_every_call.cut_when_done(d, s, leave_out=skip)
    for scenario in test_log_every_call.SCENARIOS:
        yield lambda d, skip, s=scenario: test_log_every_call.cut_everywhere(d, s, leave_out=skip)


def landing() -> Iterator[Proof]:
    yield lambda d, skip: test_landing.cut_after_create(made(d), skip)
    for seed in range(16):
        yield lambda d, skip, seed=seed: test_landing.power_cuts(d, seed, skip)


def spool() -> Iterator[Proof]:
    for way in test_spool.WAYS:
        yield lambda d, skip, way=way: test_spool.cut_everywhere(d, way, skip)


def local_filesystem() -> Iterator[Proof]:
    yield the_kernel_is_asked
    yield from log_and_channel()


def the_kernel_is_asked(directory: Path, leave_out: Callable[[str, int], bool] | None) -> None:
    """The power cuts put themselves in the place of these calls, and so do not see them."""
    fsync = os.fsync

    def unless_left_out(fd: int) -> None:
        caller = sys._getframe(1)
        if leave_out is None or not leave_out(caller.f_code.co_filename, caller.f_lineno):
            fsync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", unless_left_out)
        test_fs.check_that_the_kernel_is_asked()


PROOFS: dict[str, Callable[[], Iterator[Proof]]] = {
    "broker/log/": log_and_channel,
    "sinks/stores/local.py": landing,
    "sources/spool/": spool,
    "tailrace/fs.py": local_filesystem,
}
"""What proves the syncs below a path. A sync elsewhere has no proof, and fails until it is given one."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", syncs(), ids=str)
def test_a_left_out_sync_is_caught(place: Place):
    proofs = next((proofs for path, proofs in PROOFS.items() if place.path.startswith(path)), None)
    assert proofs is not None, f"{place}: no suite proves this sync"
    with ramdisk() as root:
        for n, proof in enumerate(proofs()):
            try:
                proof(root / str(n), place.is_at)
            except (*BROKEN, TailraceError):
                proof(root / f"{n} again, with it", None)
                return
    pytest.fail(f"nothing noticed that {place} was left out")


def made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
