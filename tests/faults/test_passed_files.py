# SPDX-License-Identifier: Apache-2.0
"""TENANTS 5: what may come by descriptor, from a group that may pass them, and how it is sent."""

from __future__ import annotations

import http.client
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import census
from harness import site as sites
from harness.client import CutError, Response, connected, request, wait_until
from harness.httpd import Httpd

from . import fake_worker
from .lying import ask, check_others, children

CUT = (http.client.IncompleteRead, ConnectionError)
APPS = Path(__file__).parents[1] / "apps"
SIZE = 8 << 20
CONTENT = os.urandom(SIZE)


@pytest.mark.parametrize("lie", fake_worker.GRANTED)
def test_a_regular_file_is_sent_and_what_nobody_asked_for_is_dropped(liar: Httpd, lie: str) -> None:
    assert ask(liar, lie, "/passing")[:2] == (200, b"hello")


@pytest.mark.parametrize("lie", fake_worker.PASSED)
def test_anything_else_cuts_the_response_and_harms_no_child(liar: Httpd, lie: str) -> None:
    before = children(liar)
    with pytest.raises(CUT):
        ask(liar, lie, "/passing")
    assert ask(liar, "passed-regular", "/passing")[:2] == (200, b"hello")
    check_others(liar)
    assert children(liar) == before


@pytest.mark.parametrize("lie", ["passed-regular", "passed-253"])
def test_a_group_that_may_not_pass_is_cut_whatever_it_passes(liar: Httpd, lie: str) -> None:
    with pytest.raises(CUT):
        ask(liar, lie)
    check_others(liar)


def test_a_kept_connection_takes_descriptors_where_sendfile_is_on_and_only_there(
    liar: Httpd,
) -> None:
    """WSGIEnableSendfile is of the request, and both kinds share the group's connections."""
    for _ in range(2):
        assert ask(liar, "none", "/closed")[:2] == (200, b"hello")
        assert ask(liar, "passed-regular", "/passing")[:2] == (200, b"hello")
        with pytest.raises(CUT):
            ask(liar, "passed-regular", "/closed")
        assert ask(liar, "passed-regular", "/passing")[:2] == (200, b"hello")


def passing_site(*lines: str, threads: int = 4) -> Httpd:
    """The real product with a group that passes descriptors, and httpd that sends by the kernel."""
    return sites.with_apps(
        APPS,
        "embedded",
        f"WSGIDaemonProcess passing threads={threads} pass-descriptors=on",
        "WSGIProcessGroup passing",
        "WSGIEnableSendfile On",
        "EnableSendfile On",
        'SetEnvIf Request_URI "deflated" deflated',
        "<Location /sends_a_file>",
        "SetOutputFilter DEFLATE",
        "SetEnvIf X-Plain 1 no-gzip",
        "</Location>",
        *lines,
        modules=("filter", "deflate"),
    )


@pytest.fixture(scope="module")
def passing() -> Iterator[Httpd]:
    server = passing_site().start()
    (server.root / "files" / "data").write_bytes(CONTENT)
    yield server
    server.stop()
    server.remove()


def get(server: Httpd, method: str = "GET", **headers: str) -> Response:
    with connected(server.address) as connection:
        connection.send(request(method, "/sends_a_file?data", headers))
        return connection.read_response(method)


def test_passed_file_comes_whole_in_parts_and_by_its_head(passing: Httpd) -> None:
    assert get(passing).body == CONTENT
    part = get(passing, Range="bytes=1000-4000000")
    assert (part.status, part.body) == (206, CONTENT[1000:4000001])
    assert get(passing, Range="bytes=-9").body == CONTENT[-9:]
    head = get(passing, "HEAD")
    assert (head.header("Content-Length"), head.body) == (str(SIZE), b"")


def test_passed_file_goes_through_filters(passing: Httpd) -> None:
    response = get(passing, **{"Accept-Encoding": "gzip"})
    assert response.header("Content-Encoding") == "gzip"
    assert len(response.body) > SIZE // 2


@contextmanager
def open_files(limit: int) -> Iterator[None]:
    """So many may what is started meanwhile have open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.looks_inside
def test_passed_files_take_a_quarter_of_a_childs_descriptors_and_no_more() -> None:
    """TENANTS 5, rule 4. Beyond that a response holds its thread until the client has it all."""
    with open_files(160):
        # Not how many connections httpd takes, but how many files it holds is to be the limit.
        server = passing_site("AsyncRequestWorkerFactor 40", threads=20).start()
    try:
        (server.root / "files" / "data").write_bytes(CONTENT)
        assert get(server).body == CONTENT
        (child,) = {pid for pid in children(server) if pid not in (server.pid, server.supervisor())}
        server.log.expect("child-threads")
        with ExitStack() as stack:
            statuses = []
            while len(statuses) < 80 and 503 not in statuses:
                slow = stack.enter_context(connected(server.address))
                slow.send(request("GET", "/sends_a_file?data"))
                statuses.append(slow.read_head().status)
            names = census.descriptors(child)
            assert statuses.count(200) < 60
            assert 40 <= sum(name.endswith("files/data") for name in names) <= 40 + 12
        wait_until(lambda: get(server).body == CONTENT, "all are given back")
    finally:
        server.stop()
        server.remove()


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_file_cut_short_while_it_is_sent_is_visible_and_kills_no_child(
    passing: Httpd, coding: str
) -> None:
    path = passing.root / "files" / "data"
    before = children(passing)
    try:
        with connected(passing.address) as connection:
            connection.send(request("GET", "/sends_a_file?data", {"Accept-Encoding": coding}))
            response = connection.read_head()
            os.truncate(path, 4096)
            with pytest.raises(CutError):
                connection.read_body(response)
    finally:
        path.write_bytes(CONTENT)
    assert children(passing) == before
    assert get(passing).body == CONTENT
