# SPDX-License-Identifier: Apache-2.0
"""`pyglue reload`: whom it tells, what it waits for, and what it says when that does not come."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pyglue.cli import parser, reload
from pyglue.cli.running import Worker
from pyglue.errors import PyglueError

ME = os.geteuid()
OLD = Worker(2000001, ME, "shop", "ready", 10, 1)
NEW = replace(OLD, pid=2000002)


class Machine:
    """Shows one list of workers after the other; the last one stays."""

    def __init__(self, *scenes: list[Worker], commands: dict[int, list[bytes]] | None = None):
        self._scenes: Iterator[list[Worker]] = iter(scenes)
        self._commands = commands or {}
        self._now: list[Worker] = []

    def workers(self) -> list[Worker]:
        self._now = next(self._scenes, self._now)
        return self._now

    def command(self, pid: int) -> list[bytes]:
        return self._commands.get(pid, [])


def chosen(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["reload", *arguments])


def choose(machine: Machine, *arguments: str) -> int | None:
    return reload.choose(machine, chosen("shop", *arguments))  # type: ignore[arg-type]


def wait(machine: Machine, seconds: float = 5.0, *more: Worker) -> list[Worker]:
    end = time.monotonic() + seconds
    return reload.wait(machine, "shop", 10, [OLD, *more], end)  # type: ignore[arg-type]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PyglueError) as error:
        call()
    return str(error.value)


def test_unknown_group_is_told_with_those_that_run() -> None:
    said = refused(lambda: choose(Machine([replace(OLD, group="blog")])))
    assert said.startswith("no worker of a process group 'shop' runs; groups with workers: blog.")


def test_unknown_group_is_none_where_it_need_not_run() -> None:
    assert choose(Machine([replace(OLD, group="blog")]), "--if-running") is None
    assert choose(Machine([OLD]), "--if-running") == 10


def test_worker_whose_group_is_closed_is_named() -> None:
    said = refused(lambda: choose(Machine([replace(OLD, group="")])))
    assert "Of workers 2000001 the group cannot be seen" in said


def test_group_of_another_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    said = refused(lambda: choose(Machine([replace(OLD, uid=999999)])))
    assert said == (
        "process group 'shop' runs as user #999999: only that user and root can reload it"
    )


def test_group_of_another_user_beside_own_workers_whose_group_is_closed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group of that name may be his own, in another httpd."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    own, other = replace(OLD, pid=2000003, group="", uid=4242), replace(OLD, uid=999999)
    said = refused(lambda: choose(Machine([own, other])))
    assert "runs as user #999999" in said
    assert "Of workers 2000003 the group cannot be seen" in said


def test_of_several_httpds_the_one_that_is_meant_must_be_named() -> None:
    both = [OLD, replace(OLD, pid=2000003, supervisor=20, httpd=2)]
    commands = {
        1: [b"/usr/sbin/apache2", b"-k", b"start"],
        2: [b"httpd", b"-f", b"/etc/two.conf", b"-DX"],
    }
    machine = Machine(both, commands=commands)
    said = refused(lambda: choose(machine))
    assert "--httpd 1 (/usr/sbin/apache2 -k start), --httpd 2 (httpd -f /etc/two.conf" in said
    assert choose(machine, "--httpd", "1") == 10
    assert choose(machine, "-f", "/etc/../etc/two.conf") == 20
    assert "no worker" in refused(lambda: choose(machine, "-f", "/etc/three.conf"))


def test_it_waits_until_the_old_have_left_and_a_new_one_serves() -> None:
    leaving = replace(OLD, state="leaving")
    machine = Machine([OLD], [OLD, replace(NEW, state="starting")], [OLD, NEW], [leaving, NEW], [])
    assert wait(machine) == [NEW]


def test_it_waits_for_as_many_as_there_were() -> None:
    """Under reload=strict all old ones leave at once, and new ones come one by one."""
    second, other = replace(OLD, pid=2000003), replace(OLD, pid=2000004)
    leaving = replace(second, state="leaving")
    assert wait(Machine([NEW], [NEW, leaving], [NEW, other]), 5.0, second) == [NEW, other]
    starting = replace(second, state="starting")  # one that had died, say, was being replaced
    assert wait(Machine([NEW], [NEW, other]), 5.0, starting) == [NEW, other]
    assert wait(Machine([NEW, leaving], []), 5.0, leaving) == [NEW]
    assert wait(Machine([NEW]), 0.0, second) == [NEW]  # a group that has shrunk meanwhile


def test_new_worker_that_could_not_load_is_told_at_once() -> None:
    said = refused(lambda: wait(Machine([OLD, replace(NEW, state="unloaded")]), 3600.0))
    assert "new worker 2000002 could not load all scripts" in said
    assert "workers 2000001 stay in service" in said


def test_new_worker_that_could_not_load_is_the_only_one() -> None:
    said = refused(lambda: wait(Machine([replace(NEW, state="unloaded")]), 3600.0))
    assert "requests are answered 500" in said


def test_time_that_passes_is_told_with_what_there_is() -> None:
    said = refused(lambda: wait(Machine([OLD, replace(NEW, state="starting")]), 0.0))
    assert "not reloaded in time: workers 2000001 are in service yet" in said
    assert "2000002 (starting)" in said


def test_process_that_came_by_the_pid_is_not_signalled() -> None:
    """This process bears the pid now, and is no worker."""

    class Changed(Machine):
        def worker(self, _: int) -> None:
            return None

    assert not reload.signalled(Changed(), replace(OLD, pid=os.getpid()))  # type: ignore[arg-type]
