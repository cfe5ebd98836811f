# SPDX-License-Identifier: Apache-2.0
"""A worker's threads and connections: refusals, deadlines, leaving on either side, forks, calls.

With a fake engine and a fake httpd child, under the address and undefined behaviour sanitizers."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import re
import signal
import struct
from pathlib import Path

import pytest
from harness import wire
from harness.client import wait_until
from harness.wire import Flag, Frame, Outcome, Peer, Refused, Type
from harness.worker import (
    KEY,
    LEFT,
    MAXIMUM,
    NUMBER,
    RECORD_SIZE,
    RECORD_TEXTS,
    Start,
    Worker,
    request,
)

# Refusals, deadlines, clients that leave.


def test_a_request_beyond_the_threads_is_refused_and_the_connection_stays(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker(threads=2)
    busy = [worker.connect() for _ in range(2)]
    for number, peer in enumerate(busy, 1):
        peer.send(request(number, "wait", script=str(gate)))
        assert peer.receive().type == Type.HEAD
    with worker.connect() as peer:
        for number in (3, 4):
            answer = peer.ask(request(number, "hello", bytes(200000)))
            assert answer.refused == Refused.BUSY
            assert answer.frames[0].number == number
        assert worker.running() == {1, 2}
        gate.touch()
        assert [other.answer().outcome for other in busy] == [Outcome.COMPLETE] * 2
        assert peer.ask(request(5, "hello")).outcome == Outcome.COMPLETE
    worker.wait_until_runs(set())
    for other in busy:
        other.close()


def test_one_thread_serves_two_connections_in_turn_without_a_refusal(start_worker: Start) -> None:
    worker = start_worker(threads=1)
    with worker.connect() as one, worker.connect() as other:
        for number in range(1, 200, 2):
            assert one.ask(request(number, "hello")).refused is None
            assert other.ask(request(number + 1, "hello")).refused is None


@pytest.mark.parametrize(("more", "version"), [(RECORD_TEXTS, 2), (0, 1)])
def test_the_record_is_as_large_as_the_supervisors_version_makes_it(
    start_worker: Start, more: int, version: int
) -> None:
    worker = start_worker(record_size=RECORD_SIZE + more)
    with worker.connect() as peer:
        assert peer.ask(request(7, "hello")).outcome == Outcome.COMPLETE
    record = os.pread(worker.record, RECORD_SIZE + more, 0)
    assert struct.unpack_from("=I", record) == (version,)
    assert (b"GET " in record) is (version == 2)


@pytest.mark.parametrize("size", [1, 15, 16, 20, 90])
def test_half_a_frame_has_a_deadline(start_worker: Start, size: int) -> None:
    worker = start_worker(socket_timeout_ms=100)
    with worker.connect() as peer:
        peer.socket.sendall(bytes(request(1, "hello"))[:size])
        assert peer.is_closed()
    with worker.connect() as peer:
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_a_frame_in_single_bytes_is_served(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        for byte in bytes(request(1, "hello")):
            peer.socket.sendall(bytes([byte]))
        assert peer.answer().outcome == Outcome.COMPLETE


def test_a_request_beyond_the_bound_ends_the_connection(start_worker: Start) -> None:
    with start_worker(request_max=1000).connect() as peer:
        peer.send(request(1, "hello", bytes(2000)))
        assert peer.is_closed()


@pytest.mark.parametrize(
    "payload, number",
    [
        (bytes(200), 1),
        (request(1, "hello").payload[:-1], 1),
        (request(2, "hello").payload, 1),
        (request(0, "hello").payload, 0),
        (request(1, "hello").payload.replace(b"REQUEST_METHOD\0", b"REQUEST_METHOD!"), 1),
    ],
)
def test_a_malformed_request_ends_the_connection(
    start_worker: Start, payload: bytes, number: int
) -> None:
    worker = start_worker()
    with worker.connect() as peer:
        peer.send(Frame(Type.REQUEST, number, payload, Flag.BODY_END))
        assert peer.is_closed()
    with worker.connect() as peer:
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_after_gone_every_operation_fails_and_end_comes(start_worker: Start) -> None:
    worker = start_worker()
    with worker.connect() as peer:
        peer.send(request(1, "endless"))
        assert peer.receive().type == Type.HEAD
        peer.send(Frame(Type.GONE, 1))
        assert peer.answer().outcome == Outcome.CUT
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE
    assert "the client has left" in worker.close()


def test_a_child_that_dies_ends_its_request(start_worker: Start) -> None:
    worker = start_worker(threads=1)
    peer = worker.connect()
    peer.send(request(1, "endless"))
    assert peer.receive().type == Type.HEAD
    peer.close()
    worker.wait_until_runs(set())
    with worker.connect() as other:
        assert other.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_gone_that_crosses_the_end_does_no_harm(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        for number in range(1, 50):
            peer.send(request(number, "hello"), Frame(Type.GONE, number))
            assert peer.answer().outcome is not None
        peer.send(Frame(Type.GONE, 49), wire.pull(49, 0, 0))
        assert peer.ask(request(50, "hello")).outcome == Outcome.COMPLETE


def test_a_child_that_does_not_read_is_left_after_the_timeout(start_worker: Start) -> None:
    worker = start_worker(threads=1, socket_timeout_ms=100)
    with worker.connect() as peer:
        peer.send(request(1, "large"))
        worker.wait_until_runs({1})
        worker.wait_until_runs(set())
    assert "request 1: connection to httpd's child ended" in worker.close()


# Leaving.


def test_idle_connections_get_goodbye_and_new_ones_are_refused(start_worker: Start) -> None:
    worker = start_worker()
    with worker.connect() as peer, Peer.connect(worker.path) as silent:
        worker.drain()
        assert peer.receive() == Frame(Type.GOODBYE)
        assert peer.is_closed()
        assert silent.receive() == Frame(Type.GOODBYE)
        worker.wait_for_event(LEFT)
        with pytest.raises(ConnectionRefusedError):
            Peer.connect(worker.path)


def test_what_runs_is_finished_and_then_says_goodbye(start_worker: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = start_worker()
    with worker.connect() as peer, worker.connect() as idle:
        peer.send(request(1, "wait", script=str(gate)))
        assert peer.receive().type == Type.HEAD
        worker.drain()
        assert idle.receive() == Frame(Type.GOODBYE)
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
        assert peer.receive() == Frame(Type.GOODBYE)
        worker.wait_for_event(LEFT)


def test_a_worker_that_leaves_already_ends_when_the_supervisor_says_leave(
    start_worker: Start,
) -> None:
    """docs/wire.md 13: LEAVE is half there when the worker begins to leave."""
    worker = start_worker(threads=1)
    leave = bytes(Frame(Type.LEAVE, 0, wire.hello(NUMBER, KEY).payload))
    with Peer.connect(worker.path) as supervisor, worker.connect() as child:
        supervisor.socket.sendall(leave[:20])
        assert child.ask(request(1, "hello")).outcome == Outcome.COMPLETE
        worker.drain()
        assert child.receive() == Frame(Type.GOODBYE)
        supervisor.socket.sendall(leave[20:])
        worker.wait_for_event(LEFT)


def outcome_of_race(peer: Peer, number: int) -> str:
    """One request against a worker that leaves: served, refused or untaken, nothing else."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.send(request(number, "echo", bytes(100000)))
    try:
        frame = peer.receive()
        if frame.type == Type.GOODBYE:
            frame = peer.receive()
    except (EOFError, ConnectionResetError):
        return "untaken"
    if frame.type == Type.REFUSE:
        return "refused"
    answer = peer.answer()
    assert answer.outcome == Outcome.COMPLETE
    return "served"


def test_a_request_that_meets_leaving_is_served_or_refused_or_untaken(start_worker: Start) -> None:
    worker = start_worker(threads=8)
    peers = [worker.connect() for _ in range(40)]
    seen: collections.Counter[str] = collections.Counter()
    for number, peer in enumerate(peers, 1):
        if number == 20:
            worker.process.send_signal(signal.SIGTERM)
        seen[outcome_of_race(peer, number)] += 1
        peer.close()
    worker.wait_for_event(LEFT)
    raw = os.pread(worker.record, 24, 0)
    assert struct.unpack_from("=QQ", raw, 8)[0] == seen["served"]
    assert seen["served"] >= 19


def test_the_maximum_of_requests_is_told_once(start_worker: Start) -> None:
    worker = start_worker(maximum_requests=3)
    with worker.connect() as peer:
        for number in range(1, 6):
            assert peer.ask(request(number, "hello")).outcome == Outcome.COMPLETE
    worker.wait_for_event(MAXIMUM)
    worker.drain()
    worker.wait_for_event(LEFT)


# Forks.


def test_a_forked_child_holds_neither_wire_nor_listener(
    start_worker: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker()
    with worker.connect() as peer:
        assert peer.ask(request(1, "forking", script=str(gate))).outcome == Outcome.COMPLETE
        worker.drain()
        assert peer.receive() == Frame(Type.GOODBYE)
        assert peer.is_closed()
        with pytest.raises(ConnectionRefusedError):
            Peer.connect(worker.path)
    gate.touch()


def test_a_forked_child_that_comes_back_is_no_second_worker(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        answer = peer.ask(request(1, "forking_back"))
        assert answer.body == b"Hello, World!"
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


# The budget.


def test_a_warm_small_request_costs_four_system_calls(plain_worker: Path, tmp_path: Path) -> None:
    """DESIGN 4: epoll_wait, recv, sendmsg, epoll_ctl. Counted over a hundred requests."""
    trace = tmp_path / "trace"
    worker = Worker(plain_worker, tmp_path, under=("strace", "-D", "-f", "-qq", "-o", str(trace)))
    numbers = itertools.count(1)
    with worker.connect() as peer:

        def all_threads_wait() -> bool:
            """Two serve, one refuses; what a late one does before is no call of a request's."""
            peer.ask(request(next(numbers), "hello"))
            return len(set(re.findall(r"(?m)^(\d+) +epoll_wait\(", trace.read_text()))) == 3

        wait_until(all_threads_wait, "all threads of the worker wait for requests")
        before = len(trace.read_text().splitlines())
        for _ in range(100):
            peer.ask(request(next(numbers), "hello"))
        worker.wait_until_runs(set())
        lines = trace.read_text().splitlines()[before:]
    # The main thread may only now come to wait for its next event.
    of_threads = [line for line in lines if not line.startswith(f"{worker.process.pid} ")]
    calls = collections.Counter(
        match.group(1)
        for line in of_threads
        if (match := re.match(r"\d+ +(\w+)\(", line)) and match.group(1) != "futex"
    )
    worker.close()
    assert set(calls) == {"epoll_wait", "recvfrom", "sendmsg", "epoll_ctl"}, calls
    assert sum(calls.values()) <= 404, calls
