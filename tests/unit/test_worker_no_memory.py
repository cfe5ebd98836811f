# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 14: each allocation that a worker's C makes fails once, until none does.

With the fake engine, under the sanitizers."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import worker
from harness.nomem import Shortage, linked
from harness.wire import Answer, Outcome, Peer, snapshot
from harness.wire import request as of_block
from harness.worker import KEY, LEFT, NUMBER, Worker

MOST = 100
BODY = bytes(range(256)) * 700


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("worker") / "short_of_memory"
    return worker.compile_worker(target, *worker.SANITIZERS, *linked())


@pytest.fixture
def shortage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shortage]:
    made = Shortage(tmp_path / "shortage")
    monkeypatch.setenv("PYGLUE_TEST_NO_MEMORY", str(made.path))
    yield made


class Starting(Worker):
    """One that may end at once."""

    has_begun = False

    def wait_for_event(self, event: int) -> None:
        if event == 0:
            assert self.process.stdout is not None
            self.has_begun = self.process.stdout.readline() == b"0\n"
        else:
            super().wait_for_event(event)


@pytest.fixture
def started(program: Path, shortage: Shortage, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(program, tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def large(number: int, behaviour: str, body: bytes) -> bytes:
    """A request whose block fits no buffer."""
    pairs = {"REQUEST_METHOD": "GET", "HTTP_LARGE": "x" * 100_000}
    return bytes(of_block(number, snapshot(number, pairs, callable=behaviour), body))


def ask(running: Worker, behaviour: str, body: bytes = b"") -> Answer | None:
    """On a connection of its own. None: the worker closed it."""
    try:
        with Peer.connect(running.path) as peer:
            peer.greet(NUMBER, KEY)
            peer.socket.sendall(large(1, behaviour, body))
            return peer.answer()
    except (EOFError, ConnectionError):
        return None


def is_good(answer: Answer | None, behaviour: str, body: bytes) -> bool:
    if answer is None or answer.outcome != Outcome.COMPLETE or answer.head is None:
        return False
    if behaviour == "large_head":
        return len(answer.head.headers[0][1]) == 100_000
    return answer.body == body


@pytest.mark.parametrize(("behaviour", "body"), [("large_head", b""), ("echo", BODY)])
def test_each_allocation_of_a_connection_may_fail(
    started: Worker, shortage: Shortage, behaviour: str, body: bytes
) -> None:
    """The request fails, or its connection does; the next one is good."""
    seen = []
    for after in range(MOST):
        # Connections are used again: a new one is wanted each time.
        held = [started.connect() for _ in range(after + 1)]
        shortage.begin(after)
        answer = ask(started, behaviour, body)
        failed = shortage.end()
        seen.append(answer and answer.outcome)
        assert is_good(answer, behaviour, body) is (failed == 0), after
        if answer is not None and answer.outcome == Outcome.FAILED:
            assert answer.head is None, after
        assert is_good(ask(started, behaviour, body), behaviour, body), after
        started.wait_until_runs(set())  # END is sent before its number leaves the record
        for peer in held:
            peer.close()
        if failed == 0:
            break
    assert after >= 2, seen
    started.drain()
    started.wait_for_event(LEFT)
    started.close()


def test_each_allocation_may_fail_while_it_drains(
    program: Path, shortage: Shortage, tmp_path: Path
) -> None:
    """It has a connection that is answered, and leaves."""
    for after in range(MOST):
        folder = tmp_path / str(after)
        folder.mkdir()
        running = Worker(program, folder)
        peer = running.connect()
        shortage.begin(after)
        answer = None
        with peer, contextlib.suppress(EOFError, ConnectionError):
            peer.socket.sendall(large(1, "echo", BODY))
            running.process.send_signal(signal.SIGTERM)
            answer = peer.answer()
        if answer is None:
            running.process.send_signal(signal.SIGTERM)
        running.wait_for_event(LEFT)
        failed = shortage.end()
        assert answer is None or answer.refused or is_good(answer, "echo", BODY) is (failed == 0)
        running.close()
        if failed == 0:
            break
    assert after >= 1


def test_each_allocation_may_fail_while_it_starts(
    program: Path, shortage: Shortage, tmp_path: Path
) -> None:
    """It ends by itself, as its supervisor expects of one that cannot start."""
    for after in range(MOST):
        folder = tmp_path / str(after)
        folder.mkdir()
        shortage.begin(after)
        running = Starting(program, folder)
        failed = shortage.end()
        if running.has_begun:
            assert is_good(ask(running, "echo", BODY), "echo", BODY), after
            running.close()
        else:
            assert failed, after
            assert "NOMEM" in running.close(code=1), after
        if failed == 0:
            break
    assert after > 5
