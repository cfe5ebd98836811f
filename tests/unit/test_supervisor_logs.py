# SPDX-License-Identifier: Apache-2.0
"""What workers write to descriptors 1 and 2 is text of a stranger."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pyglue.supervisor import messages
from pyglue.supervisor.logs import BURST, LINE_MAX, ErrorLog, Lines, Logs, escape

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


def test_flood_is_dropped_and_counted(tmp_path: object, pipe: tuple[int, int]) -> None:
    read, write = pipe
    logs = Logs(2)
    logs.assign(DIGEST, "shop", ErrorLog(write), messages.Level.WARNING)
    logs.worker_said(DIGEST, 5, [b""] * (BURST + 300), 100.0)
    os.set_blocking(read, False)
    while len(os.read(read, 1 << 20)) == 1 << 20:
        pass
    logs.tick()
    said = os.read(read, 1 << 20).decode()
    assert "PG1111" in said and "lines of its workers were dropped" in said


def test_full_pipe_of_a_dead_logger_does_not_block(pipe: tuple[int, int]) -> None:
    log = ErrorLog(pipe[1])
    while log.write(messages.Level.ERR, 1, "x" * 1000):
        pass
    assert not log.write(messages.Level.ERR, 1, "x" * 1000)
    log.close()


def test_lines_below_the_servers_level_are_not_written(pipe: tuple[int, int]) -> None:
    logs = Logs(2)
    logs.assign(DIGEST, "shop", ErrorLog(pipe[1]), messages.Level.WARNING)
    logs.say(messages.WORKER_READY, {"number": 1}, DIGEST)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 100)
