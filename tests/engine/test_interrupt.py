# SPDX-License-Identifier: Apache-2.0
"""A request ended from outside by mod_wsgi.RequestTimeout, and the stacks of all threads."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .memhost.machine import Answer, Machine, is_free_threaded

GROUPS = ["", "another"]  # the main interpreter, and a sub-interpreter
HEAD = """
import os, time, threading, mod_wsgi
def note(text):
    with open(NOTES, "a") as file:
        file.write(text + "\\n")
def start(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
"""


SHOWN = 'File "{}", line 0, in application'


class Site:
    """Scripts that note what becomes of them, and a machine that runs them."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.notes = folder / "notes"
        self.notes.touch()
        self.script = folder / "app.wsgi"

    def write(self, text: str) -> str:
        self.script.write_text(f"NOTES = {str(self.notes)!r}\n{HEAD}{text}")
        return str(self.script)

    def begin(self, text: str, number: int = 1, group: str = "") -> None:
        """Until it has noted "runs"."""
        self.machine.begin(self.write(text), number, group=group,
                           pairs=[(b"REQUEST_URI", b"/a%20path\xe9?a=secret")])  # fmt: skip
        self.wait_for("runs")

    def wait_for(self, note: str) -> None:
        while note not in self.noted():
            os.sched_yield()

    def noted(self) -> list[str]:
        return self.notes.read_text().split()

    def interrupt(self, number: int = 1) -> bool:
        done: bool = self.machine.ask("interrupt", number)
        return done

    def finish(self, number: int = 1) -> Answer:
        return self.machine.finish(number)


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    yield Site(machine, tmp_path)
    machine.outside()


SPINS = """
def application(environ, start_response):
    note("runs")
    while True:
        time.sleep(0.001)  # so that the player of the main interpreter comes to run before 3.13
"""


@pytest.mark.parametrize("group", GROUPS)
def test_an_interrupted_request_is_a_504_without_a_traceback(site: Site, group: str) -> None:
    site.begin(SPINS, group=group)
    assert site.interrupt()
    answer = site.finish()
    assert (answer.kind, answer.status) == ("failed", 504)
    assert answer.log == (
        f"PG3021: script '{site.script}': the request failed: it ran for longer than "
        "request-timeout and was interrupted"
    )


@pytest.mark.parametrize("group", GROUPS)
def test_what_the_application_imports_catches_it(site: Site, group: str) -> None:
    site.begin(
        """
def application(environ, start_response):
    try:
        note("runs")
        while True:
            time.sleep(0.001)
    except mod_wsgi.RequestTimeout as caught:
        assert not isinstance(caught, Exception)
        start(start_response)
        return [b"in time"]
""",
        group=group,
    )
    assert site.interrupt()
    answer = site.finish()
    assert (answer.kind, answer.body, answer.log) == ("complete", b"in time", "")


def test_an_exception_handler_does_not_catch_it(site: Site) -> None:
    site.begin(
        SPINS.replace("time.sleep(0.001)", "try: time.sleep(0.001)\n        except Exception: pass")
    )
    assert site.interrupt()
    assert site.finish().status == 504


BLOCKS = """
class Blocks:
    def __iter__(self):
        yield b"first"
        note("runs")
        while True:
            time.sleep(0.001)
    def close(self):
        for i in range(10000):
            pass
        note("closed")
def application(environ, start_response):
    start(start_response)
    return Blocks()
"""


@pytest.mark.parametrize("group", GROUPS)
def test_an_interrupted_iteration_is_cut_and_closed_once(site: Site, group: str) -> None:
    site.begin(BLOCKS, group=group)
    assert site.interrupt()
    answer = site.finish()
    assert (answer.kind, answer.body) == ("cut", b"first")
    assert site.noted() == ["runs", "closed"]
    assert answer.log.startswith("PG3021") and "Traceback" not in answer.log


def test_an_iteration_interrupted_before_the_head_is_sent_is_a_504(site: Site) -> None:
    site.begin(BLOCKS.replace('yield b"first"', 'yield b""'))
    assert site.interrupt()
    answer = site.finish()
    assert (answer.kind, answer.status, answer.order) == ("failed", 504, "log")
    assert site.noted() == ["runs", "closed"]


READS = """
import io
class Reader(io.FileIO):  # iterated in C, so that no step of Python is between its end and close()
    def close(self):
        for i in range(10000):
            pass
        super().close()
        note("closed")
def watch(reader, writer):
    while open(f"/proc/self/task/{reader}/syscall").read().split()[0] != "0":
        time.sleep(0.001)
    note("runs")
    while not os.path.exists(GATE):
        time.sleep(0.001)
    os.close(writer)
def application(environ, start_response):
    reader, writer = os.pipe()
    threading.Thread(target=watch, args=(threading.get_native_id(), writer)).start()
    start(start_response)
    return Reader(reader)
"""


@pytest.mark.parametrize("group", GROUPS)
def test_what_finds_the_iteration_ended_is_taken_back_before_close(site: Site, group: str) -> None:
    gate = site.notes.parent / "gate"
    site.begin(READS.replace("GATE", repr(str(gate))), group=group)
    assert site.interrupt()
    gate.touch()
    answer = site.finish()
    assert (answer.kind, answer.log) == ("complete", "")
    assert site.noted() == ["runs", "closed"]


def test_a_close_that_does_not_end_is_interrupted(site: Site) -> None:
    site.begin(
        """
class Blocks(list):
    def __iter__(self):
        return iter([b"whole"])
    def close(self):
        note("runs")
        while True:
            time.sleep(0.001)
def application(environ, start_response):
    start(start_response)
    return Blocks()
"""
    )
    assert site.interrupt()
    answer = site.finish()
    assert (answer.kind, answer.body) == ("complete", b"whole")
    assert "close() of the response failed: it ran for longer" in answer.log


def test_a_request_is_interrupted_once(site: Site) -> None:
    site.begin(
        """
def application(environ, start_response):
    try:
        note("runs")
        while True:
            time.sleep(0.001)
    except mod_wsgi.RequestTimeout:
        note("caught")
    while not os.path.exists(GATE):
        time.sleep(0.001)
    start(start_response)
    return [b"late"]
""".replace("GATE", repr(str(site.notes.parent / "gate")))
    )
    assert site.interrupt()
    site.wait_for("caught")
    assert not site.interrupt()
    (site.notes.parent / "gate").touch()
    assert site.finish().body == b"late"


def test_a_script_that_is_loaded_is_not_interrupted(site: Site) -> None:
    gate = site.notes.parent / "gate"
    site.begin(
        f"""
note("runs")
while not os.path.exists({str(gate)!r}):
    time.sleep(0.001)
def application(environ, start_response):
    start(start_response)
    return [b"loaded"]
"""
    )
    assert not site.interrupt()
    gate.touch()
    assert site.finish().body == b"loaded"


def test_a_number_that_does_not_run_is_not_interrupted(site: Site) -> None:
    assert not site.interrupt(99)


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_raised_in_another_request_nor_after_the_end(
    machine: Machine, tmp_path: Path, group: str
) -> None:
    site = Site(machine, tmp_path)
    script = site.write(
        """
closed = []
class Blocks:
    def __init__(self, environ):
        self.number = environ["mod_wsgi.request_id"]
    def __iter__(self):
        yield b"a"
        for i in range(3000):
            pass
        yield b"b"
    def close(self):
        closed.append(1)
def application(environ, start_response):
    if environ["QUERY_STRING"]:
        start(start_response)
        return [str(len(closed)).encode()]
    for i in range(3000):
        pass
    start(start_response)
    return Blocks(environ)
"""
    )
    command = machine.command(script, group=group)
    answers, hits, leaks = machine.ask("interrupted", 4, 150, command)
    ended = {number for number, kind, _ in answers if kind != 0}
    assert leaks == []
    assert len(answers) >= 600
    assert ended <= set(hits)
    assert len(hits) == len(set(hits))
    assert ended, "no request was hit"
    asked = machine.call(script, group=group, pairs=[(b"QUERY_STRING", b"closed")])
    # A request that was hit before it returned its blocks has none to close.
    assert len(answers) - len(ended) <= int(asked.body) <= len(answers)
    machine.outside()


# Stacks.


@pytest.mark.parametrize("group", GROUPS)
def test_stacks_show_each_thread_and_what_it_runs(site: Site, group: str) -> None:
    site.begin(SPINS, group=group)
    site.machine.ask("dump")
    dumped = site.machine.outside()
    site.interrupt()
    site.finish()
    own = next(part for part in dumped.split("PG3020: ") if f"group '{group}'" in part)
    thread, _, stack = own.partition("Thread 0x")[2].partition("\n")
    if group and is_free_threaded():
        # Python shows one frame of a thread then, and this one is in the main interpreter as well.
        stack = SHOWN.format(site.script)
    assert "runs GET /a%20path\\xe9 (request request-1, for " in thread
    assert f'File "{site.script}", line ' in stack and ", in application" in stack


def test_stacks_are_shown_while_the_gil_is_held(built: Path, tmp_path: Path) -> None:
    """Of each interpreter, by faulthandler; without a GIL nobody can hold it."""
    if is_free_threaded():
        return
    with Machine(built) as machine:
        site = Site(machine, tmp_path)
        stacks = tmp_path / "stacks"
        machine.ask("register", str(stacks))
        site.begin(SPINS, group="another")
        machine.ask("dump_stuck", int(signal.SIGRTMAX))
        site.interrupt()
        site.finish()
    shown = stacks.read_text()
    assert f'File "{site.script}", line ' in shown and "in application" in shown
    assert "player.py" in shown


def test_a_signal_that_nobody_takes_is_not_raised(machine: Machine) -> None:
    machine.ask("dump_stuck", 0)
    machine.ask("dump_stuck", int(signal.SIGRTMAX - 1))
    machine.ask("touch")
