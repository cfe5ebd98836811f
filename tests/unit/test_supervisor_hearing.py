# SPDX-License-Identifier: Apache-2.0
"""What a worker says comes in order and within its budget, and what is told to it waits for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from harness.world import group_plan

from pyglue.supervisor import process
from pyglue.supervisor.channel import MESSAGES_PER_SECOND, WORDS
from pyglue.supervisor.hearing import Calls, Hearing, Words
from pyglue.supervisor.launch import Recipe
from pyglue.supervisor.listeners import Listener
from pyglue.supervisor.logs import Logs
from pyglue.supervisor.loop import Loop

RECIPE = Recipe("/bin/true", None, ("true",), (), "/", group_plan(), False)


@dataclass
class Heard:
    """A worker that is no process, and what was heard of it."""

    words: list[Words] = field(default_factory=list)
    floods: int = 0
    silences: int = 0
    closes_at: int = 0  # the number of words at which the server has closed it

    def __post_init__(self) -> None:
        listener = Listener("", socket.socket(socket.AF_UNIX))
        self.worker, self.ends = process.make(1, RECIPE, b"", listener, 4096)
        self.loop = Loop({})
        self.hearing = Hearing(
            self.loop, Logs(2), Calls(self._hear, self._flood, self._end, self._give_up)
        )
        self.hearing.watch(self.worker)

    def _hear(self, _: process.Process, words: Words) -> None:
        self.words.append(words)
        if len(self.words) == self.closes_at:
            self.hearing.close(self.worker)

    def _flood(self, _: process.Process) -> None:
        self.floods += 1

    def _end(self, _: process.Process) -> None:
        self.silences += 1

    def _give_up(self, _: process.Process) -> None:
        raise AssertionError("its pipes can be read")

    def say(self, *words: Words) -> None:
        os.write(self.ends.messages, b"".join(WORDS.pack(*each) for each in words))

    def close(self) -> None:
        if not self.worker.is_closed:
            self.hearing.close(self.worker)
        self.worker.listener.release()
        self.ends.close()
        self.loop.close()


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    yield made
    made.close()


def numbered(count: int) -> list[Words]:
    return [(4, 0, number) for number in range(count)]


def test_messages_are_told_in_their_order(heard: Heard) -> None:
    heard.say(*numbered(3))
    heard.loop.turn(1)
    assert heard.words == numbered(3) and heard.floods == 0


def test_who_says_too_much_rests_until_it_is_woken(heard: Heard) -> None:
    words = numbered(3 * MESSAGES_PER_SECOND)
    heard.say(*words)
    while not heard.floods:
        heard.loop.turn(1)
    heard.loop.turn(0)
    before = len(heard.words)
    assert MESSAGES_PER_SECOND <= before < len(words) and heard.floods == 1
    heard.hearing.wake()
    heard.loop.turn(1)
    assert before < len(heard.words) and heard.words == words[: len(heard.words)]


def test_nothing_is_told_of_a_worker_that_its_own_word_has_ended(heard: Heard) -> None:
    heard.closes_at = 2
    heard.say(*numbered(5))
    heard.loop.turn(1)
    assert heard.words == numbered(2)


def test_the_end_of_its_messages_is_told_once(heard: Heard) -> None:
    os.dup2(heard.ends.log_write, heard.ends.messages)
    heard.loop.turn(1)
    heard.loop.turn(0)
    assert heard.silences == 1


def test_what_a_full_pipe_does_not_take_follows(heard: Heard) -> None:
    text = bytes(range(256)) * 1024
    heard.hearing.tell(heard.worker, text)
    assert heard.worker.unsent
    came = b""
    while len(came) < len(text):
        came += os.read(heard.ends.control, 1 << 16)
        heard.loop.turn(0)
    assert came == text and not heard.loop.is_watched(heard.worker.control)
