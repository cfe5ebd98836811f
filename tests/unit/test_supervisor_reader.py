# SPDX-License-Identifier: Apache-2.0
"""The thread that reads pipes of tenants: what it answers, and what becomes of one that is kept.

What keeps it in truth is a page of a file system that does not answer; here it is an empty pipe,
and a kernel that says the thread is asleep."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from harness.client import wait_until

from pyglue.supervisor.reader import Reader, UnreadableError, is_asleep

UID = 4242


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_what_is_there_is_read(pipe: tuple[int, int]) -> None:
    reader = Reader()
    os.write(pipe[1], b"abc")
    assert reader.read(pipe[0], 2, UID) == b"ab"
    assert reader.read(pipe[0], 2, UID) == b"c"


def test_nothing_and_end_of_file_are_told_apart(pipe: tuple[int, int]) -> None:
    reader = Reader()
    os.set_blocking(pipe[0], False)
    assert reader.read(pipe[0], 2, UID) is None
    with open(os.devnull, "rb") as nothing:
        assert reader.read(nothing.fileno(), 2, UID) == b""


def test_an_error_is_no_end_of_its_caller() -> None:
    folder = os.open("/", os.O_RDONLY)
    with pytest.raises(UnreadableError):
        Reader().read(folder, 1, UID)
    os.close(folder)


def test_one_that_is_kept_is_left_behind_and_another_reads(pipe: tuple[int, int]) -> None:
    reader = Reader(is_stuck=lambda _: True, look=0.01)
    with pytest.raises(UnreadableError):
        reader.read(pipe[0], 2, UID)
    other, write = os.pipe()
    os.write(write, b"else")
    assert reader.read(other, 4, UID) == b"else"
    assert (reader.kept(UID), reader.kept(UID + 1)) == (1, 0)
    os.write(pipe[1], b"late")  # it comes back, and ends: what it read goes nowhere
    wait_until(lambda: reader.kept(UID) == 0, "it has ended")
    os.write(write, b"more")
    assert reader.read(other, 4, UID) == b"more"
    os.close(other)
    os.close(write)


def test_where_no_thread_is_to_be_had_there_is_nothing_until_there_is_one(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant's processes may use up all that our service may have."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reader = Reader(is_stuck=lambda _: True, look=0.01)
    with pytest.raises(UnreadableError):
        reader.read(pipe[0], 3, UID)
    other, write = os.pipe()
    os.write(write, b"abc")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert reader.read(other, 3, UID) is None
    assert reader.read(other, 3, UID) == b"abc"
    os.write(pipe[1], b"late")
    os.close(other)
    os.close(write)


def test_one_that_only_waits_for_the_processor_is_waited_for(pipe: tuple[int, int]) -> None:
    looks = []

    def is_stuck(_: int) -> bool:
        looks.append(time.monotonic())
        if len(looks) == 5:
            os.write(pipe[1], b"at last")
        return len(looks) % 3 == 0  # never often enough in a row

    assert Reader(is_stuck, look=0.01).read(pipe[0], 7, UID) == b"at last"


def test_a_thread_that_runs_or_cannot_be_seen_is_not_asleep() -> None:
    assert not is_asleep(os.getpid())
    assert not is_asleep(0)
