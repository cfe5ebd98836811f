# SPDX-License-Identifier: Apache-2.0
"""Hostile workers, and clients that are slow to read: what is read ahead is bounded and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness.client import Connection, CutError, request, wait_until
from harness.httpd import Httpd

from . import fake_worker
from .lying import ask, check_others

SPOOL = 16 << 20  # default of response-spool


@contextmanager
def not_reading(server: Httpd, lie: str, words: str) -> Iterator[tuple[Connection, str]]:
    """A client that reads nothing, and what the worker writes when it is rid of its response."""

    def said() -> list[str]:
        return re.findall(words, server.log.text())

    before = len(said())
    client = Connection(server.address, 15, receive_buffer=4096)
    try:
        client.send(request("GET", f"/?lie={lie}"))
        wait_until(lambda: len(said()) > before, f"the worker writes: {words}")
        yield client, said()[-1]
    finally:
        client.close()


@pytest.mark.parametrize("lie", fake_worker.AHEAD_CUT)
def test_a_broken_rule_behind_what_was_read_ahead_cuts_the_response(liar: Httpd, lie: str) -> None:
    with not_reading(liar, lie, "all of request [0-9]+ was taken") as (client, _):
        check_others(liar)
        with pytest.raises(CutError):
            client.read_response()
    check_others(liar)


@pytest.mark.parametrize("lie", fake_worker.AHEAD_WHOLE)
def test_what_comes_behind_the_end_reaches_nobody(liar: Httpd, lie: str) -> None:
    with not_reading(liar, lie, "all of request [0-9]+ was taken") as (client, _):
        check_others(liar)
        assert client.read_response().body == b"x" * (32 * 65536)
    check_others(liar)


def test_body_beyond_its_length_is_left_out(liar: Httpd) -> None:
    with not_reading(liar, "much-beyond-length", "all of request [0-9]+ was taken") as (client, _):
        assert client.read_response().body == b"x" * (1 << 20)
        assert client.is_closed()
    check_others(liar)


def test_no_more_is_read_ahead_than_the_spool_holds(liar: Httpd) -> None:
    with not_reading(liar, "for-ever", r"so many bytes were taken: \d+\.") as (_, words):
        taken = int(words.split()[-1].rstrip("."))
        assert SPOOL <= taken <= SPOOL + (1 << 20), "and what sockets hold"
        check_others(liar)
    assert ask(liar, "none")[0] == 200
