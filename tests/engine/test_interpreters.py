# SPDX-License-Identifier: Apache-2.0
"""Sub-interpreters with a GIL of their own, and application groups spread over several."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import pythons
from harness.client import wait_until

from .memhost.machine import Machine
from .scripts import GATHERS, HELLO, bodies, call_of, meeting, write

Open = Callable[..., Machine]


SPINS = """
def application(environ, start_response):
    open('{folder}/' + environ['QUERY_STRING'], 'w').close()
    while True:
        pass
"""


def leave(machine: Machine) -> None:
    """As workers do: interpreters with a GIL of their own are left to the process."""
    if machine.process.poll() is None:
        machine.ask("close")
        assert machine.outside() == ""
        machine.abandon()


@pytest.fixture(scope="module", params=pythons.since((3, 12)), ids=lambda path: path.parts[-3])
def python(request: pytest.FixtureRequest) -> Path:
    """Each one in which interpreters can have a GIL of their own."""
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def open_machine(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Start a process of that Python with the engine open."""
    module = Machine.build(tmp_path_factory.mktemp("memhost"), python)
    engine = pythons.engine_of(python)
    with ExitStack() as started:

        def start(**settings: Any) -> Machine:
            machine = Machine(module, settings, python, engine)
            started.callback(leave, machine)
            return machine

        yield start


@pytest.fixture(scope="module")
def owning(open_machine: Open) -> Machine:
    """With WSGIPerInterpreterGIL On."""
    return open_machine(own_gil=True)


def test_two_groups_run_at_once_with_gils_of_their_own(owning: Machine, tmp_path: Path) -> None:
    script = meeting(tmp_path, 30)
    answers = owning.ask("together", call_of(script, "one"), call_of(script, "two"))
    assert bodies(answers) == [b"met", b"met"]


def test_two_groups_that_share_a_gil_do_not_run_at_once(open_machine: Open, tmp_path: Path) -> None:
    """What shows that the test above proves something."""
    script = meeting(tmp_path, 0.5)
    machine = open_machine()
    answers = machine.ask("together", call_of(script, "one"), call_of(script, "two"))
    assert sorted(bodies(answers)) == [b"alone", b"met"]


def test_a_spread_group_runs_two_requests_at_once(open_machine: Open, tmp_path: Path) -> None:
    script = meeting(tmp_path, 30)
    machine = open_machine(interpreters=2)
    assert bodies(machine.ask("together", *[call_of(script, "")] * 2)) == [b"met", b"met"]


def test_a_request_goes_where_the_fewest_run(open_machine: Open, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    script = write(tmp_path / "a.wsgi", GATHERS.format(folder=folder, count=7))
    machine = open_machine(interpreters=3)
    marks = Counter(bodies(machine.ask("together", *[call_of(script, "shop")] * 7)))
    assert sorted(marks.values()) == [2, 2, 3]
    alone = {machine.call(script, group="shop").body for _ in range(5)}
    assert len(alone) == 1 and alone <= set(marks)


def test_a_script_is_loaded_into_each_interpreter_of_its_group(
    open_machine: Open, tmp_path: Path
) -> None:
    text = f"import os\nopen(f'{tmp_path}/loaded-{{os.urandom(8).hex()}}', 'w').close()\n"
    script = write(tmp_path / "a.wsgi", text + HELLO.format(body="b'1'"))
    machine = open_machine(interpreters=3)
    assert machine.ask("load", script, "shop", "application")
    assert len(list(tmp_path.glob("loaded-*"))) == 3
    assert machine.call(script, group="shop").body == b"1"
    assert len(list(tmp_path.glob("loaded-*"))) == 3
    bad = write(tmp_path / "b.wsgi", f"open('{tmp_path}/tried', 'a').write('x')\n1 / 0\n")
    assert not machine.ask("load", bad, "shop", None)
    assert (tmp_path / "tried").read_text() == "x"  # what fails in one need not be tried in others
    assert machine.outside().count("ZeroDivisionError: division by zero") == 1


def test_each_interpreter_has_the_groups_name_and_what_serving_needs(
    open_machine: Open, tmp_path: Path
) -> None:
    text = "import json, logging, mod_wsgi, signal, ssl, subprocess\n"
    body = """repr([environ['mod_wsgi.application_group'], mod_wsgi.application_group,
                    subprocess.run(['echo', 'x'], capture_output=True).stdout,
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)]).encode()"""
    script = write(tmp_path / "a.wsgi", text + HELLO.format(body=body))
    for settings, group in (({"own_gil": True}, "sub"), ({"interpreters": 2}, "")):
        answer = open_machine(**settings).call(script, group=group)
        assert answer.kind == "complete", answer.log
        assert eval(answer.body) == [group, group, b"x\n", None]
        assert "PG3105" in answer.log


def test_threads_that_come_and_go_leave_every_interpreter_whole(
    owning: Machine, tmp_path: Path
) -> None:
    text = "import threading\nlocal = threading.local()\n" + HELLO.format(body="b'here'")
    script = write(tmp_path / "a.wsgi", text)
    for group in ("", "one", "two", "three", "") * 3:
        answers = owning.ask("threads", 16, 2, *call_of(script, group))
        assert bodies(answers) == [b"here"] * 32


def test_a_request_is_interrupted_in_the_interpreter_that_runs_it(
    owning: Machine, tmp_path: Path
) -> None:
    """Each has a GIL of its own, and the one has what it needs while the other is interrupted."""
    script = write(tmp_path / "a.wsgi", SPINS.format(folder=tmp_path))
    for number, group in ((1, "one"), (2, "two")):
        owning.begin(script, number, group=group, pairs=[(b"QUERY_STRING", group.encode())])
        wait_until((tmp_path / group).exists, f"{group} runs")
    assert owning.ask("interrupt", 1)
    assert owning.finish(1).status == 504
    assert not owning.ask("interrupt", 1)
    owning.ask("dump")
    assert "runs GET " in owning.outside().partition("group 'two'")[2]
    owning.ask("touch")
    assert owning.ask("interrupt", 2)
    assert owning.finish(2).status == 504


def test_each_gil_has_a_number_and_stacks_of_its_own(open_machine: Open, tmp_path: Path) -> None:
    """The main interpreter's is the first, and others come into being with their interpreters."""
    script = write(tmp_path / "a.wsgi", HELLO.format(body="b'1'"))
    machine = open_machine(own_gil=True)
    assert machine.ask("gils") == 1
    for group in ("one", "", "two", "one"):
        assert machine.call(script, group=group).body == b"1"
    assert machine.ask("gils") == 3
    for gil, group in enumerate(("", "one", "two")):
        machine.ask("touch", gil)
        machine.ask("dump", gil)
        assert re.findall("group '(.*)'", machine.outside()) == [group]


def test_exit_callbacks_run_in_each_interpreter(open_machine: Open, tmp_path: Path) -> None:
    text = "import atexit, os\n"
    text += (
        f"atexit.register(lambda: open(f'{tmp_path}/left-{{os.urandom(8).hex()}}', 'w').close())\n"
    )
    script = write(tmp_path / "a.wsgi", text + HELLO.format(body="b'1'"))
    for settings, count in (({"own_gil": True}, 1), ({"interpreters": 3}, 4)):
        machine = open_machine(**settings)
        assert machine.ask("load", script, "sub", "application")
        leave(machine)
        assert len(list(tmp_path.glob("left-*"))) == count


def test_files_of_every_interpreter_are_watched(open_machine: Open, tmp_path: Path) -> None:
    script = write(tmp_path / "a.wsgi", HELLO.format(body="b'1'"))
    os.utime(script, (1000, 1000))
    show = "__import__('pyglue.loader.reload').loader.reload.watched()"
    other = write(tmp_path / "b.wsgi", HELLO.format(body=f"repr({show}).encode()"))
    machine = open_machine(interpreters=2)
    machine.call(script, group="sub")
    assert eval(machine.call(other, group="").body)[script] == 1000 * 10**9


def test_an_extension_that_refuses_is_named_with_the_remedy(
    owning: Machine, open_machine: Open, tmp_path: Path
) -> None:
    """One of CPython's own is one of these."""
    script = write(tmp_path / "a.wsgi", "import faulthandler\n" + HELLO.format(body="b'1'"))
    answer = owning.call(script, group="sub")
    assert answer.kind == "failed"
    told = "PG3034: the extension module 'faulthandler' does not run in the sub-interpreter of"
    assert f"{told} application group 'sub': " in answer.log
    assert (
        "WSGIApplicationGroup %{GLOBAL}" in answer.log and "WSGIPerInterpreterGIL Off" in answer.log
    )
    spread = open_machine(interpreters=2).call(script)
    assert (
        f"{told} application group '': " in spread.log and "leave interpreters= out" in spread.log
    )
    assert owning.call(script).body == b"1"  # the main interpreter takes it
