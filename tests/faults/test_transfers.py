# SPDX-License-Identifier: Apache-2.0
"""What becomes of a request that is under way when something around it ends: RELIABILITY C 2, 8,
17 and 18. Each test says who sees an error; nobody else does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from harness import census, conf
from harness.client import Connection, CutError, connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process.shop import facts, serving

StartShop = Callable[..., Httpd]
HALF = bytes(65536)  # what the application reads at once


def begin_upload(connection: Connection) -> None:
    """Its application has answered with the first half when this returns, and reads on."""
    head = {"Content-Length": str(2 * len(HALF))}
    connection.send(request("POST", "/echo_streaming", head) + HALF)
    assert connection.read_head().status == 200
    assert read_half(connection) == HALF


def end_upload(connection: Connection, _: Httpd) -> None:
    connection.send(HALF)
    assert read_half(connection) == HALF


def read_half(connection: Connection) -> bytes:
    """In as many chunks as it comes in."""
    data = b""
    while len(data) < len(HALF) and (chunk := connection.read_chunk()):
        data += chunk
    return data


def begin_download(connection: Connection) -> None:
    """Its application waits until the file `seen` is there."""
    connection.send(request("GET", "/waits_between_blocks?seen"))
    assert connection.read_head().status == 200
    assert connection.read_chunk() == b"first"


def end_download(connection: Connection, server: Httpd) -> None:
    (server.root / "files" / "seen").touch()
    assert connection.read_chunk() == b"second"


def children(server: Httpd) -> list[int]:
    """httpd's children."""
    pids = census.children(server.pid)
    return [pid for pid in pids if census.command(pid).startswith(conf.program())]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize(
    ("begin", "end"),
    [(begin_upload, end_upload), (begin_download, end_download)],
    ids=["upload", "download"],
)
def test_a_transfer_ends_well_though_its_worker_is_told_to_end(
    start_shop: StartShop,
    begin: Callable[[Connection], None],
    end: Callable[[Connection, Httpd], None],
    number: signal.Signals,
) -> None:
    """Nobody sees an error: another worker takes over what is new."""
    server = start_shop("threads=4")
    (old,) = server.workers()
    with connected(server.address) as connection, Load(server.address, "/who", clients=2) as load:
        begin(connection)
        os.kill(old, number)
        wait_until(lambda: serving(load, 4).isdisjoint([old]), "another worker serves", 20)
        assert census.is_alive(old)
        end(connection, server)
        assert connection.read_chunk() == b""
    assert load.failures() == []
    server.wait_for_exit(old)


@pytest.mark.parametrize("begin", [begin_upload, begin_download])
def test_a_killed_worker_cuts_the_transfer_that_it_ran_visibly(
    start_shop: StartShop, begin: Callable[[Connection], None]
) -> None:
    """Its client sees that the response is not whole; all others are served."""
    server = start_shop("processes=2 threads=4", workers=2)
    server.log.expect("PG1103.*was killed by SIGKILL")
    server.log.expect("GL0504.*was killed by SIGKILL")
    with connected(server.address) as connection:
        begin(connection)
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises((EOFError, ConnectionError, ValueError)):
            connection.read_chunk()
    assert facts(server)["group"] == "shop"


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_a_killed_child_of_httpd_costs_what_it_served_and_no_place(
    start_shop: StartShop, mpm: str
) -> None:
    """Its own clients see a closed connection and the application an OSError; the threads that it
    held serve others, and so does another child at once."""
    server = start_shop("threads=2", mpm=mpm)
    server.log.allow(r"AH00052|PG2001|\[group shop\]")
    (worker,) = server.workers()
    clients = [Connection(server.address) for _ in range(2)]
    for i, client in enumerate(clients):
        client.send(request("GET", f"/waits?slow-{i}"))
        wait_until((server.root / "files" / f"slow-{i}.runs").exists, "it runs in a thread")

    for pid in children(server):
        os.kill(pid, signal.SIGKILL)
    for client in clients:
        with pytest.raises((EOFError, ConnectionError)):
            client.read_response()
        client.close()
    for i in range(2):
        (server.root / "files" / f"slow-{i}.end").touch()

    with Load(server.address, "/who", clients=2) as load:
        load.wait_for_more(20)
    assert load.failures() == []
    assert serving(load, 20) == {worker}


def test_a_stopped_worker_costs_a_502_to_what_it_ran_and_nothing_else(
    start_shop: StartShop,
) -> None:
    server = start_shop("processes=2 threads=2", workers=2)
    server.log.expect("PG1115")
    server.log.expect("PG1103.*was killed by SIGKILL")
    server.log.expect("GL0504.*was killed by SIGKILL")
    with connected(server.address) as connection, Load(server.address, "/who", clients=2) as load:
        connection.send(request("GET", "/waits?slow"))
        wait_until((server.root / "files" / "slow.runs").exists, "the request runs")
        for pid in server.workers():
            os.kill(pid, signal.SIGSTOP)
        assert connection.read_response().status == 502
        load.wait_for_more(50)
    failed = load.failures()
    assert {(answer.status, answer.is_cut) for answer in failed} <= {(502, False), (200, True)}
    assert len(failed) <= 2, "one for each client"


def test_a_cut_upload_is_no_short_body_when_its_child_is_killed(start_shop: StartShop) -> None:
    """The application gets OSError, and its worker goes on."""
    server = start_shop("threads=2")
    server.log.expect_traceback("OSError")
    server.log.allow(r"AH00052|PG2001|PG3001|\[group shop\] +")
    (worker,) = server.workers()
    with connected(server.address) as connection:
        begin_upload(connection)
        for pid in children(server):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises((EOFError, ConnectionError, CutError)):
            connection.read_chunk()
    assert facts(server)["pid"] == worker
