# SPDX-License-Identifier: Apache-2.0
"""`pyglue reload GROUP` beside a running httpd: nothing fails, and the outcome is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import census, conf
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving, slow_request
from process.test_reload import script_of, write

StartShop = Callable[..., Httpd]


def reload(server: Httpd, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [conf.prefix() / "bin" / "pyglue", "reload", *arguments, "--httpd", str(server.pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize("option", ["", "display-name=shown", "reload=strict"])
def test_all_workers_are_new_when_it_returns_and_no_request_failed(
    start_shop: StartShop, option: str
) -> None:
    server = start_shop(f"processes=2 threads=4 {option}", workers=2)
    with Load(server.address, "/who", clients=3) as load:
        old = serving(load, 1) or {facts(server)["pid"]}
        told = reload(server, "shop")
        assert told.returncode == 0, told.stdout
        new = facts(server)["pid"]
        load.wait_for_more(50)
        now = serving(load, 20)

    assert load.failures() == []
    replaced, serve = (set(map(int, re.findall(r"\d+", x))) for x in told.stdout.splitlines())
    assert old <= replaced and new in serve
    assert now <= serve and len(serve) == 2 and serve.isdisjoint(replaced)


def test_workers_that_are_forks_of_one_that_loaded_are_known_from_it(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """The one that has loaded the application serves nothing, and minds no signal."""
    server = start_httpd(shop.lines(folder, "threads=2 preload=on"), root=folder)
    wait_until(lambda: ask(server, "/who").status == 200, "it serves")
    old = facts(server)["pid"]
    told = reload(server, "shop")
    assert told.returncode == 0, told.stdout
    assert f"workers {old} are to be replaced" in told.stdout
    assert facts(server)["pid"] != old


def test_request_that_runs_is_not_waited_for_and_finishes(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    old = facts(server)["pid"]
    with slow_request(server) as connection:
        assert reload(server, "shop").returncode == 0
        assert facts(server)["pid"] != old and census.is_alive(old)
        (server.root / "files" / "slow.end").touch()
        assert connection.read_response().body == b"done"


def test_code_that_does_not_load_is_told_and_the_old_workers_stay(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    old = facts(server)["pid"]
    server.log.expect("PG1104")
    server.log.expect_traceback("ZeroDivisionError")
    server.log.allow("PG300[24]")
    server.configure(
        [
            *shop.lines(server.root, "threads=4"),
            f'WSGIImportScript "{script_of(server)}" process-group=shop '
            "application-group=%{GLOBAL}",
        ]
    )
    server.graceful()
    wait_until(lambda: facts(server)["pid"] != old, "the import is part of a start")
    old = facts(server)["pid"]
    write(script_of(server), "1 / 0\n")

    told = reload(server, "shop")

    assert told.returncode == 1
    assert f"could not load all scripts, and workers {old} stay in service" in told.stdout


def test_group_that_does_not_run_is_told_with_those_that_do(start_shop: StartShop) -> None:
    server = start_shop()
    told = reload(server, "no-such-group")
    assert told.returncode == 1
    assert "no worker of a process group 'no-such-group' runs; groups with workers:" in told.stdout
    assert "shop" in told.stdout


def test_idle_group_on_demand_may_be_reloaded(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """Nobody is told; what its next worker loads is new."""
    server = start_httpd(shop.lines(folder, "processes=0-1 threads=4"), root=folder)
    told = reload(server, "shop", "--if-running")
    assert told.returncode == 0, told.stdout
    assert "no worker of a process group 'shop' runs" in told.stdout
    old = facts(server)["pid"]
    told = reload(server, "shop", "--if-running")
    assert told.returncode == 0, told.stdout
    assert facts(server)["pid"] != old


def test_it_need_not_wait(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    old = facts(server)["pid"]
    told = reload(server, "shop", "--no-wait")
    assert (told.returncode, told.stdout.count("\n")) == (0, 1)
    wait_until(lambda: facts(server)["pid"] != old, "another worker serves")


def test_children_of_the_application_are_left_alone(start_shop: StartShop) -> None:
    """A fork that left the worker is adopted by the supervisor, and would die of the signal."""
    server = start_shop("threads=4")
    before = set(server.processes())
    ask(server, "/leaves_behind?fork")
    (child,) = set(server.processes()) - before
    try:
        assert reload(server, "shop").returncode == 0
        assert census.is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_sigusr1_to_the_supervisor_reloads_all_groups(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    shop.both(server, "other", script_of(server))
    old = {facts(server)["pid"], facts(server, "/other")["pid"]}
    os.kill(server.supervisor(), signal.SIGUSR1)
    wait_until(lambda: facts(server)["pid"] not in old, "a new worker of the one")
    wait_until(lambda: facts(server, "/other")["pid"] not in old, "and of the other")
