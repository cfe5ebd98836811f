# SPDX-License-Identifier: Apache-2.0
"""What a worker watches in itself: pyglue/worker/watch.c, with a fake engine whose GIL is a mutex.

Under the address and undefined behaviour sanitizers. Times are short, and none is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.wire import Frame, Outcome, Type
from harness.worker import Start, request

RECYCLE = 6
INTERVAL, RSS, REQUEST, DEADLOCK = 3, 5, 6, 7
LONG = 3_600_000


def order(text: str, *words: str) -> None:
    """Each of the words stands in the text, and in this order."""
    at = -1
    for word in words:
        found = text.find(word, at + 1)
        assert found > at, f"{word!r} is not, or not there, in\n{text}"
        at = found


# Requests.


def test_a_late_request_is_told_with_stacks_and_the_worker_asks_for_a_successor(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(request_timeout_ms=50)
    with worker.connect() as peer:
        peer.send(request(7, "wait", script=str(gate)))
        assert worker.wait_for_message() == (RECYCLE, REQUEST)
        worker.wait_for_words("dump")
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
    order(
        worker.close(),
        "PG2020: request-timeout (0.05 s) has passed for GET  (request 7) in thread 0x",
        "PG2021: GET  (request 7) did not end",
    )


def test_a_late_request_is_interrupted_and_the_worker_lives(start_worker: Start) -> None:
    worker = start_worker(request_timeout_ms=50, interrupt_timeout_ms=LONG)
    with worker.connect() as peer:
        answer = peer.ask(request(7, "spin"))
        assert (answer.outcome, answer.status) == (Outcome.FAILED, 504)
        assert peer.ask(request(8, "hello")).outcome == Outcome.COMPLETE
    said = worker.close()
    order(said, "PG2020", "dump", "interrupt 7")
    assert "PG2021" not in said


def test_a_late_request_that_waits_for_its_client_costs_no_worker(start_worker: Start) -> None:
    """What ends its wait is the child, a moment later."""
    worker = start_worker(request_timeout_ms=50)
    with worker.connect() as peer:
        peer.send(request(7, "echo", ends=False))
        worker.wait_for_words("PG2020")
        worker.wait_for_words("dump")
        peer.send(Frame(Type.GONE, 7))
        assert peer.answer().outcome == Outcome.CUT
        assert peer.ask(request(8, "hello")).outcome == Outcome.COMPLETE
    assert "PG2021" not in worker.close()


def test_only_the_late_request_is_interrupted(start_worker: Start) -> None:
    worker = start_worker(threads=2, request_timeout_ms=400, interrupt_timeout_ms=LONG)
    with worker.connect() as peer, worker.connect() as other:
        peer.send(request(1, "spin"))
        worker.wait_until_runs({1})
        for number in range(2, 40):
            assert other.ask(request(number, "hello")).outcome == Outcome.COMPLETE
        assert peer.answer().outcome == Outcome.FAILED
    said = worker.close()
    assert said.count("interrupt ") == 1


def test_a_request_that_outlives_its_interruption_costs_the_worker(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(request_timeout_ms=50, interrupt_timeout_ms=50)
    with worker.connect() as peer:
        peer.send(request(7, "wait", script=str(gate)))
        assert worker.wait_for_message() == (RECYCLE, REQUEST)
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
    order(worker.close(), "PG2020", "dump", "interrupt 7", "PG2021: GET  (request 7) did not end")


def test_a_successor_is_asked_for_once(start_worker: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(threads=3, request_timeout_ms=50)
    peers = [worker.connect() for _ in range(3)]
    for number, peer in enumerate(peers, 1):
        peer.send(request(number, "wait", script=str(gate)))
        worker.wait_for_words(f"PG2021: GET  (request {number}) did not end")
    gate.touch()
    for peer in peers:
        assert peer.answer().outcome == Outcome.COMPLETE
        peer.close()
    assert worker.wait_for_message() == (RECYCLE, REQUEST)
    worker.process.terminate()
    worker.process.wait(10)
    assert worker.take_messages() == b""


def test_stacks_are_shown_without_the_gil_when_it_cannot_be_had(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(request_timeout_ms=50, interrupt_timeout_ms=LONG)
    with worker.connect() as peer:
        peer.send(request(7, "hold", script=str(gate)))
        worker.wait_for_words("dump without the GIL")
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
    order(worker.close(), "PG2020", "PG2023", "PG2022: thread 0x", "runs GET  (request 7), for")


def test_a_gil_that_is_kept_holds_up_nothing_under_another(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(
        request_timeout_ms=50, interrupt_timeout_ms=LONG, deadlock_timeout_ms=LONG
    )
    with worker.connect() as holder, worker.connect() as peer:
        holder.send(request(7, "hold_own", script=str(gate)))
        worker.wait_for_words("dump without the GIL 1")
        answer = peer.ask(request(8, "spin"))
        assert (answer.outcome, answer.status) == (Outcome.FAILED, 504)
        gate.touch()
        assert holder.answer().outcome == Outcome.COMPLETE
    said = worker.close()
    order(said, "PG2020", "dump under GIL 0", "PG2023", "dump without the GIL 1",
          "PG2020", "dump under GIL 0", "interrupt 8")  # fmt: skip
    assert "PG2025" not in said and "without the GIL 0" not in said


def test_stacks_that_were_shown_without_a_gil_are_not_shown_again_with_it(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(request_timeout_ms=50, deadlock_timeout_ms=LONG)
    with worker.connect() as peer:
        peer.send(request(7, "hold_own", script=str(gate)))
        worker.wait_for_words("dump without the GIL 1")
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
    assert worker.close().count("dump without") == 1


# Scripts.


def test_a_worker_ends_when_no_script_is_loaded_in_time(
    start_worker: Start, tmp_path: Path
) -> None:
    worker = start_worker(startup_timeout_ms=50)
    with worker.connect() as peer:
        peer.send(request(1, "wait", script=str(tmp_path / "never")))
        words = worker.close(code=1)
    order(words, "PG2006: startup-timeout (0.05 s)", "dump")
    assert "without the GIL" not in words


def test_a_worker_whose_script_keeps_the_gil_while_it_loads_ends_with_stacks_too(
    start_worker: Start, tmp_path: Path
) -> None:
    worker = start_worker(startup_timeout_ms=50)
    with worker.connect() as peer:
        peer.send(request(1, "hold", script=str(tmp_path / "never")))
        order(worker.close(code=1), "PG2006", "PG2023", "dump without the GIL")


def test_the_clock_of_startup_begins_with_the_first_request(start_worker: Start) -> None:
    worker = start_worker(startup_timeout_ms=1, restart_interval_ms=200)
    assert worker.wait_for_message() == (RECYCLE, INTERVAL)
    worker.close()


def test_a_worker_that_has_loaded_a_script_stays(start_worker: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(startup_timeout_ms=500, restart_interval_ms=1000)
    with worker.connect() as peer:
        assert peer.ask(request(1, "load")).outcome == Outcome.COMPLETE
        peer.send(request(2, "wait", script=str(gate)))
        assert worker.wait_for_message() == (RECYCLE, INTERVAL)
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE


# Memory and age.


def test_a_worker_above_its_rss_limit_asks_for_a_successor(start_worker: Start) -> None:
    worker = start_worker(rss_limit=1)
    assert worker.wait_for_message() == (RECYCLE, RSS)
    with worker.connect() as peer:
        assert peer.ask(request(1, "hello")).outcome == Outcome.COMPLETE
    assert worker.close().count("more than rss-limit (1)") == 1


def test_a_worker_below_its_rss_limit_stays(start_worker: Start) -> None:
    worker = start_worker(rss_limit=1 << 50, restart_interval_ms=100)
    assert worker.wait_for_message() == (RECYCLE, INTERVAL)
    assert "rss-limit" not in worker.close()


def test_what_finds_a_full_pipe_is_told_later(start_worker: Start) -> None:
    worker = start_worker(rss_limit=1, has_full_pipe=True)
    worker.wait_for_words("PG2024")
    assert not worker.take_messages().strip(b"\0")
    assert worker.wait_for_message() == (RECYCLE, RSS)
    worker.close()


# Deadlock.


@pytest.mark.parametrize("idle", [0, 2])
def test_a_worker_whose_gil_cannot_be_had_tells_why_and_ends(
    start_worker: Start, tmp_path: Path, idle: int
) -> None:
    worker = start_worker(threads=4, deadlock_timeout_ms=50, shutdown_timeout_ms=100)
    peers = [worker.connect() for _ in range(idle)]
    with worker.connect() as peer:
        peer.send(request(7, "hold", script=str(tmp_path / "never")))
        assert worker.wait_for_message() == (RECYCLE, DEADLOCK)
        for other in peers:
            assert other.receive().type.name == "GOODBYE"
            other.close()
        worker.process.wait(10)
    said = worker.close(code=0)
    order(said, "PG2025: deadlock-timeout (0.05 s) has passed", "runs GET  (request 7)",
          "dump without the GIL", "PG2005")  # fmt: skip


def test_one_of_several_gils_that_cannot_be_had_is_a_deadlock(start_worker: Start) -> None:
    """What the others guard is shown by their hands, before the worker ends."""
    worker = start_worker(deadlock_timeout_ms=50, shutdown_timeout_ms=LONG)
    with worker.connect() as peer:
        assert peer.ask(request(7, "keep_own")).outcome == Outcome.COMPLETE
        assert worker.wait_for_message() == (RECYCLE, DEADLOCK)
    said = worker.close(code=1)
    order(said, "PG2025", "PG2023", "dump without the GIL 1")
    order(said, "PG2025", "dump under GIL 0")
    assert "without the GIL 0" not in said


def test_a_deadlocked_worker_ends_with_its_last_connection(start_worker: Start) -> None:
    worker = start_worker(deadlock_timeout_ms=50, shutdown_timeout_ms=LONG)
    with worker.connect() as peer:
        assert peer.ask(request(7, "keep")).outcome == Outcome.COMPLETE
        assert worker.wait_for_message() == (RECYCLE, DEADLOCK)
    assert "PG2005" not in worker.close(code=1)


def test_an_interpreter_that_comes_free_in_time_is_no_deadlock(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(deadlock_timeout_ms=LONG, restart_interval_ms=300)
    with worker.connect() as peer:
        peer.send(request(7, "hold", script=str(gate)))
        assert worker.wait_for_message() == (RECYCLE, INTERVAL)
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
    assert "PG2025" not in worker.close()
