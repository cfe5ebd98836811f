# SPDX-License-Identifier: Apache-2.0
"""Interpreters end without a fatal error (RELIABILITY C 20), however much an application leaves to
that moment (apps/ends_hard). How many is the environment's say; the figures are printed.

    PYGLUE_SOAK=1000 make test T='-s tests/perf/test_shutdowns.py'

`PYGLUE_SOAK_PACKAGES` names a folder with numpy, lxml and cryptography, as `pip install --target`
makes it for the Python of the environment: the application uses what it finds of them."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import census, conf, pythons
from harness.client import Connection, Response, request, wait_until
from harness.httpd import Httpd

APP = Path(__file__).parents[1] / "apps" / "ends_hard" / "wsgi.py"
TIMES = int(os.environ.get("PYGLUE_SOAK", "1"))
PACKAGES = os.environ.get("PYGLUE_SOAK_PACKAGES", "")
LONG = 120
# Application groups; the last one owns its GIL where it can.
GROUPS = ("%{GLOBAL}", "one", "two", "three", "four")
# What the application's own callbacks and destructors leave in the log.
NOISE = (
    r"Traceback \(most|^\[[^]]*\] .*\]   |ZeroDivisionError|Exception ignored|PG3015|Error in sys|"
    r"Error in atexit|PG3030|    |^\s*$|"
    # On a machine with other things to do a child or a worker takes longer than others expect.
    "AH00045|GL0506"
)
FATAL = ("Fatal Python error", "Segmentation fault", "SIGSEGV", "SIGABRT", "exit signal")

Start = Callable[..., Httpd]


class Notes:
    """How many interpreters of each application group have noted something."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0
        self.counted: Counter[str] = Counter()

    def count(self, group: str = "main") -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._seen)
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            self._seen += len(new)
            for line in new.decode().splitlines():
                self.counted[line.split()[1]] += 1
        return self.counted[group]


class Shop:
    """The application in each application group, loaded when a process begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o777)
        shutil.copy(APP, folder / "app.py")
        self.begun, self.ended = Notes(folder / "begun"), Notes(folder / "ended")

    def say(self, how: str) -> None:
        (self.folder / "how").write_text(how)

    def lines(self, *process_groups: str) -> list[str]:
        """At /PROCESS-GROUP/0 and so on; without any at /embedded/0."""
        mounts = [
            f'WSGIScriptAlias /{process_group or "embedded"}/{i} "{self.folder}/app.py" '
            f"process-group={process_group or '%{GLOBAL}'} application-group={name}"
            for process_group in process_groups or [""]
            for i, name in enumerate(GROUPS)
        ]
        own = f"<WSGIInterpreterOptions application-group={GROUPS[-1]}>\nWSGIPerInterpreterGIL On\n"
        return [*mounts, f"{own}</WSGIInterpreterOptions>", *conf.granted(self.folder)]

    def check(self, server: Httpd, processes: int) -> None:
        """No more have ended than began, some have, and none by a crash. What takes longer than it
        may is ended without a note."""
        last = GROUPS[-1]
        wait_until(lambda: self.begun.count(last) >= processes, "all have begun", LONG)
        server.stop()
        for notes in (self.begun, self.ended):
            notes.count()
        print(f"interpreters: begun {dict(self.begun.counted)}, ended {dict(self.ended.counted)}")
        check_log(server)
        assert self.ended.counted <= self.begun.counted
        assert self.ended.count() > 0


def check_log(server: Httpd) -> None:
    found = [line for line in server.log.text().splitlines() if any(f in line for f in FATAL)]
    assert not found, found[:20]
    server.log.allow(NOISE)


@pytest.fixture
def shop(folder: Path) -> Shop:
    return Shop(folder)


# Workers.


# The system's, and the newest.
PYTHONS = sorted({pythons.since(pythons.OLDEST)[i] for i in (0, -1)})


@pytest.fixture(scope="session", params=PYTHONS, ids=lambda path: path.parts[-3])
def python(request: pytest.FixtureRequest, copies: Path) -> Path:
    return pythons.reachable(request.param, copies)


@pytest.fixture
def open_groups(start_httpd: Start, shop: Shop, python: Path) -> Callable[..., Httpd]:
    """Start process groups of one worker each, which nothing replaces but the test."""

    def start(*process_groups: str, patience: str = f"{LONG}s") -> Httpd:
        options = f"python={python} shutdown-timeout={patience}"
        if PACKAGES:
            options += f" python-path={PACKAGES}"
        groups = [f"WSGIDaemonProcess {name} {options}" for name in process_groups]
        return start_httpd([*groups, *shop.lines(*process_groups)])

    return start


Open = Callable[..., Httpd]


def ask_once(server: Httpd, target: str) -> Response:
    connection = Connection(server.address, LONG)
    try:
        connection.send(request("GET", target))
        return connection.read_response()
    finally:
        connection.close()


def ask_patiently(server: Httpd, target: str) -> Response:
    """Many interpreters take their time to begin."""
    answers: list[Response] = []

    def is_served() -> bool:
        answers.append(ask_once(server, target))
        return answers[-1].status != 503

    wait_until(is_served, f"{target} is served", LONG)
    return answers[-1]


def ask_pid(server: Httpd, process_group: str) -> int:
    return int(ask_patiently(server, f"/{process_group}/0").text.split()[0])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_workers_end_without_a_fatal_error(open_groups: Open, shop: Shop) -> None:
    """And beside them such whose script did not load."""
    names = ("one", "other")
    server = open_groups(*names)
    for i in range(len(GROUPS)):
        print(f"application group {i}:", ask_patiently(server, f"/one/{i}").text)
    for _ in range(2 * TIMES):
        before = [ask_pid(server, name) for name in names]
        ended = shop.ended.count()
        for pid in before:
            os.kill(pid, signal.SIGUSR1)
        wait_until(lambda n=ended + 2: shop.ended.count() >= n, f"{before} have ended", LONG)
    shop.check(server, 4 * TIMES + 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_whose_script_does_not_load_ends_without_a_fatal_error(
    open_groups: Open, shop: Shop
) -> None:
    server = open_groups("one")
    pid = ask_pid(server, "one")
    server.log.expect("ImportError: told to fail")
    server.log.allow(r"PG1\d\d\d|PG3\d\d\d")
    shop.say("fail")
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: shop.begun.count() == 2, "another has begun", LONG)
    assert ask_pid(server, "one") == pid
    shop.say("")
    os.utime(shop.folder / "app.py")
    wait_until(lambda: ask_pid(server, "one") != pid, "a good one serves", LONG)
    wait_until(lambda: shop.ended.count() == 2, "both have ended", LONG)
    shop.check(server, 3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_whose_exit_callback_hangs_is_ended(open_groups: Open, shop: Shop) -> None:
    server = open_groups("one", patience="1s")
    pid = ask_pid(server, "one")
    shop.say("hang")
    os.kill(pid, signal.SIGUSR1)  # the next one is to hang
    wait_until(lambda: ask_pid(server, "one") != pid, "another serves", LONG)
    pid = ask_pid(server, "one")
    shop.say("")
    server.log.expect("PG2005")
    os.kill(pid, signal.SIGUSR1)
    server.wait_for_exit(pid)
    server.stop()
    check_log(server)


# httpd's children.


def children(server: Httpd) -> list[int]:
    pids = census.children(server.pid)
    return [pid for pid in pids if "supervisor" not in census.command(pid)]


FEW = ["StartServers 2", "ThreadsPerChild 4", "MaxRequestWorkers 16", "MinSpareThreads 1"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_children_end_without_a_fatal_error(start_httpd: Start, shop: Shop) -> None:
    """Two at each graceful restart, every other time such whose script did not load."""
    own = [f"WSGIPythonPath {PACKAGES}"] if PACKAGES else []
    server = start_httpd([*FEW, *own, *shop.lines()])
    server.log.allow(r"ImportError: told to fail|PG3\d\d\d")
    for time in range(2 * TIMES):
        begun = 2 * (time + 1)
        wait_until(lambda n=begun: shop.begun.count(GROUPS[-1]) >= n, "two have begun", LONG)
        answers = {ask_patiently(server, f"/embedded/{i}").status for i in range(len(GROUPS))}
        assert answers == {500 if time % 2 else 200}
        shop.say("" if time % 2 else "fail")
        before = children(server)
        server.graceful()
        for pid in before:
            wait_until(lambda pid=pid: not census.is_alive(pid), f"{pid} has ended", LONG)
    shop.check(server, 4 * TIMES + 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_child_whose_exit_callback_hangs_ends(start_httpd: Start, shop: Shop) -> None:
    shop.say("hang")
    server = start_httpd([*FEW, *shop.lines()])
    pid = ask_pid(server, "embedded")
    shop.say("")
    server.graceful()
    server.wait_for_exit(pid)
    server.stop()
    check_log(server)
