# SPDX-License-Identifier: Apache-2.0
"""What a worker says on a connection: docs/wire.md.

With a fake engine and a fake httpd child, under the address and undefined behaviour sanitizers."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from harness import wire
from harness.wire import Flag, Frame, Outcome, Peer, Type
from harness.worker import KEY, NUMBER, Start, request

# Hello.


def test_hello_is_answered_with_the_number_and_the_threads(start_worker: Start) -> None:
    with Peer.connect(start_worker(threads=3).path) as peer:
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
    start_worker: Start, frame: Frame
) -> None:
    with Peer.connect(start_worker().path) as peer:
        peer.send(frame)
        assert peer.is_closed()


def test_a_peer_of_another_user_is_closed_without_an_answer(start_worker: Start) -> None:
    worker = start_worker(peer_uid=os.getuid() + 1)
    with Peer.connect(worker.path) as peer:  # as the supervisor's user, who may only say LEAVE
        peer.send(wire.hello(NUMBER, KEY))
        assert peer.is_closed()
    assert "the peer broke the protocol" in worker.close()


# Responses.


def test_a_small_response_comes_as_head_body_and_end(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        for number in (7, 8):
            answer = peer.ask(request(number, "hello"))
            assert answer.head == wire.Head(200, b"OK", ((b"Content-Type", b"text/plain"),), 13)
            assert answer.body == b"Hello, World!"
            assert answer.outcome == Outcome.COMPLETE
            assert [frame.type for frame in answer.frames] == [Type.HEAD, Type.BODY, Type.END]
            assert {frame.number for frame in answer.frames} == {number}


def test_a_large_body_comes_in_frames_within_the_bound(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        answer = peer.ask(request(1, "large"))
    assert answer.body == bytes(i * 31 // 7 % 256 for i in range(1 << 20))
    assert all(len(frame.payload) <= wire.BODY_MAX for frame in answer.frames)


def test_a_head_larger_than_the_buffer_comes_whole(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        answer = peer.ask(request(1, "large_head"))
    assert answer.head is not None
    assert answer.head.headers == ((b"X-Large", b"x" * 100000),)


def test_each_flush_is_a_frame_after_its_bytes(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        kinds = [frame.type for frame in peer.ask(request(1, "stream")).frames]
    assert kinds == [Type.HEAD, *[Type.BODY, Type.FLUSH] * 3, Type.END]


@pytest.mark.parametrize(
    ("allowed", "told"),
    [
        (0, "PYGLUE_E_STATE PYGLUE_E_STATE PYGLUE_E_STATE PYGLUE_E_STATE"),
        (1, "PYGLUE_E_HEAD PYGLUE_OK PYGLUE_E_STATE PYGLUE_E_STATE"),
        (4, "PYGLUE_E_HEAD PYGLUE_OK PYGLUE_OK PYGLUE_E_STATE"),
    ],
)
def test_interim_heads_are_sent_before_the_head_as_often_as_the_request_allows(
    start_worker: Start, allowed: int, told: str
) -> None:
    interim = wire.Head(103, b"Early Hints", ((b"Link", b"</a>"),))
    with start_worker().connect() as peer:
        for number in (1, 2):  # each request has its own
            answer = peer.ask(request(number, "hints", flags=allowed * wire.Request.INTERIM))
            assert answer.body.decode() == told
            assert answer.interims == [interim] * told.count("PYGLUE_OK")
            kinds = [frame.type for frame in answer.frames]
            assert kinds == [*[Type.INTERIM] * len(answer.interims), Type.HEAD, Type.BODY, Type.END]


def test_an_interim_head_is_sent_at_once(start_worker: Start, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    asked = request(1, "hint_and_wait", script=str(go_on), flags=int(wire.Request.INTERIM))
    with start_worker().connect() as peer:
        peer.send(asked)
        assert peer.receive().type == Type.INTERIM
        go_on.touch()
        answer = peer.answer()
    assert (answer.body, answer.outcome) == (b"Hello, World!", Outcome.COMPLETE)


def test_an_outcome_without_a_head_is_told_with_its_status(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        unknown = peer.ask(request(1, "no such behaviour"))
        failing = peer.ask(request(2, "failing"))
    assert (unknown.outcome, unknown.status) == (Outcome.FAILED, 404)
    assert (failing.outcome, failing.status) == (Outcome.FAILED, 500)


def test_logs_keep_level_and_text_and_are_split_at_the_bound(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        answer = peer.ask(request(1, "logs"))
    assert answer.logs[0] == (3, b"one line")
    assert b"".join(text for level, text in answer.logs[1:]) == b"l" * 600000
    assert [len(text) + 4 <= wire.BODY_MAX for _, text in answer.logs] == [True] * 4
    assert answer.body == b"Hello, World!"


# Request bodies.


def test_a_body_at_hand_is_read_without_asking(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        answer = peer.ask(request(1, "echo", b"at hand"))
    assert answer.body == b"at hand"
    assert Type.READ not in [frame.type for frame in answer.frames]


def test_a_request_larger_than_the_first_read_arrives_whole(start_worker: Start) -> None:
    body = os.urandom(300000)
    with start_worker().connect() as peer:
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


def test_more_of_the_body_is_asked_for_with_a_credit(start_worker: Start) -> None:
    blocks = [(os.urandom(262144), Flag.NONE), (b"x", Flag.NONE), (b"end", Flag.BODY_END)]
    whole = b"".join(block for block, _ in blocks)
    with start_worker().connect() as peer:
        peer.send(request(1, "echo", b"first", ends=False))
        answer = answer_reads(peer, 1, list(blocks))
    assert answer.body == b"first" + whole
    assert answer.outcome == Outcome.COMPLETE


def test_a_body_that_was_cut_short_is_an_error(start_worker: Start) -> None:
    with start_worker().connect() as peer:
        peer.send(request(1, "echo", b"first", ends=False))
        answer = answer_reads(peer, 1, [(b"", Flag.BODY_ERROR)])
    assert answer.outcome == Outcome.CUT


def test_a_body_that_nobody_asked_for_ends_the_connection(start_worker: Start) -> None:
    worker = start_worker()
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


def test_a_file_is_pulled_by_ranges(start_worker: Start, data: Path) -> None:
    with start_worker().connect() as peer:
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


def test_a_file_that_became_shorter_is_a_body_error_and_a_cut(
    start_worker: Start, data: Path
) -> None:
    with start_worker().connect() as peer:
        open_file(peer, request(1, "file", script=str(data)))
        os.truncate(data, 1000)
        peer.send(wire.pull(1, 0, 1000))
        assert peer.receive() == Frame(Type.BODY, 1, b"", Flag.BODY_ERROR)
        peer.send(wire.pull(1, 0, 0))
        assert peer.answer().outcome == Outcome.CUT


@pytest.mark.parametrize("offset, length", [(500000, 1), (0, 262145), (2**64 - 1, 2), (499999, 2)])
def test_a_pull_beyond_the_announced_range_ends_the_connection(
    start_worker: Start, data: Path, offset: int, length: int
) -> None:
    with start_worker().connect() as peer:
        open_file(peer, request(1, "file", script=str(data)))
        peer.send(wire.pull(1, offset, length))
        assert peer.is_closed()


def test_a_client_that_leaves_during_a_file_frees_the_connection(
    start_worker: Start, data: Path
) -> None:
    with start_worker().connect() as peer:
        open_file(peer, request(1, "file", script=str(data)))
        peer.send(Frame(Type.GONE, 1))
        assert peer.answer().outcome == Outcome.CUT
        assert peer.ask(request(2, "hello")).outcome == Outcome.COMPLETE


def test_a_descriptor_is_passed_where_group_and_request_allow_it(
    start_worker: Start, data: Path
) -> None:
    with start_worker(pass_descriptors=True).connect() as peer:
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
    start_worker: Start, data: Path, pass_descriptors: bool, flags: int
) -> None:
    with start_worker(pass_descriptors=pass_descriptors).connect() as peer:
        answer = open_file(peer, request(1, "file", script=str(data), flags=flags))
        assert answer.frames[-1].flags == 0
        peer.send(wire.pull(1, 0, 0))
        assert peer.answer().outcome == Outcome.COMPLETE
