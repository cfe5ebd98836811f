# SPDX-License-Identifier: Apache-2.0
"""What waits and runs is read from the rows by the slots of the pages, and believed by nobody."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from process.standin import ROWS, _init_rows

from pyglue import _pages
from pyglue.supervisor.actions import GroupState
from pyglue.supervisor.demand import Demand
from pyglue.supervisor.pages import Entry, Pages

SHOP, BLOG = b"shop".ljust(20), b"blog".ljust(20)
NUMBER = (7 << 32) | 9
CELLS = (16 + 8 * _pages.GROUP_SLOTS + ROWS * 24 + 63) & ~63


class Memories:
    """Pages in which SHOP is the second group, with a worker, and rows as children write them."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("rows")
        os.ftruncate(self.fd, _pages.size_rows(ROWS))
        _init_rows(self.fd)
        self.pages_fd = os.memfd_create("pages")
        os.ftruncate(self.pages_fd, _pages.size_pages())
        memory = _pages.map(self.pages_fd, True)
        memory.init()
        pages = Pages(memory)
        for digest in (BLOG, SHOP):
            pages.tell_group(digest, GroupState.SERVING, "")
        pages.publish(Entry(NUMBER, SHOP, 4, b"/socket", bytes(32)))
        self.demand = Demand(_pages.rows(self.fd), pages)

    def put(self, column: int, row: int, tag: int, count: int) -> None:
        """A cell: 48 bits of the tag, then the count."""
        word = (tag << 16 | count) & (1 << 64) - 1
        os.pwrite(self.fd, struct.pack("=Q", word), CELLS + 8 * (column * ROWS + row))

    def wait(self, row: int, digest: bytes, count: int, slot: int = 1) -> None:
        self.put(_pages.WORKER_SLOTS + slot, row, int.from_bytes(digest[:8], "little"), count)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.pages_fd)


@pytest.fixture
def memories() -> Iterator[Memories]:
    made = Memories()
    yield made
    made.close()


def test_what_waits_and_runs_is_summed_over_all_children(memories: Memories) -> None:
    memories.wait(0, SHOP, 2)
    memories.wait(5, SHOP, 3)
    memories.put(0, 1, NUMBER, 4)
    load = memories.demand.loads({SHOP: [NUMBER], BLOG: []})
    assert (load[SHOP].waiting, load[SHOP].running) == (5, 4)
    assert (load[BLOG].waiting, load[BLOG].running) == (0, 0)
    assert memories.demand.requests(SHOP, NUMBER) == 9


def test_cells_of_who_had_the_slot_before_count_for_nobody(memories: Memories) -> None:
    memories.wait(0, BLOG, 7)
    memories.put(0, 1, NUMBER - 1, 4)
    load = memories.demand.loads({SHOP: [NUMBER]})
    assert (load[SHOP].waiting, load[SHOP].running) == (0, 0)


def test_group_that_is_in_no_page_has_no_load(memories: Memories) -> None:
    assert memories.demand.loads({b"none".ljust(20): [1]}) == {}


def test_rows_that_cannot_be_read_start_nothing_and_stop_nothing(memories: Memories) -> None:
    os.ftruncate(memories.fd, 8)
    assert memories.demand.loads({SHOP: [NUMBER]}) == {}
    assert memories.demand.requests(SHOP, NUMBER) == 1


@pytest.mark.parametrize("name", [b"short", "text", -1, None])
def test_a_name_of_another_kind_is_an_error(memories: Memories, name: object) -> None:
    rows = _pages.rows(memories.fd)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        rows.levels([(0, name)])  # type: ignore[list-item]
    with pytest.raises(IndexError):
        rows.levels([(_pages.WORKER_SLOTS, 1)])
