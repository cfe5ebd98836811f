# SPDX-License-Identifier: Apache-2.0
"""Without a GIL: many threads at once in everything of the engine that they share.

On a free-threaded build, which `make free-threaded` makes; it also runs all other tests of the
engine there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import pythons

from .memhost.machine import FLAGS, Machine
from .scripts import HELLO, bodies, call_of, meeting, write

Open = Callable[..., Machine]
THREADS, TIMES = 8, 60

HAS_GIL = "import sys\n" + HELLO.format(body="repr(sys._is_gil_enabled()).encode()")

# Two threads of one request use everything of it, in every order.
SHARES = """
import threading

def application(environ, start_response):
    found = []

    def use():
        try:
            for _ in range(40):
                found.append(environ['wsgi.input'].read(7))
                environ['wsgi.errors'].write('a line of text\\n')
        except RuntimeError as error:
            found.append(str(error).encode())

    def head(headers):
        try:
            start_response('200 OK', headers)
        except RuntimeError as error:
            found.append(str(error).encode())

    headers = [('X-%d' % i, 'v' * i) for i in range(20)]
    threads = [threading.Thread(target=use) for _ in range(2)]
    threads += [threading.Thread(target=head, args=(headers,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        headers.append(headers.pop())
    for thread in threads:
        thread.join()
    refused = sum(b'again without exc_info' in each for each in found)
    busy = sum(b'another thread' in each for each in found)
    read = sum(len(each) for each in found if each and not each.strip(b'x'))
    return [b'%d %d %d' % (refused, read, busy)]
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Start a process of that Python with the engine open."""
    python = pythons.free_threaded()
    if not python.exists():
        pytest.skip(f"there is no {python}: `make free-threaded` builds it")
    built = Machine.build(tmp_path_factory.mktemp("memhost"), python)
    engine = pythons.engine_of(python)
    with ExitStack() as started:

        def one(gil: int = 0, **settings: Any) -> Machine:
            machine = Machine(built, settings, python, engine, ("-X", f"gil={gil}"))
            return started.enter_context(machine)

        yield one


@pytest.fixture(scope="module")
def machine(start: Open) -> Machine:
    return start()


def with_pairs(script: str, pairs: list[tuple[bytes, bytes]]) -> tuple[Any, ...]:
    return Machine.command(script, pairs=pairs)


def test_the_engine_leaves_the_gil_off(machine: Machine, tmp_path: Path) -> None:
    script = write(tmp_path / "a.wsgi", HAS_GIL)
    assert machine.call(script).body == b"False"
    assert machine.call(script, group="sub").body == b"False"


def test_the_gil_is_on_where_it_was_chosen(start: Open, tmp_path: Path) -> None:
    machine = start(gil=1)
    assert "PG3033" in machine.outside()
    assert machine.call(write(tmp_path / "a.wsgi", HAS_GIL)).body == b"True"


def test_two_requests_of_one_interpreter_run_at_once(start: Open, tmp_path: Path) -> None:
    for gil, expected in ((0, [b"met", b"met"]), (1, [b"alone", b"met"])):
        folder = tmp_path / str(gil)
        folder.mkdir()
        script = meeting(folder, 0.5 if gil else 30)
        answers = start(gil=gil).ask("together", *[call_of(script, "")] * 2)
        assert sorted(bodies(answers)) == sorted(expected)


def test_an_own_gil_is_none_where_there_is_none(start: Open, tmp_path: Path) -> None:
    machine = start(own_gil=True)
    assert "PG3031" in machine.outside()
    script = write(tmp_path / "a.wsgi", "import faulthandler\n" + HELLO.format(body="b'1'"))
    assert machine.call(script, group="sub").body == b"1"


def test_threads_share_the_table_of_keys(machine: Machine, tmp_path: Path) -> None:
    """Each request brings keys that no other has, and one that all have."""
    show = "environ['own'].encode() + b' ' + str(len(environ)).encode()"
    script = write(tmp_path / "a.wsgi", HELLO.format(body=show))
    calls = []
    for number in range(200):
        names = [(f"HTTP_X_{number}_{i}".encode(), b"1") for i in range(40)]
        calls.append(with_pairs(script, [*names, (b"own", b"%d" % number)]))
    found = bodies(machine.ask("together", *calls))
    assert [int(body.split()[0]) for body in found] == list(range(200))
    assert len({body.split()[1] for body in found}) == 1


def test_threads_share_an_application_that_is_loaded_anew(machine: Machine, tmp_path: Path) -> None:
    """A script that is to be loaded again for nearly every request, and the streams of sys."""
    text = "import os, sys\nos.utime(__file__)\n"
    text += "def reload_required(path):\n    return True\n"
    script = write(tmp_path / "a.wsgi", text + HELLO.format(body="(print('seen'), b'1')[1]"))
    arguments = list(call_of(script, ""))
    arguments[6] = FLAGS["reloading"]
    answers = machine.ask("threads", THREADS, 20, *arguments)
    assert bodies(answers) == [b"1"] * THREADS * 20
    for *_, operations in answers:
        assert [op[3] for op in operations if op[0] == "log"] == [b"seen"]


def test_threads_of_one_request_share_all_of_it(machine: Machine, tmp_path: Path) -> None:
    """One head is taken, no byte is read twice, and no line is torn."""
    script = write(tmp_path / "a.wsgi", SHARES)
    arguments = list(call_of(script, ""))
    arguments[6:10] = [FLAGS["has_body"], 300, b"x" * 300, 5]
    for *_, operations in machine.ask("threads", THREADS, TIMES, *arguments):
        refused, read, busy = map(int, operations[-1][3].split())
        assert refused == 1 and read <= 300 and (read == 300 or busy)
        (head,) = [op[3].decode() for op in operations if op[0] == "start"]
        lines = [line for line in head.splitlines() if line.startswith("X-")]
        assert sorted(lines) == sorted(f"X-{i}: {'v' * i}" for i in range(20))
        text = b"\n".join(op[3] for op in operations if op[0] == "log")
        assert set(text.split(b"\n")) <= {b"a line of text"}


def test_threads_that_come_and_go_leave_every_interpreter_whole(
    machine: Machine, tmp_path: Path
) -> None:
    text = "import threading\nlocal = threading.local()\n" + HELLO.format(body="b'here'")
    script = write(tmp_path / "a.wsgi", text)
    for group in ("", "one", "two", "") * 2:
        answers = machine.ask("threads", 2 * THREADS, 2, *call_of(script, group))
        assert bodies(answers) == [b"here"] * 4 * THREADS
