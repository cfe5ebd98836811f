# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 16: the folder of WSGISocketPrefix is on a file system that turned read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import census
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving

Start = Callable[..., Httpd]
TOLD = "PG1105: .*socket directory.*Read-only file system.*WSGISocketPrefix"


class Run:
    """A file system of its own, as /run is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", path], check=True
        )

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    made = Run(folder / "run")
    yield made
    subprocess.run(["umount", made.path], check=True)


@pytest.fixture
def server(run: Run, start_httpd: Start, folder: Path) -> Iterator[Httpd]:
    """Not started; ended before its file system is taken away."""
    lines = [f'WSGISocketPrefix "{run.path}/wsgi"', *shop.lines(folder, "threads=4")]
    made = start_httpd([], root=folder)
    made.configure(lines)
    yield made
    made.stop()


def test_a_group_that_can_have_no_socket_is_disabled_until_it_can(server: Httpd, run: Run) -> None:
    server.log.expect(TOLD)
    server.log.expect("GL0506.*shop.*it cannot serve: the socket directory")
    server.log.allow("GL0506")
    run.remount("ro")
    server.graceful()
    server.log.wait_for("PG1105")
    assert ask(server, "/who").status == 500
    run.remount("rw")
    wait_until(lambda: ask(server, "/who").status == 200, "it serves", 30)


def test_old_workers_serve_on_while_new_ones_can_have_no_socket(server: Httpd, run: Run) -> None:
    server.log.expect(TOLD)
    server.graceful()
    (old,) = shop.wait_for_workers(server, 1)
    with Load(server.address, "/who", clients=2, keep_alive=False) as load:
        run.remount("ro")
        server.graceful()
        server.log.wait_for("PG1105", 20)
        load.wait_for_more(50)
        assert serving(load, 20) == {old}
        run.remount("rw")
        wait_until(lambda: serving(load, 6) != {old}, "a new one serves", 30)
    assert load.failures() == []
    server.wait_for_exit(old)
    assert census.is_alive(facts(server)["pid"])
