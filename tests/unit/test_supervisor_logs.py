# SPDX-License-Identifier: Apache-2.0
"""What workers write to descriptors 1 and 2 is text of a stranger."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import pytest

from pyglue.supervisor import messages
from pyglue.supervisor.logs import LAST_LINES, LINE_MAX, ErrorLog, Lines, Logs, Rate, escape

DIGEST = b"d" * 20


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    os.close(read)


def test_control_characters_are_escaped_and_other_text_is_not() -> None:
    assert (
        escape("caf\u00e9\t\x1b[2J\r\x9b".encode() + b"\xff\0")
        == "caf\u00e9\t\\x1b[2J\\x0d\\x9b\\xff\\x00"
    )


def test_stream_is_cut_into_lines_whatever_the_reads() -> None:
    lines = Lines()
    assert lines.feed(b"on") == []
    assert lines.feed(b"e\ntwo\nth") == [b"one", b"two"]
    assert lines.end() == [b"th"]


def test_line_without_end_is_cut_and_not_kept() -> None:
    lines = Lines()
    assert lines.feed(b"x" * (3 * LINE_MAX)) == [b"x" * LINE_MAX] * 2
    assert lines.feed(b"\n") == [b"x" * LINE_MAX]


@pytest.mark.parametrize("rate", [Rate(), Rate(a_second=7, burst=11)])
def test_flood_is_dropped_and_counted(pipe: tuple[int, int], rate: Rate) -> None:
    read, write = pipe
    logs = Logs(2)
    logs.assign(DIGEST, "shop", ErrorLog(write), messages.Level.WARNING, rate)
    logs.worker_said(DIGEST, 5, [b"x"] * (rate.burst + 300), 100.0)
    logs.worker_said(DIGEST, 5, [b"later"] * (rate.a_second + 5), 101.0)
    written = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.read(read, 1 << 20)
    lines = written.splitlines()
    taken = [line for line in lines if line.endswith((b"x", b"later"))]
    logs.tick()
    said = os.read(read, 1 << 20).decode()
    assert sum(line.endswith(b"later") for line in taken) <= rate.a_second
    assert len(taken) <= rate.burst + rate.a_second
    lost = rate.burst + 300 + rate.a_second + 5 - len(taken)
    assert f"PG1111: process group 'shop': {lost} lines of its workers were dropped" in said
    assert f"more than {rate.a_second} a second" in said


def test_a_line_of_our_own_is_no_longer_than_a_log_takes_at_once(pipe: tuple[int, int]) -> None:
    """A fork bomb leaves many to be named."""
    logs = Logs(2)
    logs.assign(DIGEST, "shop", ErrorLog(pipe[1]), messages.Level.WARNING)
    logs.say(messages.SURVIVORS, {"count": 50_000, "pids": list(range(50_000))}, DIGEST)
    said = os.read(pipe[0], 1 << 20)
    assert b"PG1005: process group 'shop': 50000 processes" in said and said.endswith(b"\n")
    assert said.count(b"\n") == 1 and len(said) < 3 * LINE_MAX


def test_full_pipe_of_a_dead_logger_does_not_block(pipe: tuple[int, int]) -> None:
    log = ErrorLog(pipe[1])
    while log.write(messages.Level.ERR, 1, "x" * 1000):
        pass
    assert not log.write(messages.Level.ERR, 1, "x" * 1000)
    log.close()


def test_a_line_of_which_a_part_was_taken_is_not_continued_by_the_next(
    pipe: tuple[int, int],
) -> None:
    """Else a tenant's long line hides what another group's workers, or the supervisor, say."""
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    log = ErrorLog(pipe[1])
    assert not log.write(messages.Level.ERR, 5, "y" * LINE_MAX * 4)
    assert b"\n" not in os.read(pipe[0], 1 << 20)
    assert log.write(messages.Level.ERR, 6, "next")
    assert log.write(messages.Level.ERR, 6, "last")
    first, *others = os.read(pipe[0], 1 << 20).splitlines()
    assert first == b""
    assert [line.split()[-1] for line in others] == [b"next", b"last"]


def test_lines_below_the_servers_level_are_not_written(pipe: tuple[int, int]) -> None:
    logs = Logs(2)
    logs.assign(DIGEST, "shop", ErrorLog(pipe[1]), messages.Level.WARNING)
    logs.say(messages.WORKER_READY, {"number": 1}, DIGEST)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 100)


def test_last_words_come_though_the_worker_wrote_too_much_before(pipe: tuple[int, int]) -> None:
    read, write = pipe
    logs = Logs(2)
    logs.assign(DIGEST, "shop", ErrorLog(write), messages.Level.WARNING)
    logs.worker_said(DIGEST, 5, [b""] * (Rate().burst + 300), 100.0)
    while len(os.read(read, 1 << 20)) == 1 << 20:
        pass
    dump = [b"dump %d" % i for i in range(LAST_LINES + 5)]
    logs.worker_said(DIGEST, 5, dump, 100.0, are_last=True)
    said = os.read(read, 1 << 20).decode().splitlines()
    assert [line.rpartition(" ")[2] for line in said] == [str(i) for i in range(5, LAST_LINES + 5)]
