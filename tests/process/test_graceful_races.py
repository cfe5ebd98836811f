# SPDX-License-Identifier: Apache-2.0
"""Graceful restarts that something else crosses: an import that takes long, deaths, other signals.

No request fails, and none waits for what is not there yet (SUCCESSION 1 to 5, RELIABILITY C 17)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import census
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import serving

StartShop = Callable[..., Httpd]
SLOW_IMPORT = """
import os, time
open({started!r}, "w").close()
while not os.path.exists({go!r}):
    time.sleep(0.01)
"""


def under_load(server: Httpd, clients: int = 3) -> Load:
    return Load(server.address, "/who", clients=clients, keep_alive=False)


class SlowImport:
    """From the next start on the script says that it is being loaded, and waits."""

    def __init__(self, server: Httpd) -> None:
        files = server.root / "files"
        self._started, self._go = files / "started", files / "go"
        self._script = server.root / "apps" / "who" / "wsgi.py"
        text = SLOW_IMPORT.format(started=str(self._started), go=str(self._go))
        self._write(text + self._script.read_text())

    def _write(self, text: str) -> None:
        part = self._script.with_suffix(".part")
        part.write_text(text)
        part.replace(self._script)

    def wait(self) -> None:
        wait_until(self._started.exists, "the new worker imports", 20)
        self._started.unlink()

    def end(self) -> None:
        self._go.touch()


@contextmanager
def restarted_under_load(server: Httpd) -> Iterator[tuple[Load, SlowImport]]:
    """A graceful restart whose new workers import when the block begins, and end that with it. They
    serve then, and no request has failed."""
    old = set(server.workers())
    slow = SlowImport(server)
    with under_load(server) as load:
        server.graceful()
        slow.wait()
        yield load, slow
        slow.end()
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)
    assert load.failures() == []


def started_with_slow_import(start_shop: StartShop, options: str, workers: int) -> Httpd:
    """The alias alone is loaded, and no watch sees the script change before the restart."""
    return start_shop(options, "WSGIScriptReloading Off", workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_waits_for_an_import(start_shop: StartShop, workers: int) -> None:
    """The old workers answer as long as it takes, httpd's new children too."""
    options = f"processes={workers} threads=4"
    server = started_with_slow_import(start_shop, options, workers)
    old = set(server.workers())
    with restarted_under_load(server) as (load, _):
        load.wait_for_more(100)
        assert serving(load, 100) <= old


def test_a_new_worker_that_dies_in_its_import_costs_nothing(start_shop: StartShop) -> None:
    server = started_with_slow_import(start_shop, "threads=4", 1)
    server.log.expect("PG1103.*SIGKILL")
    (old,) = server.workers()
    with restarted_under_load(server) as (load, slow):
        (new,) = [pid for pid in server.workers() if pid != old]
        os.kill(new, signal.SIGKILL)
        slow.wait()
        load.wait_for_more(20)
        assert serving(load, 20) == {old}


def test_a_supervisor_that_dies_while_new_workers_import_costs_nothing(
    start_shop: StartShop,
) -> None:
    """The next one starts from the plan, and the old workers serve until its own have loaded."""
    server = started_with_slow_import(start_shop, "threads=4", 1)
    server.log.expect("GL0603")
    (old,) = server.workers()
    with restarted_under_load(server) as (load, slow):
        os.kill(server.supervisor(), signal.SIGKILL)
        slow.wait()
        load.wait_for_more(50)
        assert serving(load, 50) == {old}
    server.wait_for_exit(old)
    assert len(server.workers()) == 1


def test_a_graceful_restart_just_when_the_supervisor_dies_costs_nothing(
    start_shop: StartShop,
) -> None:
    server = start_shop("processes=2 threads=4", workers=2)
    server.log.expect("GL0603")
    with under_load(server) as load:
        for _ in range(2):
            old = set(server.workers())
            os.kill(server.supervisor(), signal.SIGKILL)
            server.graceful()
            wait_until(lambda gone=old: serving(load, 6).isdisjoint(gone), "new ones serve", 30)
            wait_until(lambda gone=old: gone.isdisjoint(server.workers()), "old ones end", 30)
            wait_until(lambda: len(server.workers()) == 2, "two workers", 20)
    assert load.failures() == []


def test_a_newer_plan_ends_the_imports_of_the_older_one(start_shop: StartShop) -> None:
    """And none of it is ever published."""
    server = started_with_slow_import(start_shop, "threads=4", 1)
    (old,) = server.workers()
    with restarted_under_load(server) as (load, slow):
        (first,) = [pid for pid in server.workers() if pid != old]
        server.graceful()
        slow.wait()
        server.wait_for_exit(first)
    assert first not in serving(load, len(load.answers))


@pytest.mark.parametrize("last", [signal.SIGUSR1, signal.SIGHUP], ids=["graceful", "hard"])
def test_signals_of_all_kinds_in_a_row_end_in_a_site_that_serves(
    start_shop: StartShop, last: signal.Signals
) -> None:
    """A hard restart cuts requests, as it does without us; nothing of what was before is left."""
    server = start_shop("processes=2 threads=4 shutdown-timeout=1", workers=2)
    server.log.allow("AH000(45|46|52)|GL05|PG2005|PG1107|OSError|AH0049")
    before = set(server.processes()) - {server.pid}
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1, signal.SIGHUP):
        server.signal(number)
    server.restart(last)
    for pid in before:
        server.wait_for_exit(pid)
    shop.wait_for_workers(server, 2)
    assert len(folders(server)) == 1


def folders(server: Httpd) -> list[Path]:
    return list(server.root.glob("wsgi.*"))


def test_stop_in_the_middle_of_a_graceful_restart_leaves_nothing(start_shop: StartShop) -> None:
    server = started_with_slow_import(start_shop, "threads=4 shutdown-timeout=1", 1)
    server.log.allow("AH000(45|46|52)|GL05|PG2005|PG1107|OSError")
    slow = SlowImport(server)
    server.graceful()
    slow.wait()
    family = server.processes()
    server.stop()
    assert not any(map(census.is_alive, family))
    assert folders(server) == []
