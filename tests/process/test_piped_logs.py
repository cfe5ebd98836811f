# SPDX-License-Identifier: Apache-2.0
"""`ErrorLog "|program"`: loggers end with the configuration that started them, and one that is dead
or does not read costs no request. RELIABILITY C 16; SUCCESSION 8."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from harness import census
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, serving

StartShop = Callable[..., Httpd]
LOGGER = """#!/bin/sh
# Its own name in the list of processes, and no other process than itself.
exec tee -a {log} >/dev/null
"""
WRITES = """
import json, os, sys, threading, time

def write():
    while True:
        os.write(1, b"x" * 1000 + b"\\n")
        time.sleep(0.001)

threading.Thread(target=write, daemon=True).start()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid()}).encode()]
"""


def logger(root: Path, name: str) -> Path:
    """A program that appends what it reads to NAME.log."""
    program = root / name
    program.write_text(LOGGER.format(log=root / f"{name}.log"))
    program.chmod(0o755)
    return program


def loggers(server: Httpd, name: str) -> list[int]:
    log = str(server.root / f"{name}.log")
    return [pid for pid in server.processes() if census.command(pid) == f"tee -a {log}"]


@pytest.fixture
def server(start_shop: StartShop, folder: Path) -> Httpd:
    """The main server's log is a file, so that the harness reads it; that of the host in which the
    group is defined goes to a logger."""
    started = start_shop("threads=4")
    name, port = started.address
    program = logger(folder, "piped")
    script = folder / "apps" / "writes.wsgi"
    script.write_text(WRITES)
    started.configure(
        [
            *shop.lines(folder, "threads=4"),
            f"Listen {name}:{port + 1}",
            f"<VirtualHost {name}:{port + 1}>",
            "ServerName piped.invalid",
            f'ErrorLog "|{program}"',
            "WSGIDaemonProcess own threads=4",
            f'WSGIScriptAlias / "{script}" process-group=own application-group=%{{GLOBAL}}',
            "</VirtualHost>",
        ]
    )
    started.graceful()
    return started


def host(server: Httpd) -> tuple[str, int]:
    name, port = server.address
    return name, port + 1


def piped_load(server: Httpd) -> Load:
    return Load(host(server), "/", clients=2, keep_alive=False)


def test_old_loggers_do_not_live_on(server: Httpd) -> None:
    """httpd starts new ones with each configuration."""
    with piped_load(server) as load:
        for _ in range(3):
            before = loggers(server, "piped")
            old = serving(load, 1)
            server.graceful()
            wait_until(lambda gone=old: serving(load, 3).isdisjoint(gone), "new workers serve", 20)
            for pid in before:
                server.wait_for_exit(pid)
            assert len(loggers(server, "piped")) == 1
    assert load.failures() == []
    assert (server.root / "piped.log").stat().st_size > 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "stopped"])
def test_a_logger_that_does_not_read_costs_no_request(server: Httpd, how: signal.Signals) -> None:
    """Its pipe fills, or is broken: what the workers write is dropped and counted."""
    server.log.allow("AH00488")  # httpd, of the logger that was killed
    with piped_load(server) as load, silenced(server, how):
        load.wait_for_more(200)
        assert ask(server, "/who").status == 200
        old = serving(load, 1)
        os.kill(old.copy().pop(), signal.SIGUSR1)
        wait_until(lambda: serving(load, 3).isdisjoint(old), "a new worker serves", 20)
        server.graceful()
        load.wait_for_more(50)
    assert load.failures() == []


@contextmanager
def silenced(server: Httpd, how: signal.Signals) -> Iterator[None]:
    pids = loggers(server, "piped")
    for pid in pids:
        os.kill(pid, how)
    yield
    for pid in pids:
        with suppress(ProcessLookupError):  # httpd has ended it with its configuration
            os.kill(pid, signal.SIGCONT)


def test_the_main_log_may_be_piped(start_shop: StartShop, folder: Path) -> None:
    """Supervisor, parent and all children have it on descriptor 2."""
    program = logger(folder, "main")
    server = start_shop("threads=4", f'ErrorLog "|{program}"', "LogLevel wsgi:info")
    log = folder / "main.log"

    def restarts() -> int:
        return log.read_text().count("resuming normal operations")

    wait_until(restarts, "httpd has its log")
    with Load(server.address, "/who", clients=2, keep_alive=False) as load:
        for count in (2, 3):
            before, old = loggers(server, "main"), serving(load, 1)
            server.signal(signal.SIGUSR1)
            wait_until(lambda wanted=count: restarts() == wanted, "httpd has restarted", 20)
            wait_until(lambda gone=old: serving(load, 3).isdisjoint(gone), "new workers serve", 20)
            for pid in before:
                server.wait_for_exit(pid)
            assert len(loggers(server, "main")) == 1
    assert load.failures() == []
    assert "PG1112" in log.read_text()
