# SPDX-License-Identifier: Apache-2.0
"""What is told of a worker's death: one line, with its cause and what it ran."""

from __future__ import annotations

import itertools
import os
import signal
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from harness.world import ENDED, KILLED, World, group_plan

from pyglue.supervisor import deaths, family, messages
from pyglue.supervisor.actions import Bury, Death
from pyglue.supervisor.causes import Running
from pyglue.supervisor.deaths import Calls, Deaths
from pyglue.supervisor.loop import LONGEST
from pyglue.supervisor.worker import Message, Recycle

NO_CGROUPS: Any = SimpleNamespace(oom_kills=lambda: 0)


def test_a_death_names_what_ran() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    ran = (Running(9, 2.0, b"aBc", b"GET /a"),)
    world.gone(old, replace(KILLED, ran=ran))
    (said,) = world.said(messages.WORKER_DIED)
    assert said.message.text.format_map(said.values).endswith("It ran: GET /a (id aBc, for 2.0 s)")


def test_a_death_whose_record_is_nonsense_says_that_it_knows_no_number() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    world.gone(old, Death("was killed by SIGSEGV", complete=False))
    (said,) = world.said(messages.WORKER_DIED)
    assert "with an unknown number running" in said.message.text.format_map(said.values)


def test_our_own_sigkill_says_why() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    world.do(world.roster.stopped(old))
    world.gone(old, Death("was killed by SIGKILL", served=1))
    (buried,) = (a for a in world.done if isinstance(a, Bury))
    assert buried.death.cause == "was killed by SIGKILL: a signal had stopped it"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory_limit": 1 << 20}, "; memory-limit may be too small to start in"),
        (
            {"memory_limit": 1 << 20, "virtual_memory_limit": 1 << 23},
            "; memory-limit or virtual-memory-limit may be too small to start in",
        ),
        ({}, ""),
    ],
)
def test_a_limit_of_memory_in_which_no_python_starts_is_named(
    options: dict[str, int], words: str
) -> None:
    """It dies before it can say anything, and its signal or status is misleading."""
    world = World()
    world.plan(group_plan(**options))
    world.gone(next(iter(world.started)), Death("exited with status 127"))
    (buried,) = (a for a in world.done if isinstance(a, Bury))
    assert buried.death.cause == f"exited with status 127{words}"


def test_what_a_worker_told_before_its_death_is_part_of_the_cause() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    world.say(old, Message.RECYCLE, Recycle.DEADLOCK_TIMEOUT)
    world.gone(old, Death("exited with status 1", served=1))
    (said,) = world.said(messages.WORKER_DIED)
    assert str(said.values["cause"]).startswith("exited with status 1; before, its interpreter")


def test_an_exit_that_nobody_asked_for_says_so_however_clean_it_was() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    world.gone(old, replace(ENDED, served=1))
    (said,) = world.said(messages.WORKER_DIED)
    assert said.values["cause"] == "exited with status 0, which nobody had asked for"


def test_requests_that_an_end_cut_short_are_an_error_unless_all_stops() -> None:
    world = World()
    first, second = world.serve(group_plan(processes=2))
    cut = replace(ENDED, running=(9,), ran=(Running(9, 2.0, b"", b"GET /a"),))
    world.say(first, Message.RECYCLE, Recycle.SIGNAL)
    world.gone(first, cut)
    assert len(world.said(messages.WORKER_CUT)) == 1
    world.do(world.roster.stop("httpd stops", world.now))
    world.gone(second, cut)
    assert len(world.said(messages.WORKER_CUT)) == 1


def test_deaths_that_take_long_leave_the_rest_to_the_next_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pipes that answer late, as a tenant's file system makes them, cost seconds each: httpd takes
    a supervisor that is away for some of them for hung."""
    clock, again, waited = itertools.count(0.0, LONGEST), [], []
    monkeypatch.setattr(deaths, "now", lambda: next(clock))
    dead = SimpleNamespace(si_pid=7, si_code=os.CLD_KILLED)
    monkeypatch.setattr(family, "changed_children", lambda most: itertools.repeat(dead, most))
    monkeypatch.setattr(os, "waitpid", lambda pid, _: waited.append(pid))
    calls = Calls(process_of=lambda _: None, stopped=lambda _: None, gone=lambda *_: None)
    loop = SimpleNamespace(again=again.append)
    Deaths(loop, None, NO_CGROUPS, None, None, calls).reap()  # type: ignore[arg-type]
    assert (waited, again) == ([7], [signal.SIGCHLD])


def test_a_process_that_is_killed_while_it_is_found_stopped_is_reaped_like_others() -> None:
    """A tenant's, whose parent is gone: the kernel says that it has no such child then."""
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    os.kill(child, signal.SIGSTOP)
    os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOWAIT)

    def process_of(pid: int) -> None:
        """Asked between the two looks at it."""
        assert pid == child
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

    calls = Calls(process_of=process_of, stopped=lambda _: None, gone=lambda *_: None)
    Deaths(None, None, NO_CGROUPS, None, None, calls).reap()  # type: ignore[arg-type]
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
