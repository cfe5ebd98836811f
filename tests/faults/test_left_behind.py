# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 7, 20: what an application leaves running holds no response open and no socket of
the worker's, disturbs no worker, and ends with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from harness import census
from harness.client import connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process.shop import ask, facts, serving

StartShop = Callable[..., Httpd]
IN_ITS_SESSION = ("popen", "multiprocessing")
PROCESSES = (*IN_ITS_SESSION, "fork", "detached")
LATE = "PG1107|PG2005"  # Python waits at its end for processes and threads that it knows


@pytest.fixture
def server(start_shop: StartShop) -> Httpd:
    started = start_shop("threads=2 shutdown-timeout=1")
    started.log.allow(LATE)
    return started


def left_behind(server: Httpd, worker: int) -> list[int]:
    """Processes that are none of the product's own. A fork carries the name of its worker."""
    known = {worker, server.pid, server.supervisor(), *census.children(server.pid)}
    return [pid for pid in server.processes() if pid not in known and is_left(pid)]


def is_left(pid: int) -> bool:
    """It is neither a worker nor a process of the supervisor's own."""
    name = census.command(pid)
    if "supervisor/__main__.py" in name:
        return False
    try:
        return os.getsid(pid) != pid or "worker/boot.py" not in name
    except ProcessLookupError:  # it has ended since it was listed
        return False


@pytest.mark.parametrize("way", PROCESSES)
def test_a_process_left_behind_holds_no_response_open(server: Httpd, way: str) -> None:
    """The response is whole at once, also where its end is the end of the connection."""
    (worker,) = server.workers()
    with connected(server.address) as connection:
        connection.send(b"GET /leaves_behind?" + way.encode() + b" HTTP/1.0\r\n\r\n")
        assert connection.read_response().text == str(worker)
    assert wait_until(lambda: left_behind(server, worker), "it runs")


@pytest.mark.parametrize("way", IN_ITS_SESSION)
def test_a_process_in_its_workers_session_ends_with_it(server: Httpd, way: str) -> None:
    """Those that have left it run on until httpd stops: whose they were nobody knows any more."""
    (worker,) = server.workers()
    ask(server, f"/leaves_behind?{way}")
    wait_until(lambda: left_behind(server, worker), "it runs")

    os.kill(worker, signal.SIGUSR1)
    server.wait_for_exit(worker)
    new = facts(server)["pid"]
    wait_until(lambda: not left_behind(server, new), "it has ended too", 20)
    assert ask(server, "/who").status == 200


@pytest.mark.parametrize("way", PROCESSES)
def test_a_process_left_behind_has_no_socket_of_its_worker(server: Httpd, way: str) -> None:
    """Neither the listener, so that connections would hang in it, nor a connection of httpd's."""
    (worker,) = server.workers()
    ask(server, f"/leaves_behind?{way}")
    mine = {name for name in census.descriptors(worker) if name.startswith("socket:")}
    assert mine

    for pid in wait_until(lambda: left_behind(server, worker), "it runs"):
        wait_until(lambda one=pid: mine.isdisjoint(census.descriptors(one)), "it has closed them")


@pytest.mark.parametrize("way", PROCESSES)
def test_what_a_killed_worker_left_behind_delays_nobody(server: Httpd, way: str) -> None:
    server.log.expect("PG1103.*SIGKILL")
    server.log.allow("GL0504.*SIGKILL")
    (worker,) = server.workers()
    ask(server, f"/leaves_behind?{way}")

    os.kill(worker, signal.SIGKILL)
    assert [ask(server, "/who").status for _ in range(5)] == [200] * 5


def test_a_signal_to_a_child_is_not_its_workers(server: Httpd) -> None:
    """Not even in the moment before its fork handlers have run; this one never runs any."""
    (worker,) = server.workers()
    ask(server, "/leaves_behind?fork-by-the-kernel")
    (child,) = wait_until(lambda: left_behind(server, worker), "it runs")
    for number in (signal.SIGUSR1, signal.SIGTERM):
        os.kill(child, number)
    server.wait_for_exit(child)
    assert ask(server, "/who").status == 200
    assert server.workers() == [worker]


def test_a_child_that_runs_pythons_end_disturbs_no_worker(server: Httpd) -> None:
    server.log.expect("PG3018")
    server.log.expect_traceback("SystemExit")  # in the child
    (worker,) = server.workers()
    with Load(server.address, "/who", clients=2) as load:
        for _ in range(5):
            assert ask(server, "/leaves_behind?fork-and-exit").text == str(worker)
        load.wait_for_more(10)
    assert load.failures() == []
    assert serving(load, 10) == {worker}


@pytest.mark.parametrize("way", ["thread", "atexit"])
def test_threads_and_exit_handlers_hold_no_worker_beyond_its_shutdown_timeout(
    server: Httpd, way: str
) -> None:
    """A thread that is no daemon, and a handler that never ends."""
    (worker,) = server.workers()
    ask(server, f"/leaves_behind?{way}")
    with Load(server.address, "/who", clients=2) as load:
        os.kill(worker, signal.SIGUSR1)
        server.wait_for_exit(worker)
        load.wait_for_more(10)
    assert load.failures() == []


def test_a_worker_that_can_have_no_thread_more_ends_in_good_order(start_shop: StartShop) -> None:
    """Its bound of processes is reached. Its exit handlers run, within their time."""
    server = start_shop("threads=2")
    (worker,) = server.workers()
    ask(server, "/leaves_behind?no-more-threads")
    os.kill(worker, signal.SIGUSR1)
    server.wait_for_exit(worker)
    server.log.expect("ended in good order")
    server.log.wait_for("ended in good order")
    assert "Traceback" not in server.log.path.read_text()


def test_stop_ends_what_was_left_behind(server: Httpd) -> None:
    """The harness counts what is left."""
    for way in PROCESSES:
        assert ask(server, f"/leaves_behind?{way}").status == 200
    server.stop()


def test_stop_ends_a_worker_that_cannot_be_reaped_and_who_prevents_it(server: Httpd) -> None:
    """TENANTS 7: a process that a worker left behind traces it, and never waits for it. The harness
    counts what is left; no supervisor had to be killed for it, the log would tell."""
    assert ask(server, "/leaves_behind?tracer").status == 200
    server.stop()


def test_a_client_is_answered_while_threads_of_earlier_requests_run(server: Httpd) -> None:
    with connected(server.address) as connection:
        for target in ("/leaves_behind?thread", "/who", "/leaves_behind?thread", "/who"):
            connection.send(request("GET", target))
            assert connection.read_response().status == 200
