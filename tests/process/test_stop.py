# SPDX-License-Identifier: Apache-2.0
"""Stop and hard restart: bounded in time, and nothing is left over.

What is left over is counted by the harness at the end of every instance; these tests bring httpd
into the states in which something could be left."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import census, client, tracer
from harness.client import Connection, request, wait_until
from harness.httpd import Httpd
from process import shop
from process.shop import ask, facts

StartShop = Callable[..., Httpd]
MPMS = ["event", "worker", "prefork"]
SLOW_START = """
import os, time
open({started!r}, "w").close()
while not os.path.exists({go!r}):
    time.sleep(0.01)
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"late"]
"""


def leftovers(server: Httpd) -> list[str]:
    """What lies in the server root that a running httpd had made."""
    return [path.name for path in server.root.iterdir() if path.name.startswith("wsgi.")]


@contextmanager
def running(server: Httpd, target: str, count: int) -> Iterator[list[Connection]]:
    """Requests that are sent and not answered yet."""
    connections = [Connection(server.address) for _ in range(count)]
    for connection in connections:
        connection.send(request("GET", target))
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("mpm", MPMS)
def test_stop_leaves_nothing_and_nobody_has_to_be_killed(start_shop: StartShop, mpm: str) -> None:
    """The error log would tell who did not end in time."""
    server = start_shop("processes=2 threads=4", workers=2, mpm=mpm)
    server.stop()
    assert leftovers(server) == []


@pytest.mark.parametrize("mpm", MPMS)
def test_hard_restart_starts_anew_and_leaves_nothing(start_shop: StartShop, mpm: str) -> None:
    server = start_shop("threads=4", mpm=mpm)
    before = {server.supervisor(), *server.workers()}

    server.signal(signal.SIGHUP)
    wait_until(lambda: before.isdisjoint(server.processes()), "the old ones end")
    shop.wait_for_workers(server, 1)

    assert len(leftovers(server)) == 1


def files(root: Path) -> set[str]:
    """All below the server root, where httpd's temporary folder is too."""
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {name for name in names if "__pycache__" not in name}


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM], ids=["restart", "stop"])
def test_no_file_and_no_shared_memory_is_left(folder: Path, how: signal.Signals) -> None:
    """Memories are memfds, which end with who holds them; a big upload needs no file."""
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    lines, environ = shop.lines(folder, "processes=2 threads=4"), {"TMPDIR": str(temporary)}
    server = Httpd(lines, root=folder, environ=environ)
    before = files(folder)
    server.start()
    try:
        shop.wait_for_workers(server, 2)
        server.graceful()
        assert client.ask(server.address, "/who", "POST", body=bytes(1 << 20)).status == 200
        family, sockets = server.processes(), leftovers(server)
        assert census.shared_segments(family) == []
        if how == signal.SIGHUP:
            server.restart(how)
            shop.wait_for_workers(server, 2)
            assert set(sockets).isdisjoint(leftovers(server))
        server.stop()
        assert files(folder) - before == {"console", "error.log"}
        assert census.shared_segments(family) == []
    finally:
        server.stop()
    server.log.check()


def test_stop_ends_requests_within_the_shutdown_timeout(start_shop: StartShop) -> None:
    """httpd itself gives its children some seconds before it kills them."""
    server = start_shop("threads=4 shutdown-timeout=1")
    server.log.allow("AH00045|AH00046|AH00052|PG1107|shutdown-timeout has passed|GL0|OSError")
    with running(server, "/waits?slow", 1):
        wait_until((server.root / "files" / "slow.runs").exists, "the request runs")

        server.stop()


@pytest.mark.parametrize("mpm", MPMS)
def test_stop_does_not_wait_for_requests_that_wait_for_a_group(
    start_shop: StartShop, mpm: str
) -> None:
    server = start_shop("threads=4", mpm=mpm)
    started, go = server.root / "files" / "started", server.root / "files" / "go"
    script = server.root / "apps" / "late.wsgi"
    script.write_text(SLOW_START.format(started=str(started), go=str(go)))
    shop.alone(server, "late", script, "shutdown-timeout=1")
    server.graceful()
    wait_until(started.exists, "the group starts")
    server.log.allow("GL05|AH00045")  # but not AH00046, a child that httpd has to kill
    with running(server, "/late", 3):
        assert ask(server, "/who").status == 200

        server.stop()


def test_graceful_stop_finishes_what_runs(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    with running(server, "/waits?slow", 1) as (connection,):
        wait_until((server.root / "files" / "slow.runs").exists, "the request runs")
        server.signal(signal.SIGWINCH)
        wait_until(lambda: not census.is_listening(server.address), "httpd listens no more")
        (server.root / "files" / "slow.end").touch()

        assert connection.read_response().body == b"done"
    server.stop()


def test_everything_ends_when_httpd_is_killed(start_shop: StartShop) -> None:
    """SIGKILL of the parent: its children serve on; with the last of them all the rest ends."""
    server = start_shop("processes=2 threads=4", workers=2)
    server.log.allow("PG1007")
    supervisor, workers = server.supervisor(), server.workers()
    children = [
        pid for pid in census.family(server.pid) if pid not in (server.pid, supervisor, *workers)
    ]

    os.kill(server.pid, signal.SIGKILL)
    assert facts(server)["pid"] in workers
    for pid in children:
        os.kill(pid, signal.SIGKILL)

    for pid in (supervisor, *workers):
        server.wait_for_exit(pid)
    assert leftovers(server) == []


def test_stop_after_the_supervisor_was_killed_leaves_nothing(start_shop: StartShop) -> None:
    server = start_shop("threads=4 shutdown-timeout=2")
    server.log.expect("GL0603")
    old = server.workers()
    os.kill(server.supervisor(), signal.SIGKILL)
    server.log.wait_for("GL0603")

    server.stop()

    assert not any(map(census.is_alive, old))
    assert leftovers(server) == []


def test_stop_beside_a_supervisor_that_hangs_leaves_nothing(start_shop: StartShop) -> None:
    """Another one ends what it left. httpd has closed the logs of its hosts by then."""
    server = start_shop("threads=4 shutdown-timeout=1")
    (old,) = server.workers()
    name, port = server.address
    host = [
        f"Listen {name}:{port + 1}",
        f"<VirtualHost {name}:{port + 1}>",
        "ServerName host.invalid",
        f'ErrorLog "{server.root}/host.log"',
        *shop.group(server.root / "apps", "shutdown-timeout=1", "own"),
        "</VirtualHost>",
    ]
    server.configure([*shop.lines(server.root, "threads=4 shutdown-timeout=1"), *host])
    server.graceful()
    server.wait_for_exit(old)
    assert client.ask((name, port + 1), "/who").status == 200
    server.log.expect("GL0601: the supervisor did not end in time and is killed")

    os.kill(server.supervisor(), signal.SIGSTOP)
    server.stop()

    assert leftovers(server) == []


@pytest.mark.slow
@pytest.mark.looks_inside
def test_stop_goes_on_beside_a_supervisor_that_cannot_be_ended(start_shop: StartShop) -> None:
    """The kernel may keep it in a system call, and httpd does not wait for it then."""
    server = start_shop("threads=4 shutdown-timeout=1")
    server.log.expect("GL0601: the supervisor did not end in time and is killed")
    server.log.expect("GL0601: the supervisor cannot be ended")
    with tracer.kept(server.supervisor()):
        server.stop()
    assert leftovers(server) == []


def test_stop_waits_for_workers_of_an_older_plan_as_long_as_that_plan_says(
    start_shop: StartShop,
) -> None:
    server = start_shop("threads=4 shutdown-timeout=7")
    server.log.expect("shutdown-timeout has passed")
    (old,), supervisor = server.workers(), server.supervisor()
    with running(server, "/waits?slow", 1):
        wait_until((server.root / "files" / "slow.runs").exists, "the request runs")
    server.configure(shop.lines(server.root, "shutdown-timeout=1", name="other"))
    server.graceful()
    assert facts(server)["group"] == "other"
    for pid in census.family(server.pid):  # else httpd waits for the one that has the request
        if pid not in (server.pid, supervisor, *server.workers()):
            os.kill(pid, signal.SIGKILL)

    server.signal(signal.SIGTERM)
    server.wait_for_exit(server.pid)

    assert not census.is_alive(old)
    assert leftovers(server) == []
