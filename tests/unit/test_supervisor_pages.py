# SPDX-License-Identifier: Apache-2.0
"""What children are told of workers and groups fits into the memory."""

from __future__ import annotations

import os

import pytest

from pyglue import _pages
from pyglue.supervisor.actions import GroupState
from pyglue.supervisor.pages import CAUSE_MAX, READY, Entry, Pages

DIGEST = b"d" * 20
KEY = bytes(32)


class Memory:
    """What was put."""

    def put_group(self, slot: int, digest: bytes, state: int, cause: str) -> None:
        self.cause = cause


def told(cause: str) -> str:
    memory = Memory()
    Pages(memory).tell_group(DIGEST, GroupState.DISABLED, cause)  # type: ignore[arg-type]
    return memory.cause


def test_a_cause_that_fits_is_told_as_it_is() -> None:
    assert told("x" * CAUSE_MAX) == "x" * CAUSE_MAX


@pytest.mark.parametrize("length", range(1, 12))
def test_a_longer_cause_ends_after_a_whole_word_with_three_dots(length: int) -> None:
    word = "w" * length
    cut = told(" ".join([word] * CAUSE_MAX))
    assert cut.endswith("...") and CAUSE_MAX - length - 1 <= len(cut) <= CAUSE_MAX
    assert set(cut[:-3].split(" ")) == {word}


def test_a_word_that_is_longer_than_the_place_is_cut_between_characters() -> None:
    assert told("\u00fc" * CAUSE_MAX) == "\u00fc" * ((CAUSE_MAX - 3) // 2) + "..."


def test_a_full_memory_has_room_for_the_first_worker_that_replaces_orphans() -> None:
    """A supervisor died while as many workers served as there may be."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.ftruncate(fd, _pages.size_pages())
    memory = _pages.map(fd, True)
    os.close(fd)
    memory.init()
    others = b"o" * 20
    for slot in range(_pages.WORKER_SLOTS):
        digest = DIGEST if slot == 7 else others
        memory.put_worker(slot, 1 << 32 | slot + 1, digest, READY, 1, b"/s", KEY)
    pages = Pages(memory)
    pages.adopt(_pages.WORKER_SLOTS, _pages.GROUP_SLOTS)
    pages.publish(Entry(2 << 32 | 1, DIGEST, 1, b"/t", KEY))
    read = [memory.read_worker(slot) for slot in range(_pages.WORKER_SLOTS)]
    of_group = [worker[0] for worker in read if worker is not None and worker[1] == DIGEST]
    assert of_group == [2 << 32 | 1]
    pages.publish(Entry(2 << 32 | 2, b"n" * 20, 1, b"/u", KEY))
    assert pages.slot_of_worker(2 << 32 | 2) is not None
