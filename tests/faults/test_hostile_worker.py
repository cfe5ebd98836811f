# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY B2: what a hostile worker does reaches its own request and no other.

A real httpd and supervisor; the groups' `python=` is fake_worker.py."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.client import connected, request, wait_until
from harness.httpd import Httpd

from . import fake_worker
from .lying import ask, check_others, children

CUT = (http.client.IncompleteRead, ConnectionError)


@pytest.mark.parametrize("lie", fake_worker.BEFORE_HEAD)
def test_a_broken_rule_before_the_head_is_a_502(liar: Httpd, lie: str) -> None:
    status, _, response = ask(liar, lie)
    assert status == 502
    assert response.getheader("X-Evil") is None
    check_others(liar)


@pytest.mark.parametrize("lie", fake_worker.AFTER_HEAD)
def test_a_broken_rule_after_the_head_cuts_the_response(liar: Httpd, lie: str) -> None:
    with pytest.raises(CUT):
        ask(liar, lie)
    check_others(liar)


def wire(server: Httpd, lie: str, where: str) -> tuple[list[int], bytes]:
    """The statuses that came, and all else that did."""
    with connected(server.address) as client:
        client.send(request("GET", f"{where}?lie={lie}", {"Connection": "close"}))
        everything = client.read_all()
    statuses = re.findall(rb"^HTTP/1.1 (\d+)", everything, re.MULTILINE)
    return [int(status) for status in statuses], everything


@pytest.mark.parametrize("lie", fake_worker.HINTS)
def test_a_wrong_interim_head_is_a_502_and_not_sent(liar: Httpd, lie: str) -> None:
    statuses, everything = wire(liar, lie, "/hinting")
    allowed = 2 if lie == "interim-thrice" else 1 if lie == "interim-then-refuse" else 0
    assert statuses == [103] * allowed + [502]
    assert everything.count(b"x-evil") == allowed
    assert b"X-Evil" not in everything and b"Transfer-Encoding: <" not in everything
    check_others(liar)


@pytest.mark.parametrize("lie", ["interim-when-headed", "interim-when-file"])
def test_an_interim_head_after_the_head_cuts_the_response(liar: Httpd, lie: str) -> None:
    statuses, everything = wire(liar, lie, "/hinting")
    assert 103 not in statuses and b"x-evil" not in everything
    check_others(liar)


def test_interim_heads_are_sent_on_where_they_are_allowed(liar: Httpd) -> None:
    assert wire(liar, "interim-twice", "/hinting")[0] == [103, 103, 200]
    statuses, everything = wire(liar, "interim-once", "/")
    assert statuses == [502] and b"x-evil" not in everything
    with connected(liar.address) as client:
        client.send(b"GET /hinting?lie=interim-once HTTP/1.0\r\n\r\n")
        assert client.read_all().startswith(b"HTTP/1.1 502 ")
    check_others(liar)


def test_frames_may_come_byte_by_byte(liar: Httpd) -> None:
    assert ask(liar, "one-byte-writes")[:2] == (200, b"hello")


def test_what_follows_the_end_reaches_nobody(liar: Httpd) -> None:
    assert ask(liar, "body-after-end")[:2] == (200, b"hello")
    # On the same connection, where it may arrive before or after this request is sent.
    assert ask(liar, "none")[0] in (200, 502)
    check_others(liar)


def test_an_answer_before_its_request_reaches_no_other_group(liar: Httpd) -> None:
    assert ask(liar, "next-answer-first")[:2] == (200, b"hello")
    assert ask(liar, "none", "/other")[:2] == (200, b"hello")
    ask(liar, "none")  # the liar's own next request: served, or 502
    check_others(liar)


def test_a_worker_that_always_refuses_is_a_503_with_retry_after(liar: Httpd) -> None:
    status, _, response = ask(liar, "refuse-forever")
    assert (status, response.getheader("Retry-After")) == (503, "1")


def test_a_worker_that_never_says_hello_is_a_503_within_the_time_to_wait(liar: Httpd) -> None:
    """Tries are bounded by number and by time (TENANTS 6, refuse-tries)."""
    tries_before = len(re.findall("GL0503.*'mute'", liar.log.text()))
    status, _, response = ask(liar, "none", "/mute")
    assert (status, response.getheader("Retry-After")) == (503, "1")
    tries = len(re.findall("GL0503.*'mute'", liar.log.text())) - tries_before
    assert 1 <= tries <= 4, "a hello is awaited for 1 s, a worker for 3 s"
    check_others(liar)


@pytest.mark.parametrize("lie", ["never-answers", "logging-instead", "reading-instead"])
def test_a_worker_without_an_answer_is_a_504_whatever_else_it_says(liar: Httpd, lie: str) -> None:
    assert ask(liar, lie)[0] == 504
    check_others(liar)


def leave(server: Httpd, lie: str) -> None:
    """While the worker is at it."""
    server.log.expect("go on for ever")
    with connected(server.address) as client:
        client.send(request("GET", f"/?lie={lie}"))
        server.log.wait_for("go on for ever")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("lie", ["logging-on", "reading-on", "goodbye-on"])
def test_a_client_that_left_frees_its_thread_whatever_the_worker_goes_on_to_say(
    liar: Httpd, lie: str
) -> None:
    """Its words come faster than the child's looks after the client."""
    leave(liar, lie)
    liar.log.wait_for("was told that the client has gone")
    check_others(liar)


def test_a_worker_that_goes_on_though_the_client_has_gone_is_read_no_further(liar: Httpd) -> None:
    leave(liar, "heedless")
    liar.log.wait_for("saw its connection closed")
    check_others(liar)


def test_an_emergency_in_the_log_is_an_error_and_its_lines_stay_apart(liar: Httpd) -> None:
    ask(liar, "log-emergency")
    assert ":error]" in liar.log.wait_for("line1$")
    assert ":error]" in liar.log.wait_for(r"FAKE \\x1b\[2J line2$")


def test_a_location_goes_to_the_client_and_nowhere_else(liar: Httpd) -> None:
    status, _, response = ask(liar, "location")
    assert (status, response.getheader("Location")) == (200, "/secret")


def test_framing_is_httpds_alone(liar: Httpd) -> None:
    status, body, response = ask(liar, "framing")
    assert (status, body) == (200, b"")
    assert response.getheader("X-Kept") == "1"
    assert response.getheader("Transfer-Encoding") != "chunked, chunked"
    for name in ("Upgrade", "Keep-Alive"):
        assert response.getheader(name) in (None, "timeout=20, max=100")


def test_a_flood_of_log_lines_is_bounded_and_the_lost_ones_are_counted(liar: Httpd) -> None:
    assert ask(liar, "flood")[:2] == (200, b"hello")
    told = liar.log.wait_for("GL0507")
    logged = len(re.findall(r"flood \d+$", liar.log.text(), re.MULTILINE))
    lost = int(re.search(r"(\d+) lines were left out", told)[1])  # type: ignore[index]
    assert 1900 <= logged <= 2200
    assert logged + lost == 5000


def test_log_bytes_of_a_request_are_bounded(liar: Httpd) -> None:
    assert ask(liar, "long-line")[:2] == (200, b"hello")
    liar.log.wait_for("GL0501")
    assert sum(len(x) for x in re.findall(r"\] (?:long )?(x+)$", liar.log.text(), re.M)) <= 1 << 20


def test_a_withdrawn_worker_gets_no_request_though_it_would_answer(liar: Httpd) -> None:
    before = ask(liar, "withdrawn", "/other")[2].getheader("X-Worker")
    wait_until(
        lambda: ask(liar, "none", "/other")[2].getheader("X-Worker") != before,
        "another worker takes over",
        20,
    )
    served = {ask(liar, "none", "/other")[2].getheader("X-Worker") for _ in range(20)}
    assert before not in served and len(served) == 1


def test_any_sequence_of_frames_is_answered_or_cut_and_harms_no_other(liar: Httpd) -> None:
    """A walk over a real socket with fixed seeds; its sibling on the codec is tests/fuzz."""
    before, is_over, innocent = children(liar), threading.Event(), []

    def others() -> None:
        while not is_over.is_set():
            innocent.append(ask(liar, "none", "/other")[:2])

    def one(seed: int) -> int:
        try:
            return ask(liar, f"seed-{seed}")[0]
        except (http.client.HTTPException, ConnectionError):
            return 0

    with ThreadPoolExecutor(5) as pool:
        bystander = pool.submit(others)
        statuses = set(pool.map(one, range(150)))
        is_over.set()
        bystander.result()
    assert statuses <= {0, 200, 500, 502, 503, 504} and {0, 502} <= statuses
    assert set(innocent) == {(200, b"hello")}
    assert children(liar) == before
    check_others(liar)
