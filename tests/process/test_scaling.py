# SPDX-License-Identifier: Apache-2.0
"""Workers that come when requests wait and go when they are not needed: no request is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.client import connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts

Start = Callable[..., Httpd]


@contextmanager
def running(server: Httpd, count: int) -> Iterator[None]:
    """So many requests at once, which end together and are all answered."""
    files = server.root / "files"
    with ExitStack() as stack:
        peers = [stack.enter_context(connected(server.address)) for _ in range(count)]
        for i, peer in enumerate(peers):
            peer.send(request("GET", f"/waits?{i}"))
        yield
        for i in range(count):
            (files / f"{i}.end").touch()
        assert [peer.read_response().text for peer in peers] == ["done"] * count


def test_first_request_starts_the_first_worker_and_waits_for_it(
    folder: Path, start_httpd: Start
) -> None:
    server = start_httpd(shop.lines(folder, "processes=0-2 threads=4"), root=folder)
    assert server.workers() == []
    assert ask(server, "/who").status == 200
    assert len(server.workers()) == 1


def test_a_crowd_before_the_first_worker_is_served_to_the_last(
    folder: Path, start_httpd: Start
) -> None:
    server = start_httpd(shop.lines(folder, "processes=0-1 threads=4"), root=folder)
    with Load(server.address, "/who", clients=3) as load:
        load.wait_for_more(100)
    assert load.failures() == []
    assert len(server.workers()) == 1


def test_idle_worker_is_stopped_and_started_again_without_a_failed_request(
    folder: Path, start_httpd: Start
) -> None:
    """Each turn comes as soon as the log says that the last worker is told to leave."""
    server = start_httpd(
        shop.lines(
            folder, "processes=0-1 threads=4 inactivity-timeout=500ms", "LogLevel wsgi:info"
        ),
        root=folder,
    )
    for turn in range(5):
        with Load(server.address, "/who", clients=3) as load:  # also while the last one leaves
            load.wait_for_more(20)
        assert load.failures() == []
        wait_until(lambda turn=turn: server.log.text().count("PG1125") > turn, "it is stopped", 20)
    wait_until(lambda: server.workers() == [], "the last worker has ended")
    assert ask(server, "/who").status == 200


def test_requests_that_wait_add_workers_up_to_the_most_and_they_go_again(
    folder: Path, start_httpd: Start
) -> None:
    server = start_httpd(
        shop.lines(folder, "processes=1-3 threads=1 inactivity-timeout=2"), root=folder
    )
    shop.wait_for_workers(server, 1)
    with running(server, 5):
        wait_until(lambda: len(server.workers()) == 3, "three workers", 20)
        files = server.root / "files"
        wait_until(lambda: len(list(files.glob("*.runs"))) == 3, "three requests run")
    wait_until(lambda: len(server.workers()) == 1, "one worker is left", 20)
    assert ask(server, "/who").status == 200


def test_a_worker_without_requests_is_replaced_where_the_number_is_fixed(
    folder: Path, start_httpd: Start
) -> None:
    server = start_httpd(shop.lines(folder, "threads=4 inactivity-timeout=1"), root=folder)
    shop.wait_for_workers(server, 1)
    first = facts(server)["pid"]
    wait_until(lambda: server.workers() and first not in server.workers(), "it is replaced", 20)
    assert facts(server)["pid"] != first


def test_a_broken_group_on_demand_is_a_500_at_once_and_not_started_by_each_request(
    folder: Path, start_httpd: Start
) -> None:
    server = start_httpd(shop.lines(folder, "threads=4"), root=folder)
    script = server.root / "apps" / "loop.wsgi"
    script.write_text("import os\nos._exit(7)\n")
    server.log.expect("PG1103.*exited with status 7")
    server.log.allow("GL0506")
    shop.alone(server, "loop", script, "processes=0-1")
    server.graceful()
    wait_until(lambda: ask(server, "/loop").status == 500, "it is disabled")
    server.log.wait_for("PG1103")
    starts = server.log.text().count("PG1103")
    for _ in range(5):
        assert ask(server, "/loop").status == 500
    assert server.log.text().count("PG1103") <= starts + 1
    assert ask(server, "/who").status == 200
