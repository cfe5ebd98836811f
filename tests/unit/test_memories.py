# SPDX-License-Identifier: Apache-2.0
"""pyglue._pages: what the supervisor writes into pages and believes of rows and records."""

import os
import random
import struct
from collections.abc import Iterator

import pytest

from pyglue import _pages

DIGEST = bytes(range(20))
KEY = bytes(range(32))
MAGIC, VERSION = 0x70796C67, 2
ROWS_HEAD = 16 + 8 * 512  # PYGLUE_GROUP_SLOTS


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def pages(memory: int) -> _pages.Pages:
    os.ftruncate(memory, _pages.size_pages())
    made = _pages.map(memory, True)
    made.init()
    return made


def rows_of(memory: int, *children: tuple[int, int], count: int = 4) -> None:
    """Rows as httpd's parent lays them out (placement.c): head, what groups spent, then pid and
    listed child each."""
    os.ftruncate(memory, _pages.size_rows(4))
    os.pwrite(memory, struct.pack("=IIII", MAGIC, VERSION, count, 0), 0)
    for place, (pid, plan) in enumerate(children):
        os.pwrite(memory, struct.pack("=iiQii", 0, 0, plan, pid, 0), ROWS_HEAD + 24 * place)


RECORD_1 = 24 + 16 * 1024  # size of a record of version 1


def record_of(memory: int, version: int, slots: int, *numbers: int) -> None:
    os.ftruncate(memory, _pages.size_record())
    os.pwrite(memory, struct.pack("=IIQQ", version, slots, 9, 2), 0)
    for place, number in enumerate(numbers):
        os.pwrite(memory, struct.pack("=QQ", number, 1), 24 + 16 * place)


def test_a_reader_sees_a_published_worker_whole(memory: int, pages: _pages.Pages) -> None:
    pages.put_worker(3, 1 << 32 | 7, DIGEST, _pages.WORKER_READY, 15, b"/run/s", KEY)
    reader = _pages.map(memory, False)
    assert reader.check()
    assert reader.read_worker(3) == (1 << 32 | 7, DIGEST, _pages.WORKER_READY, 15, b"/run/s", KEY)


def test_a_cleared_worker_is_gone(pages: _pages.Pages) -> None:
    pages.put_worker(3, 7, DIGEST, _pages.WORKER_READY, 15, b"/run/s", KEY)
    pages.clear_worker(3)
    assert pages.read_worker(3) is None


def test_a_group_is_found_by_digest_until_cleared(pages: _pages.Pages) -> None:
    pages.put_group(0, DIGEST, _pages.GROUP_DISABLED, "no engine")
    assert pages.read_group(DIGEST) == (_pages.GROUP_DISABLED, "no engine")
    pages.clear_group(0)
    assert pages.read_group(DIGEST) is None


def test_a_cause_is_cut_between_characters(pages: _pages.Pages) -> None:
    pages.put_group(0, DIGEST, _pages.GROUP_DISABLED, "ä" * 100)
    assert pages.read_group(DIGEST) == (_pages.GROUP_DISABLED, "ä" * 47)


def test_an_obituary_lists_what_had_started(pages: _pages.Pages) -> None:
    pages.put_obituary(7, True, [11, 12], "killed by SIGSEGV")
    assert pages.find_obituary(7) == (True, [11, 12], "killed by SIGSEGV")
    assert pages.find_obituary(8) is None


def test_an_obituary_of_more_requests_than_fit_is_not_complete(pages: _pages.Pages) -> None:
    pages.put_obituary(7, True, range(1, _pages.OBITUARY_REQUESTS + 2), "exited")
    found = pages.find_obituary(7)
    assert found is not None
    assert not found[0]
    assert len(found[1]) == _pages.OBITUARY_REQUESTS


def test_plan_and_heartbeat_are_told(pages: _pages.Pages) -> None:
    pages.put_plan(7, 6)
    pages.heartbeat(1234)
    assert pages.read_plan() == (7, 6, 1234)


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (IndexError, lambda p: p.put_worker(512, 1, DIGEST, 1, 1, b"", KEY)),
        (IndexError, lambda p: p.clear_worker(512)),
        (IndexError, lambda p: p.put_group(512, DIGEST, 1, "")),
        (IndexError, lambda p: p.clear_group(512)),
        (ValueError, lambda p: p.put_worker(0, 0, DIGEST, 1, 1, b"", KEY)),
        (ValueError, lambda p: p.put_worker(0, 1, DIGEST[1:], 1, 1, b"", KEY)),
        (ValueError, lambda p: p.put_worker(0, 1, DIGEST, 1, 1, b"x" * 108, KEY)),
        (ValueError, lambda p: p.put_worker(0, 1, DIGEST, 1, 1, b"", KEY + b"x")),
        (ValueError, lambda p: p.read_group(b"")),
        (OverflowError, lambda p: p.put_obituary(1, True, [-1], "")),
        (TypeError, lambda p: p.put_obituary(1, True, 5, "")),
    ],
)
def test_a_value_out_of_range_is_refused(pages: _pages.Pages, error: type, call: object) -> None:
    with pytest.raises(error):
        call(pages)  # type: ignore[operator]


def test_a_read_only_mapping_cannot_be_written(memory: int, pages: _pages.Pages) -> None:
    with pytest.raises(PermissionError):
        _pages.map(memory, False).heartbeat(1)


def test_memory_that_is_too_small_is_not_mapped(memory: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        _pages.map(memory, True)


def test_memory_never_made_pages_is_not_of_this_layout(memory: int) -> None:
    os.ftruncate(memory, _pages.size_pages())
    assert not _pages.map(memory, False).check()


def test_rows_list_the_children_of_httpd_with_their_plans(memory: int) -> None:
    rows_of(memory, (100, 1), (0, 0), (102, 2))
    rows = _pages.rows(memory)
    assert rows.check()
    assert rows.children() == [(100, 1), (102, 2)]


def test_rows_sum_the_cells_of_one_worker(memory: int) -> None:
    rows_of(memory)
    cells = -(-(ROWS_HEAD + 4 * 24) // 64) * 64
    for row, word in enumerate([7 << 16 | 2, 8 << 16 | 9, 7 << 16 | 1]):
        os.pwrite(memory, struct.pack("=Q", word), cells + 8 * (5 * 4 + row))
    assert _pages.rows(memory).sum(5, 7) == 3


def test_rows_whose_count_was_forged_are_refused(memory: int) -> None:
    rows_of(memory)
    rows = _pages.rows(memory)
    rows_of(memory, count=0xFFFFFFFF)
    assert not rows.check()
    with pytest.raises(ValueError, match="layout"):
        rows.children()


def test_rows_that_were_shrunk_are_refused_and_kill_nobody(memory: int) -> None:
    rows_of(memory)
    rows = _pages.rows(memory)
    os.ftruncate(memory, 20)
    with pytest.raises(ValueError, match="layout"):
        rows.sum(0, 1)


def text_of(memory: int, slot: int, name: bytes, line: bytes, sizes: tuple[int, int]) -> None:
    os.pwrite(memory, struct.pack("=HH44s160s", *sizes, name, line), RECORD_1 + 8 + 208 * slot)


def test_a_record_tells_what_runs(memory: int) -> None:
    record_of(memory, 2, 3, 11, 0, 13)
    text_of(memory, 0, b"aBc", b"GET /a", (3, 6))
    text_of(memory, 1, b"x", b"ended", (1, 5))
    text_of(memory, 2, b"y" * 44, b"z" * 160, (0xFFFF, 0xFFFF))  # a lie is cut
    os.pwrite(memory, struct.pack("=I", _pages.ENDING_STARTUP), RECORD_1)
    assert _pages.read_record(memory) == (
        *(3, 9, 2, _pages.ENDING_STARTUP),
        [(11, 1, b"aBc", b"GET /a"), (13, 1, b"y" * 44, b"z" * 160)],
    )


@pytest.mark.parametrize("is_small", [False, True])
def test_a_record_of_an_older_worker_tells_numbers(memory: int, is_small: bool) -> None:
    record_of(memory, 1, 3, 11, 0, 13)
    if is_small:
        os.ftruncate(memory, RECORD_1)
    else:
        text_of(memory, 0, b"aBc", b"GET /a", (3, 6))
    assert _pages.read_record(memory) == (3, 9, 2, 0, [(11, 1, b"", b""), (13, 1, b"", b"")])


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_in_a_record_are_cut_or_refused(memory: int, seed: int) -> None:
    """RELIABILITY B1#14. Version and slots are sound in half of them, so that the rest is read."""
    noise = random.Random(seed)
    os.ftruncate(memory, _pages.size_record())
    os.pwrite(memory, noise.randbytes(_pages.size_record()), 0)
    if seed % 2:
        os.pwrite(memory, struct.pack("=II", 2, noise.randrange(1025)), 0)
    try:
        slots, *_, running = _pages.read_record(memory)
    except ValueError:
        return
    assert len(running) <= slots <= _pages.RECORD_SLOTS
    for _, _, name, line in running:
        assert len(name) <= _pages.RECORD_ID and len(line) <= _pages.RECORD_LINE


@pytest.mark.parametrize(("version", "slots"), [(0, 3), (3, 3), (1, 1025), (2, 0xFFFFFFFF)])
def test_a_record_out_of_range_is_refused(memory: int, version: int, slots: int) -> None:
    record_of(memory, version, slots, 11)
    with pytest.raises(ValueError, match="record"):
        _pages.read_record(memory)


def test_a_record_cut_short_is_refused(memory: int) -> None:
    record_of(memory, 2, 3, 11)
    os.ftruncate(memory, _pages.size_record() - 1)
    with pytest.raises(ValueError, match="record"):
        _pages.read_record(memory)
