# SPDX-License-Identifier: Apache-2.0
"""Crashes, restarts and stop, under load: what is lost is what had started, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import census, conf
from harness.client import CutError, connected, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


def lines(mode: str, folder: Path, options: str = "threads=4") -> list[str]:
    """Two applications: `process` tells its pid, `waits` runs until it is told to end."""
    for name in ("process", "waits"):
        shutil.copytree(APPS / name, folder / name, dirs_exist_ok=True)
    group = [f"WSGIDaemonProcess own {options}", "WSGIProcessGroup own"] if mode == "daemon" else []
    folder.chmod(0o777)
    aliases = [
        f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py"' for name in ("process", "waits")
    ]
    own = [*group, "WSGIApplicationGroup %{GLOBAL}", *aliases, f'SetEnv files "{folder}"']
    return [*own, *conf.granted(folder)]


def ask(server: Httpd, target: str = "/process") -> int:
    """The status of one request on a connection of its own; 0 when it was cut or refused."""
    try:
        with connected(server.address) as connection:
            connection.send(request("GET", target, {"Connection": "close"}))
            return connection.read_response().status
    except (OSError, EOFError, CutError):
        return 0


def pid_of(server: Httpd) -> int:
    with connected(server.address) as connection:
        connection.send(request("GET", "/process"))
        return int(json.loads(connection.read_response().body)["pid"])


@contextmanager
def load(server: Httpd, clients: int = 3) -> Iterator[list[int]]:
    """Requests one after the other from several clients; their statuses."""
    statuses: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            statuses.append(ask(server))

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def answered_more(statuses: list[int], number: int = 60) -> None:
    wanted = len(statuses) + number
    wait_until(lambda: len(statuses) >= wanted, "requests go on being answered", 20)


def test_killed_worker_loses_only_what_it_had_started(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines("daemon", folder, "processes=2 threads=4"))
    server.log.allow("GL0|SIGKILL|signal 9|killed")
    with load(server) as statuses:
        answered_more(statuses)
        os.kill(pid_of(server), signal.SIGKILL)
        answered_more(statuses, 150)
    lost = [status for status in statuses if status != 200]
    assert len(lost) <= 3
    assert set(lost) <= {502}


def test_request_on_a_killed_worker_is_answered_502(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines("daemon", folder))
    server.log.allow("GL0|SIGKILL|signal 9|killed")
    worker = pid_of(server)
    with connected(server.address) as connection:
        connection.send(request("GET", "/waits?a"))
        wait_until((folder / "a.runs").exists, "the request runs")
        os.kill(worker, signal.SIGKILL)
        assert connection.read_response().status == 502
    assert ask(server) == 200
    assert pid_of(server) != worker


def test_killed_supervisor_loses_no_request(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines("daemon", folder))
    server.log.allow("GL0|supervisor|SIGKILL|signal 9|killed")
    pid_of(server)
    first = server.supervisor()
    with load(server) as statuses:
        answered_more(statuses)
        os.kill(first, signal.SIGKILL)
        server.wait_for_exit(first)
        answered_more(statuses, 300)
        wait_until(lambda: new_supervisor(server, first), "a new supervisor", 20)
        answered_more(statuses)
    assert set(statuses) == {200}


def new_supervisor(server: Httpd, old: int) -> bool:
    names = {pid: census.command(pid) for pid in server.processes()}
    return any("supervisor/__main__" in name for pid, name in names.items() if pid != old)


def test_graceful_restart_under_load_loses_no_request(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    server = start_httpd(lines(mode, folder))
    pid_of(server)
    with load(server) as statuses:
        answered_more(statuses)
        for _ in range(2):
            server.graceful()
            answered_more(statuses)
    assert set(statuses) == {200}


def test_request_that_runs_outlives_a_graceful_restart(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    server = start_httpd(lines(mode, folder))
    with connected(server.address) as connection:
        connection.send(request("GET", "/waits?b"))
        wait_until((folder / "b.runs").exists, "the request runs")
        server.graceful()
        assert ask(server) == 200
        (folder / "b.end").touch()
        assert connection.read_response().body == b"done"


@pytest.mark.parametrize("mpm", ["prefork", "worker", "event"])
def test_stop_leaves_nothing(mode: str, start_httpd: Start, folder: Path, mpm: str) -> None:
    server = start_httpd(lines(mode, folder), mpm=mpm)
    assert ask(server) == 200
    server.stop()
    assert not census.processes(server.root)


@pytest.mark.parametrize("group", ["%{GLOBAL}", "an-interpreter-of-its-own"])
def test_what_exit_callbacks_print_goes_to_the_error_log(
    mode: str, start_httpd: Start, folder: Path, group: str
) -> None:
    configured = [line.replace("%{GLOBAL}", group) for line in lines(mode, folder)]
    script = folder / "process/wsgi.py"
    script.write_text(script.read_text() + "import atexit\natexit.register(print, 'at the end')\n")
    server = start_httpd(configured)
    assert ask(server) == 200
    server.log.expect("at the end")
    server.stop()


def test_stop_does_not_wait_for_a_request_that_waits_for_python(
    start_httpd: Start, folder: Path
) -> None:
    """Prefork ends its children from a signal handler, in the middle of anything."""
    bin_folder = folder / "slow" / "bin"
    bin_folder.mkdir(parents=True)
    python = bin_folder / "python"
    python.write_text(f"#!/bin/sh\n: > {folder}/asked\nexec sleep 60\n")
    python.chmod(0o755)
    server = start_httpd(
        [f'WSGIPythonHome "{folder}/slow"', *lines("embedded", folder)], mpm="prefork"
    )
    server.log.allow("GL0402|GL0403|AH00045")  # but not AH00046, a child that httpd has to kill
    with connected(server.address) as connection:
        connection.send(request("GET", "/process"))
        wait_until((folder / "asked").exists, "the child asks its Python")
        server.stop()


def test_parent_holds_no_python(mode: str, start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines(mode, folder))
    pid_of(server)
    assert "libpython" not in Path(f"/proc/{server.pid}/maps").read_text()


@pytest.mark.looks_inside
def test_worker_memory_holds_no_secret_of_httpd(start_httpd: Start, folder: Path) -> None:
    """RELIABILITY A1: a canary in another host's configuration is not in the worker."""
    canary = os.urandom(24).hex()
    host = ["<VirtualHost *>", f"SetEnv password {canary}", "</VirtualHost>"]
    server = start_httpd([*lines("daemon", folder), *host])
    # No request is sent: that host's own would carry it. httpd listens before it has children, and
    # until there is a worker one of them may be about to become the supervisor.
    workers = wait_until(server.workers, "a worker")
    child = wait_until(lambda: child_of(server), "a child of httpd")
    assert is_in_memory(child, canary), "the canary must be found where it is"
    for worker in workers:
        assert not is_in_memory(worker, canary)


def child_of(server: Httpd) -> int | None:
    names = {pid: census.command(pid) for pid in census.family(server.pid) if pid != server.pid}
    return next((pid for pid, name in names.items() if "apache2" in name), None)


def is_in_memory(pid: int, text: str) -> bool:
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            first, end = (int(number, 16) for number in span.split("-"))
            if not rights.startswith("rw") or end - first > 1 << 28:
                continue
            try:
                memory.seek(first)
                if text.encode() in memory.read(end - first):
                    return True
            except (OSError, ValueError):
                continue
    return False


@pytest.mark.looks_inside
def test_supervisor_and_workers_have_no_listening_port_of_httpd(
    start_httpd: Start, folder: Path
) -> None:
    server = start_httpd(lines("daemon", folder))
    worker = pid_of(server)
    listening = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    for pid in (worker, server.supervisor()):
        held = set(census.descriptors(pid))
        assert not held & {f"socket:[{inode}]" for inode in listening}


# The last moments of a process take their time.
SLOW_EXIT = """\
#include <time.h>
__attribute__((destructor)) static void wait_a_moment(void) {
    nanosleep(&(struct timespec){1, 0}, NULL);
}
"""
RUNS_ON = """\
import pathlib, ssl, threading, time

def work():
    while True:
        ssl.create_default_context()
        print("runs on")

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
(pathlib.Path(__file__).parent / "begun").touch()
while {loads}:
    time.sleep(0.001)
"""


@pytest.mark.embedded_only  # a worker ends without the handlers of exit()
@pytest.mark.parametrize("loads", [False, True], ids=["threads", "a script that loads"])
def test_child_in_which_python_runs_on_ends_as_asked(
    mode: str, start_httpd: Start, folder: Path, loads: bool
) -> None:
    """Nothing is taken away under code that still runs, logs and uses libraries."""
    folder.chmod(0o777)
    (folder / "app.py").write_text(RUNS_ON.format(loads=loads))
    (folder / "slow_exit.c").write_text(SLOW_EXIT)
    shim = folder / "slow_exit.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, folder / "slow_exit.c"], check=True)
    script = f'WSGIImportScript "{folder}/app.py" process-group=%{{GLOBAL}} application-group=sub'
    lines = ["StartServers 1", script, *conf.granted(folder)]
    server = start_httpd(lines, environ={"LD_PRELOAD": str(shim)})
    server.log.allow("runs on|AH00045")
    wait_until((folder / "begun").exists, "it runs", 60)
    [child] = [p for p in census.children(server.pid) if "supervisor" not in census.command(p)]
    server.graceful()
    server.wait_for_exit(child)
    server.stop()
    assert "exit signal" not in server.log.text()
