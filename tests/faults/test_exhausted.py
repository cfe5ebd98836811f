# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 12 to 14: descriptors, memory and queues that are used up in one process.

Each time: the requests that need what is not there get an error, all others are served, and when it
is there again everything goes on in the same processes."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness.client import Connection, Response, connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving

StartShop = Callable[..., Httpd]
OTHER = "WSGIDaemonProcess other"
SHORT = r"Too many open files"


def with_other(start_shop: StartShop, options: str, workers: int = 1) -> Httpd:
    """The shop, beside it an innocent group at /other, and an application in httpd's child."""
    server = start_shop(options, workers=workers)
    apps = server.root / "apps"
    aliases = [
        f'WSGIScriptAlias /other "{apps}/who/wsgi.py" process-group=other',
        f'WSGIScriptAlias /embedded "{apps}/limits_itself/wsgi.py"',
    ]
    server.configure(shop.lines(server.root, options, OTHER, *aliases))
    old = server.workers()
    server.graceful()
    wait_until(lambda: set(old).isdisjoint(server.workers()), "old workers end", 20)
    return server


def get(connection: Connection, target: str) -> Response:
    connection.send(request("GET", target))
    return connection.read_response()


@contextmanager
def clients(server: Httpd, count: int) -> Iterator[list[Connection]]:
    """Connections that httpd has accepted: it has answered on each, without a worker."""
    server.log.allow("AH01630")
    with ExitStack() as stack:
        made = [stack.enter_context(connected(server.address)) for _ in range(count)]
        for one in made:
            assert get(one, "/nothing").status == 403
        yield made


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """It can open nothing more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    numbers = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = min(set(range(len(numbers) + 1)) - numbers)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


# Descriptors.


def test_a_worker_without_descriptors_serves_whom_it_has_and_others_when_it_can(
    start_shop: StartShop,
) -> None:
    """Connections that it cannot accept wait, and are a 503 after socket-timeout."""
    server = with_other(start_shop, "threads=4 socket-timeout=1")
    server.log.expect(f"PG2003.*{SHORT}")
    server.log.allow("GL050[356]|PG2003")
    with clients(server, 4) as (kept, slow, upload, late):
        slow.send(request("GET", "/waits?slow"))
        wait_until((server.root / "files" / "slow.runs").exists, "it has one connection")
        worker = get(kept, "/limits_itself?descriptors").text
        upload.send(request("POST", "/echo_streaming", {"Content-Length": "65540"}) + bytes(65536))
        assert upload.read_head().status == 200, "it has the other one"

        assert get(late, "/numbered?1").status == 503
        server.log.wait_for("PG2003")
        assert ask(server, "/other").status == 200

        (server.root / "files" / "slow.end").touch()
        assert slow.read_response().body == b"done"
        assert get(kept, "/numbered?2").text == f"{worker} 2"
        assert get(kept, "/limits_itself?descriptors&lift").text == worker
        upload.send(b"last")
        assert b"".join(iter(upload.read_chunk, b"")).endswith(b"last")
    with Load(server.address, "/who", clients=3) as load:
        load.wait_for_more(20)
    assert load.failures() == []
    assert serving(load, 20) == {int(worker)}
    assert server.log.text().count("PG2003") < 100, "it does not spin"


def test_a_child_without_descriptors_fails_only_what_needs_one(start_shop: StartShop) -> None:
    """A new connection to a worker; what it has serves on. An embedded application limits it."""
    server = with_other(start_shop, "threads=4")
    server.log.expect(f"{SHORT}.*GL0503: process group 'other'")
    with clients(server, 2) as (kept, refused):
        assert get(kept, "/who").status == 200
        child = get(kept, "/embedded?descriptors").text
        assert get(refused, "/other").status == 503
        assert get(kept, "/who").status == 200
        assert get(kept, "/embedded?descriptors&lift").text == child
        assert get(kept, "/other").status == 200


def test_a_supervisor_without_descriptors_replaces_a_worker_when_it_can(
    start_shop: StartShop,
) -> None:
    """The worker that lives serves all; the attempts become rarer."""
    server = start_shop("processes=2 threads=4", workers=2)
    server.log.expect("PG1103.*SIGKILL")
    server.log.expect(f"PG1105.*{SHORT}.*the next start is in")
    server.log.allow("GL0504.*SIGKILL|PG1105")
    supervisor, (victim, lives) = server.supervisor(), server.workers()
    with without_descriptors(supervisor):
        os.kill(victim, signal.SIGKILL)
        server.wait_for_exit(victim)
        wait_until(lambda: facts(server)["pid"] == lives, "the other one serves")
        with Load(server.address, "/who", clients=2) as load:
            server.log.wait_for("PG1105", 30)
            load.wait_for_more(50)
        assert load.failures() == []
    wait_until(lambda: len(server.workers()) == 2, "it is replaced", 30)
    assert server.supervisor() == supervisor


# Memory.


def test_an_application_out_of_memory_gets_memoryerror_and_its_worker_lives(
    start_shop: StartShop,
) -> None:
    """The request is a 500; smaller ones are served meanwhile."""
    server = start_shop("threads=4")
    server.log.expect_traceback("MemoryError")
    (worker,) = server.workers()
    assert ask(server, f"/limits_itself?memory&{8 << 20}").text == str(worker)
    for _ in range(3):
        assert ask(server, f"/zeros?{1 << 30}").status == 500
        assert facts(server)["pid"] == worker
    assert ask(server, "/limits_itself?memory&lift").status == 200
    assert len(ask(server, f"/zeros?{64 << 20}&length").body) == 64 << 20
    assert facts(server)["pid"] == worker


@pytest.mark.parametrize("spare", [0, 1 << 16, 1 << 18, 1 << 20])
def test_a_worker_whose_memory_is_used_up_answers_errors_and_holds_nobody(
    start_shop: StartShop, spare: int
) -> None:
    """Each request is answered: well, or with an error that says so; other groups do not notice;
    and the group is well when its worker is replaced."""
    server = with_other(start_shop, "threads=8 shutdown-timeout=1")
    server.log.allow(r"PG|GL05|\[group shop\]|MemoryError|Traceback|\]   +")
    (worker,) = {facts(server)["pid"]}
    with Load(server.address, "/other", clients=1) as other:
        assert ask(server, f"/limits_itself?memory&{spare}").status in (200, 500, 502)
        with ExitStack() as running:
            loads = [
                running.enter_context(Load(server.address, target, clients=2))
                for target in ("/numbered?{number}", f"/zeros?{100_000}")
            ]
            for each in loads:
                each.wait_for_more(30)
    assert other.failures() == []
    for each in loads:
        assert {a.status for a in each.answers if not a.is_cut} <= {200, 500, 502, 503}
        assert each.tally().wrong == 0
    for pid in server.workers():
        if pid == worker:
            os.kill(worker, signal.SIGKILL)
            server.wait_for_exit(worker)
    wait_until(lambda: ask(server, "/who").status == 200, "a new worker serves", 20)


# Queues.


def test_a_full_listen_queue_is_a_503_and_holds_no_other_group(
    start_shop: StartShop, folder: Path
) -> None:
    """What fits into the kernel's queue waits for socket-timeout, what does not is refused."""
    deaf = folder / "deaf"
    source = Path(__file__).with_name("deaf_worker.py").read_text()
    deaf.write_text(f"#!{sys.executable} -B\n{source}")
    deaf.chmod(0o755)
    options = f'threads=20 listen-backlog=1 queue-timeout=2 socket-timeout=1 python="{deaf}"'
    server = start_shop(
        "threads=4",
        f"WSGIDaemonProcess deaf {options}",
        f'WSGIScriptAlias /deaf "{folder}/apps/who/wsgi.py" process-group=deaf',
        workers=2,
    )
    server.log.expect("GL050[356]: process group 'deaf'")
    with ExitStack() as stack, Load(server.address, "/who", clients=2) as load:
        waiting = [stack.enter_context(connected(server.address)) for _ in range(6)]
        for one in waiting:
            one.send(request("GET", "/deaf"))
        load.wait_for_more(50)
        answers = [one.read_response() for one in waiting]
    assert load.failures() == []
    assert {answer.status for answer in answers} <= {503, 504}
    assert {a.header("Retry-After") for a in answers if a.status == 503} == {"1"}


def test_overload_is_answered_and_over_when_it_is_over(start_shop: StartShop) -> None:
    """RELIABILITY C 12: what waits too long is a 503 or 504, and the next request is served."""
    server = with_other(start_shop, "threads=1 listen-backlog=3 queue-timeout=2")
    server.log.expect("GL0506: process group 'shop'")
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(server.address)) for _ in range(7)]
        for one in waiting:
            one.send(request("GET", "/waits?slow"))
        wait_until((server.root / "files" / "slow.runs").exists, "one runs")
        server.log.wait_for("GL0506")
        assert ask(server, "/other").status == 200
        (server.root / "files" / "slow.end").touch()
        statuses = [one.read_response().status for one in waiting]
    assert set(statuses) <= {200, 503, 504}
    assert 200 in statuses
    assert ask(server, "/who").status == 200
