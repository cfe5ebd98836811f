# SPDX-License-Identifier: Apache-2.0
"""A worker on its socket, with a fake engine and a fake httpd child: docs/wire.md, both ways of
ending, under the address and undefined behaviour sanitizers."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import wire
from harness.wire import Flag, Frame, Outcome, Peer, Refused, Type

ROOT = Path(__file__).parents[2]
NUMBER = 0x1234567890
KEY = b"k" * wire.KEY_SIZE
RECORD_SIZE = 24 + 1024 * 16
MAXIMUM, LEFT = 128, 129
PATIENCE = 10.0
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compile_worker(target: Path, *options: str) -> Path:
    sources = [
        ROOT / "tests/c/worker_fake_engine.c",
        *sorted(ROOT.glob("pyglue/worker/*.c")),
        *sorted(ROOT.glob("pyglue/bridge/*.c")),
    ]
    include = [f"-I{ROOT / 'pyglue' / folder}" for folder in ("bridge", "worker")]
    subprocess.run(
        ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread", *options, *include,
         *map(str, sources), "-o", str(target)],
        check=True,
    )  # fmt: skip
    return target


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_worker(tmp_path_factory.mktemp("worker") / "sanitized", *SANITIZERS)


@pytest.fixture(scope="session")
def plain_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_worker(tmp_path_factory.mktemp("worker") / "plain")


class Worker:
    """The program, its socket and its record."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        threads: int = 2,
        peer_uid: int = os.getuid(),
        request_max: int = 1 << 20,
        socket_timeout_ms: int = 5000,
        pass_descriptors: bool = False,
        maximum_requests: int = 0,
        under: tuple[str, ...] = (),
    ) -> None:
        self.path = str(folder / "socket")
        self.record = os.memfd_create("record")
        os.ftruncate(self.record, RECORD_SIZE)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(100)
        arguments = (
            threads, peer_uid, request_max, socket_timeout_ms, int(pass_descriptors),
            maximum_requests, self.record,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [*under, str(program), *map(str, arguments)], stdin=listener,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(self.record,),
        )  # fmt: skip
        listener.close()
        self.wait_for_event(0)

    def wait_for_event(self, event: int) -> None:
        assert self.process.stdout is not None
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            assert ready, f"event {event} did not come"
            line = self.process.stdout.readline()
            assert line, self.errors()
            if int(line) == event:
                return

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def connect(self) -> Peer:
        peer = Peer.connect(self.path)
        assert peer.greet(NUMBER, KEY) > 0
        return peer

    def running(self) -> set[int]:
        """Numbers in the record."""
        raw = os.pread(self.record, RECORD_SIZE, 0)
        return {number for number, _ in struct.iter_unpack("=QQ", raw[24:]) if number}

    def drain(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.wait_for_event(signal.SIGTERM)

    def close(self) -> str:
        """Ends it in good order, and returns what it wrote to descriptor 2."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=PATIENCE)
        os.close(self.record)
        assert self.process.returncode == 0, errors.decode()
        assert "Sanitizer" not in errors.decode()
        return errors.decode()


Start = Callable[..., Worker]


@pytest.fixture
def start(program: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts workers; each must end with 0 and no word of the sanitizers."""
    started: list[Worker] = []

    def one(**options: object) -> Worker:
        started.append(Worker(program, tmp_path, **options))  # type: ignore[arg-type]
        return started[-1]

    yield one
    for worker in started:
        with contextlib.suppress(OSError):
            os.fstat(worker.record)
            worker.close()


def request(
    number: int, behaviour: str, body: bytes = b"", *, script: str = "", ends: bool = True,
    flags: int = 0,
) -> Frame:  # fmt: skip
    block = wire.snapshot(
        number, {"REQUEST_METHOD": "GET"}, callable=behaviour, script=script, flags=flags
    )
    return wire.request(number, block, body, ends=ends)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        os.sched_yield()


# Hello.


def test_hello_is_answered_with_the_number_and_the_threads(start: Start) -> None:
    with Peer.connect(start(threads=3).path) as peer:
        assert peer.greet(NUMBER, KEY) == 3


@pytest.mark.parametrize(
    "frame",
    [
        wire.hello(NUMBER, b"K" + KEY[1:]),
        wire.hello(NUMBER, KEY[:-1] + b"K"),
        wire.hello(NUMBER + 1, KEY),
        wire.hello(NUMBER, KEY, version=2),
        request(1, "hello"),
        Frame(Type.GONE, 0),
        Frame(Type.GOODBYE),
        Frame(0),
        Frame(200),
        Frame(Type.HELLO, 0, b"short"),
        Frame(Type.HELLO, 1, bytes(wire.hello(NUMBER, KEY))[16:]),
    ],
    ids=lambda frame: f"{frame.type}-{len(frame.payload)}-{frame.number}",
)
def test_whatever_is_not_a_right_hello_is_closed_without_an_answer(
    start: Start, frame: Frame
) -> None:
    with Peer.connect(start().path) as peer:
        peer.send(frame)
        assert peer.is_closed()


def test_a_peer_of_another_user_is_closed_without_an_answer(start: Start) -> None:
    worker = start(peer_uid=os.getuid() + 1)
    with Peer.connect(worker.path) as peer:  # as the supervisor's user, who may only say LEAVE
        peer.send(wire.hello(NUMBER, KEY))
        assert peer.is_closed()
    assert "the peer broke the protocol" in worker.close()


# Responses.


def test_a_small_response_comes_as_head_body_and_end(start: Start) -> None:
    with start().connect() as peer:
        for number in (7, 8):
            answer = peer.ask(request(number, "hello"))
            assert answer.head == wire.Head(200, b"OK", ((b"Content-Type", b"text/plain"),), 13)
            assert answer.body == b"Hello, World!"
            assert answer.outcome == Outcome.COMPLETE
            assert [frame.type for frame in answer.frames] == [Type.HEAD, Type.BODY, Type.END]
            assert {frame.number for frame in answer.frames} == {number}


def test_a_large_body_comes_in_frames_within_the_bound(start: Start) -> None:
    with start().connect() as peer:
        answer = peer.ask(request(1, "large"))
    assert answer.body == bytes(i * 31 // 7 % 256 for i in range(1 << 20))
    assert all(len(frame.payload) <= wire.BODY_MAX for frame in answer.frames)


def test_a_head_larger_than_the_buffer_comes_whole(start: Start) -> None:
    with start().connect() as peer:
        answer = peer.ask(request(1, "large_head"))
    assert answer.head is not None
    assert answer.head.headers == ((b"X-Large", b"x" * 100000),)


def test_each_flush_is_a_frame_after_its_bytes(start: Start) -> None:
    with start().connect() as peer:
        kinds = [frame.type for frame in peer.ask(request(1, "stream")).frames]
    assert kinds == [Type.HEAD, *[Type.BODY, Type.FLUSH] * 3, Type.END]


def test_an_outcome_without_a_head_is_told_with_its_status(start: Start) -> None:
    with start().connect() as peer:
        unknown = peer.ask(request(1, "no such behaviour"))
        failing = peer.ask(request(2, "failing"))
    assert (unknown.outcome, unknown.status) == (Outcome.FAILED, 404)
    assert (failing.outcome, failing.status) == (Outcome.FAILED, 500)


def test_logs_keep_level_and_text_and_are_split_at_the_bound(start: Start) -> None:
    with start().connect() as peer:
        answer = peer.ask(request(1, "logs"))
    assert answer.logs[0] == (3, b"one line")
    assert b"".join(text for level, text in answer.logs[1:]) == b"l" * 600000
    assert [len(text) + 4 <= wire.BODY_MAX for _, text in answer.logs] == [True] * 4
    assert answer.body == b"Hello, World!"


# Request bodies.


def test_a_body_at_hand_is_read_without_asking(start: Start) -> None:
    with start().connect() as peer:
        answer = peer.ask(request(1, "echo", b"at hand"))
    assert answer.body == b"at hand"
    assert Type.READ not in [frame.type for frame in answer.frames]


def test_a_request_larger_than_the_first_read_arrives_whole(start: Start) -> None:
    body = os.urandom(300000)
    with start().connect() as peer:
        assert peer.ask(request(1, "echo", body)).body == body


def answer_reads(peer: Peer, number: int, blocks: list[tuple[bytes, Flag]]) -> wire.Answer:
    answer = wire.Answer()
    while answer.outcome is None:
        frame = peer.receive()
        wire.add(answer, frame)
        if frame.type == Type.READ:
            (credit,) = struct.unpack("=I", frame.payload)
            block, flags = blocks.pop(0)
            assert 0 < len(block) <= credit or flags
            peer.send(Frame(Type.BODY, number, block, flags))
    return answer


def test_more_of_the_body_is_asked_for_with_a_credit(start: Start) -> None:
    blocks = [(os.urandom(262144), Flag.NONE), (b"x", Flag.NONE), (b"end", Flag.BODY_END)]
    whole = b"".join(block for block, _ in blocks)
    with start().connect() as peer:
        peer.send(request(1, "echo", b"first", ends=False))
        answer = answer_reads(peer, 1, list(blocks))
    assert answer.body == b"first" + whole
    assert answer.outcome == Outcome.COMPLETE


def test_a_body_that_was_cut_short_is_an_error(start: Start) -> None:
    with start().connect() as peer:
        peer.send(request(1, "echo", b"first", ends=False))
        answer = answer_reads(peer, 1, [(b"", Flag.BODY_ERROR)])
    assert answer.outcome == Outcome.CUT


def test_a_body_that_nobody_asked_for_ends_the_connection(start: Start) -> None:
    worker = start()
    with worker.connect() as peer:
        peer.send(request(1, "endless", ends=False))
        assert peer.receive().type == Type.HEAD
        peer.send(Frame(Type.BODY, 1, b"unasked"))
        with pytest.raises((EOFError, ConnectionResetError)):
            peer.answer()
    with worker.connect() as peer:
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE
    assert "the peer broke the protocol" in worker.close()


# Files.


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(500010))
    return path


def open_file(peer: Peer, frame: Frame) -> wire.Answer:
    """The answer up to FILE."""
    answer = wire.Answer()
    peer.send(frame)
    while not answer.frames or answer.frames[-1].type != Type.FILE:
        answer.frames.append(peer.receive())
        wire.add(answer, answer.frames[-1])
    return answer


def test_a_file_is_pulled_by_ranges(start: Start, data: Path) -> None:
    with start().connect() as peer:
        answer = open_file(peer, request(1, "file", script=str(data)))
        assert answer.body == b"file: "
        assert struct.unpack("=QQ", answer.frames[-1].payload) == (10, 500000)
        got = b""
        for offset, length in ((0, 262144), (262144, 1), (262145, 237855)):
            peer.send(wire.pull(1, offset, length))
            frame = peer.receive()
            assert (frame.type, len(frame.payload)) == (Type.BODY, length)
            got += frame.payload
        peer.send(wire.pull(1, 0, 0))
        assert got == data.read_bytes()[10:]
        assert peer.answer().outcome == Outcome.COMPLETE
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_a_file_that_became_shorter_is_a_body_error_and_a_cut(start: Start, data: Path) -> None:
    with start().connect() as peer:
        open_file(peer, request(1, "file", script=str(data)))
        os.truncate(data, 1000)
        peer.send(wire.pull(1, 0, 1000))
        assert peer.receive() == Frame(Type.BODY, 1, b"", Flag.BODY_ERROR)
        peer.send(wire.pull(1, 0, 0))
        assert peer.answer().outcome == Outcome.CUT


@pytest.mark.parametrize("offset, length", [(500000, 1), (0, 262145), (2**64 - 1, 2), (499999, 2)])
def test_a_pull_beyond_the_announced_range_ends_the_connection(
    start: Start, data: Path, offset: int, length: int
) -> None:
    with start().connect() as peer:
        open_file(peer, request(1, "file", script=str(data)))
        peer.send(wire.pull(1, offset, length))
        assert peer.is_closed()


def test_a_client_that_leaves_during_a_file_frees_the_connection(start: Start, data: Path) -> None:
    with start().connect() as peer:
        open_file(peer, request(1, "file", script=str(data)))
        peer.send(Frame(Type.GONE, 1))
        assert peer.answer().outcome == Outcome.CUT
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_a_descriptor_is_passed_where_group_and_request_allow_it(start: Start, data: Path) -> None:
    with start(pass_descriptors=True).connect() as peer:
        answer = open_file(peer, request(1, "file", script=str(data), flags=wire.Request.SENDFILE))
        assert answer.frames[-1].flags == Flag.FILE_DESCRIPTOR
        fd = peer.receive_descriptor()
        assert peer.answer().outcome == Outcome.COMPLETE
        try:
            assert os.pread(fd, 100, 10) == data.read_bytes()[10:110]
            assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        finally:
            os.close(fd)


@pytest.mark.parametrize(
    "pass_descriptors, flags", [(True, 0), (False, int(wire.Request.SENDFILE))]
)
def test_no_descriptor_is_passed_where_group_or_request_forbids_it(
    start: Start, data: Path, pass_descriptors: bool, flags: int
) -> None:
    with start(pass_descriptors=pass_descriptors).connect() as peer:
        answer = open_file(peer, request(1, "file", script=str(data), flags=flags))
        assert answer.frames[-1].flags == 0
        peer.send(wire.pull(1, 0, 0))
        assert peer.answer().outcome == Outcome.COMPLETE


# Refusals, deadlines, clients that leave.


def test_a_request_beyond_the_threads_is_refused_and_the_connection_stays(
    start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start(threads=2)
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
    wait_until(lambda: worker.running() == set())
    for other in busy:
        other.close()


def test_one_thread_serves_two_connections_in_turn_without_a_refusal(start: Start) -> None:
    worker = start(threads=1)
    with worker.connect() as one, worker.connect() as other:
        for number in range(1, 200, 2):
            assert one.ask(request(number, "hello")).refused is None
            assert other.ask(request(number + 1, "hello")).refused is None


@pytest.mark.parametrize("size", [1, 15, 16, 20, 90])
def test_half_a_frame_has_a_deadline(start: Start, size: int) -> None:
    worker = start(socket_timeout_ms=100)
    with worker.connect() as peer:
        peer.socket.sendall(bytes(request(1, "hello"))[:size])
        assert peer.is_closed()
    with worker.connect() as peer:
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_a_frame_in_single_bytes_is_served(start: Start) -> None:
    with start().connect() as peer:
        for byte in bytes(request(1, "hello")):
            peer.socket.sendall(bytes([byte]))
        assert peer.answer().outcome == Outcome.COMPLETE


def test_a_request_beyond_the_bound_ends_the_connection(start: Start) -> None:
    with start(request_max=1000).connect() as peer:
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
def test_a_malformed_request_ends_the_connection(start: Start, payload: bytes, number: int) -> None:
    worker = start()
    with worker.connect() as peer:
        peer.send(Frame(Type.REQUEST, number, payload, Flag.BODY_END))
        assert peer.is_closed()
    with worker.connect() as peer:
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_after_gone_every_operation_fails_and_end_comes(start: Start) -> None:
    worker = start()
    with worker.connect() as peer:
        peer.send(request(1, "endless"))
        assert peer.receive().type == Type.HEAD
        peer.send(Frame(Type.GONE, 1))
        assert peer.answer().outcome == Outcome.CUT
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE
    assert "the client has left" in worker.close()


def test_a_child_that_dies_ends_its_request(start: Start) -> None:
    worker = start(threads=1)
    peer = worker.connect()
    peer.send(request(1, "endless"))
    assert peer.receive().type == Type.HEAD
    peer.close()
    wait_until(lambda: worker.running() == set())
    with worker.connect() as other:
        assert other.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_gone_that_crosses_the_end_does_no_harm(start: Start) -> None:
    with start().connect() as peer:
        for number in range(1, 50):
            peer.send(request(number, "hello"), Frame(Type.GONE, number))
            assert peer.answer().outcome is not None
        peer.send(Frame(Type.GONE, 49), wire.pull(49, 0, 0))
        assert peer.ask(request(50, "hello")).outcome == Outcome.COMPLETE


def test_a_child_that_does_not_read_is_left_after_the_timeout(start: Start) -> None:
    worker = start(threads=1, socket_timeout_ms=100)
    with worker.connect() as peer:
        peer.send(request(1, "large"))
        wait_until(lambda: worker.running() == {1})
        wait_until(lambda: worker.running() == set())
    assert "request 1: connection to httpd's child ended" in worker.close()


# Leaving.


def test_idle_connections_get_goodbye_and_new_ones_are_refused(start: Start) -> None:
    worker = start()
    with worker.connect() as peer, Peer.connect(worker.path) as silent:
        worker.drain()
        assert peer.receive() == Frame(Type.GOODBYE)
        assert peer.is_closed()
        assert silent.receive() == Frame(Type.GOODBYE)
        worker.wait_for_event(LEFT)
        with pytest.raises(ConnectionRefusedError):
            Peer.connect(worker.path)


def test_what_runs_is_finished_and_then_says_goodbye(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = start()
    with worker.connect() as peer, worker.connect() as idle:
        peer.send(request(1, "wait", script=str(gate)))
        assert peer.receive().type == Type.HEAD
        worker.drain()
        assert idle.receive() == Frame(Type.GOODBYE)
        gate.touch()
        assert peer.answer().outcome == Outcome.COMPLETE
        assert peer.receive() == Frame(Type.GOODBYE)
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


def test_a_request_that_meets_leaving_is_served_or_refused_or_untaken(start: Start) -> None:
    worker = start(threads=8)
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


def test_the_maximum_of_requests_is_told_once(start: Start) -> None:
    worker = start(maximum_requests=3)
    with worker.connect() as peer:
        for number in range(1, 6):
            assert peer.ask(request(number, "hello")).outcome == Outcome.COMPLETE
    worker.wait_for_event(MAXIMUM)
    worker.drain()
    worker.wait_for_event(LEFT)


# Forks.


def test_a_forked_child_holds_neither_wire_nor_listener(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = start()
    with worker.connect() as peer:
        assert peer.ask(request(1, "forking", script=str(gate))).outcome == Outcome.COMPLETE
        worker.drain()
        assert peer.receive() == Frame(Type.GOODBYE)
        assert peer.is_closed()
        with pytest.raises(ConnectionRefusedError):
            Peer.connect(worker.path)
    gate.touch()


def test_a_forked_child_that_comes_back_is_no_second_worker(start: Start) -> None:
    with start().connect() as peer:
        answer = peer.ask(request(1, "forking_back"))
        assert answer.body == b"Hello, World!"
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


# The budget.


def test_a_warm_small_request_costs_four_system_calls(plain_program: Path, tmp_path: Path) -> None:
    """DESIGN 4: epoll_wait, recv, sendmsg, epoll_ctl. Counted over a hundred requests."""
    trace = tmp_path / "trace"
    worker = Worker(plain_program, tmp_path, under=("strace", "-D", "-f", "-qq", "-o", str(trace)))
    with worker.connect() as peer:
        for number in range(1, 11):
            peer.ask(request(number, "hello"))
        before = len(trace.read_text().splitlines())
        for number in range(11, 111):
            peer.ask(request(number, "hello"))
        wait_until(lambda: worker.running() == set())
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
