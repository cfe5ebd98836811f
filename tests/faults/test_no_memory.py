# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 14: each allocation that our C makes in httpd's child fails once, until none does.

The request is a 5xx or cut, the child lives, and the next request is good."""

from __future__ import annotations

import os
import re
import select
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
from harness import census, site
from harness.client import CutError, connected, request, wait_until
from harness.httpd import Httpd, new_root
from harness.memories import Memories
from harness.nomem import Shortage, preloaded
from process import shop

pytestmark = pytest.mark.looks_inside

BODY = bytes(range(256)) * 800
LARGE = 3_000_000
MOST = 40


class Short:
    """A server whose child's allocations can fail."""

    def __init__(self, server: Httpd, shortage: Shortage) -> None:
        self.server = server
        self.shortage = shortage

    def servants(self) -> set[int]:
        """httpd's children, without the supervisor."""
        return set(census.children(self.server.pid)) - {self.server.supervisor()}

    def told(self) -> int:
        return len(re.findall("out of memory|MemoryError", self.server.log.text()))

    def begin_anew(self) -> None:
        """With a child that has nothing at hand yet."""
        old = self.servants()
        self.server.graceful()
        wait_until(lambda: self.servants() and self.servants().isdisjoint(old), "a new child", 20)


@pytest.fixture
def short(request: pytest.FixtureRequest) -> Iterator[Short]:
    root = new_root()
    shortage = Shortage(root / "shortage")
    made = preloaded(root)
    environ = {
        "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {made}".strip(),
        "PYGLUE_TEST_NO_MEMORY": str(shortage.path),
        "PYGLUE_TEST_NO_MEMORY_OF": request.param,
    }
    apps = root / "apps"
    lines = shop.lines(
        root,
        "threads=6 response-spool=8388608",
        f'WSGIScriptAlias /embedded "{apps}/echo_streaming/wsgi.py"',
    )
    server = Httpd(lines, root=root, environ=environ).start()
    shop.wait_for_workers(server, 1)
    yield Short(server, shortage)
    shortage.end()
    site.end(server)
    shutil.rmtree(root, ignore_errors=True)


def echoes(server: Httpd, target: str) -> int:
    """Status of an upload that comes back whole; 0: it is seen as cut."""
    with connected(server.address) as connection:
        connection.send(request("POST", target, {}, BODY))
        try:
            answer = connection.read_response()
        except (CutError, ConnectionError):
            return 0
        assert answer.status != 200 or answer.body == BODY
        return answer.status


def slow(server: Httpd) -> int:
    """Of a response that its client reads late."""
    with connected(server.address) as connection:
        connection.send(request("GET", f"/zeros?{LARGE}"))
        assert select.select([connection.socket], [], [], 10)[0], "the answer begins"
        with Memories(server) as memories:
            wait_until(lambda: sum(memories.running()) == 0, "all of it is taken from the worker")
        try:
            answer = connection.read_response()
        except (CutError, ConnectionError):
            return 0
        assert answer.status != 200 or answer.body == bytes(LARGE)
        return answer.status


def leaves(server: Httpd) -> int:
    """Of a response whose client leaves in the middle of it."""
    with connected(server.address) as connection:
        connection.send(request("GET", f"/zeros?{LARGE}"))
        try:
            return connection.read_head().status
        except (CutError, ConnectionError):
            return 0


@contextmanager
def held(server: Httpd, target: str) -> Iterator[None]:
    """A thread in the middle of an upload: whatever else is asked for needs another one, which has
    not served before."""
    with connected(server.address) as connection:
        connection.send(request("POST", target, {}, BODY)[: -len(BODY) // 2])
        assert connection.read_head().status == 200
        yield


def runs(short: Short, play: Callable[[], int], beside: str = "") -> int:
    """For each allocation. How many there were."""
    server = short.server
    for after in range(MOST):
        short.begin_anew()
        with held(server, beside) if beside else nullcontext():
            failed = fails(short, play, after)
        if failed == 0:
            return after
    raise AssertionError("it never ends")


def fails(short: Short, play: Callable[[], int], after: int) -> int:
    """The allocation after so many. 1; 0: there were no more of them."""
    server, before = short.server, short.servants()
    short.shortage.begin(after)
    told = short.told()
    status = play()
    with Memories(server) as memories:
        wait_until(lambda: memories.running() == [0], "the place comes back", 20)
        assert memories.waiting() == 0
    failed = short.shortage.end()
    assert status == 200 if failed == 0 else status in (0, 200) or status >= 500, after
    assert not failed or status == 200 or short.told() > told, after
    assert [play(), play()] == [200, 200], after
    assert short.servants() == before, "nobody died"
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("short", ["mod_pyglue"], indirect=True)
@pytest.mark.parametrize("what", [lambda s: echoes(s, "/echo_streaming"), slow, leaves],
                         ids=["upload", "slow", "leaves"])  # fmt: skip
def test_each_allocation_in_httpds_child_may_fail(
    short: Short, what: Callable[[Httpd], int]
) -> None:
    short.server.log.allow("GL05")
    assert runs(short, lambda: what(short.server)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("short", ["/_engine"], indirect=True)
def test_each_allocation_of_an_embedded_engine_may_fail(short: Short) -> None:
    """In a child that has begun Python, in a thread of it that has not served yet."""
    short.server.log.allow("PG3|Traceback|Error|]  +|GL0301")
    assert runs(short, lambda: echoes(short.server, "/embedded"), "/embedded") >= 2


@pytest.mark.slow
@pytest.mark.parametrize("short", ["/_engine"], indirect=True)
def test_python_that_could_not_begin_for_want_of_memory_begins_later(short: Short) -> None:
    short.server.log.expect("GL0402: embedded mode: Python of .*: out of memory")
    short.server.log.allow("GL0403")
    before = short.servants()
    short.shortage.begin(0)
    assert echoes(short.server, "/embedded") == 500
    assert short.shortage.end() == 1
    wait_until(lambda: echoes(short.server, "/embedded") == 200, "it is tried again", 20)
    assert short.servants() == before
