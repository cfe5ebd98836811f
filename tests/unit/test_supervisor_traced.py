# SPDX-License-Identifier: Apache-2.0
"""Children that have ended, but are traced: who is found, when it is given up, what is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import census, tracer
from harness.client import wait_until
from harness.world import group_plan

from pyglue.supervisor import process, traced
from pyglue.supervisor.actions import Death
from pyglue.supervisor.deaths import Calls, Deaths
from pyglue.supervisor.launch import Recipe
from pyglue.supervisor.listeners import Listener
from pyglue.supervisor.traced import LOOKS, Traced, tracer_of

# Three threads beside the first one, which ends by itself when it is told to. Anybody may trace it,
# where Yama asks; with an argument a process of its own does.
CHILD = """
import ctypes, os, sys, threading, time
libc = ctypes.PyDLL(None)
libc.prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)
for _ in range(3):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
worker = os.getpid()
if sys.argv[1:] and os.fork() == 0:
    for thread in map(int, os.listdir(f"/proc/{worker}/task")):
        assert libc.ptrace(0x4206, thread, 0, 0) == 0
    print(flush=True)
    time.sleep(60)
if not sys.argv[1:]:
    print(flush=True)
sys.stdin.readline()
libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
PARTS = {"all": tracer.ALL, "the first": slice(1), "the others": slice(1, None)}


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, as workers are."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *getattr(request, "param", ())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"\n"
        yield started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    wait_until(lambda: not census.is_alive(child.pid), "it has ended")
    threads = [int(name) for name in os.listdir(f"/proc/{child.pid}/task")]
    wait_until(lambda: not any(map(census.is_alive, threads)), "its threads have, too")


@pytest.mark.parametrize("which", PARTS)
def test_one_that_has_ended_is_found_whichever_of_its_threads_are_traced(
    child: subprocess.Popen[bytes], which: str
) -> None:
    with tracer.kept(child.pid, PARTS[which]) as who:
        assert tracer_of(child.pid) is None, "it lives"
        end(child)
        assert tracer_of(child.pid) == who
    wait_until(lambda: tracer_of(child.pid) is None, "it can be reaped")
    assert child.wait() == -signal.SIGKILL


def test_one_that_has_ended_and_is_not_traced_is_left_to_the_normal_way(
    child: subprocess.Popen[bytes],
) -> None:
    end(child)
    assert tracer_of(child.pid) is None


def test_one_whose_first_thread_has_ended_lives_while_others_do(
    child: subprocess.Popen[bytes],
) -> None:
    with tracer.kept(child.pid):
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        wait_until(lambda: not census.is_alive(child.pid), "its first thread has ended")
        assert tracer_of(child.pid) is None


def test_no_number_of_threads_keeps_the_supervisor(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracer.kept(child.pid):
        end(child)
        monkeypatch.setattr(traced, "MOST_THREADS", 3)
        assert tracer_of(child.pid) is None


def test_none_that_is_not_there_is_found() -> None:
    assert tracer_of(1 << 30) is None


@dataclass(eq=False)
class Fake:
    """A process whose tracer is known, while it has ended."""

    pid: int
    tracer: int | None = None
    kills: int = 0

    def kill(self) -> None:
        self.kills += 1


@dataclass
class World:
    running: list[Any]
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._traced = Traced(self._tracer_of)

    def _tracer_of(self, pid: int) -> int | None:
        self.asked.append(pid)
        return next(fake.tracer for fake in self.running if fake.pid == pid)

    def look(self) -> list[tuple[Any, int]]:
        self.asked.clear()
        return self._traced.look(self.running)


def test_one_is_given_up_at_the_second_look_and_its_process_group_ended_at_the_first() -> None:
    """Whoever traces it in there goes with that, and the normal way is free."""
    fake = Fake(7, tracer=9)
    world = World([Fake(0), Fake(6), fake])
    assert world.look() == [] and fake.kills == 1
    assert world.look() == [(fake, 9)] and fake.kills == 1
    assert world.asked == [7, 6]


def test_one_whose_tracer_lets_go_meanwhile_is_not_given_up() -> None:
    fake = Fake(7, tracer=9)
    world = World([fake])
    world.look()
    fake.tracer = None
    assert world.look() == []
    fake.tracer = 9
    assert world.look() == [] and world.look() == [(fake, 9)]


def test_one_that_was_reaped_meanwhile_is_not_given_up() -> None:
    world = World([Fake(7, tracer=9)])
    world.look()
    world.running = [Fake(7)]
    assert world.look() == []


def test_of_many_some_are_looked_at_and_those_that_were_found_each_time() -> None:
    world = World([Fake(pid) for pid in range(1, 2 * LOOKS + 11)])
    world.running[0].tracer = 9
    first = [*world.look(), world.asked.copy()]
    assert first == [list(range(1, LOOKS + 1))]
    assert world.look() == [(world.running[0], 9)]
    assert world.asked == [1, *range(LOOKS + 1, 2 * LOOKS + 1)]
    world.running.pop(0)
    world.look()
    assert world.asked == list(range(2 * LOOKS + 2, 2 * LOOKS + 11))
    world.look()
    assert world.asked[0] == 2 and len(world.asked) == LOOKS


class Heard:
    """Stands for the hearing."""

    def __init__(self) -> None:
        self.out: list[process.Process] = []

    def hear_out(self, worker: process.Process) -> None:
        self.out.append(worker)


@pytest.fixture
def worker(child: subprocess.Popen[bytes]) -> Iterator[process.Process]:
    recipe = Recipe("/bin/true", None, ("true",), (), "/", group_plan(), False)
    listener = Listener("", socket.socket(socket.AF_UNIX))
    made, ends = process.make(1, recipe, b"", listener, 4096)
    made.pid = child.pid
    yield made
    made.close()
    listener.release()
    ends.close()


@pytest.mark.parametrize("child", [("traced",)], indirect=True)
def test_one_that_a_process_of_its_own_group_traces_is_left_to_the_normal_way(
    worker: process.Process, child: subprocess.Popen[bytes]
) -> None:
    end(child)
    assert tracer_of(child.pid) is not None
    looks = Traced()
    assert looks.look([worker]) == []
    assert child.wait(10) == -signal.SIGKILL
    assert looks.look([worker]) == []


def test_what_it_ran_is_told_without_waiting_for_it_and_it_is_reaped_as_a_stranger(
    worker: process.Process, child: subprocess.Popen[bytes]
) -> None:
    told: list[Death] = []
    heard: Any = Heard()
    calls = Calls(lambda _: None, lambda _: None, lambda _, death: told.append(death))
    deaths = Deaths(
        None,  # type: ignore[arg-type]
        heard,
        SimpleNamespace(oom_kills=lambda: 0),  # type: ignore[arg-type]
        lambda _: (0, 5, 0, 2, [(9, 0, b"aBc", b"GET /a")]),
        lambda *_: None,
        calls,
    )
    with tracer.kept(child.pid) as who:
        end(child)
        deaths.look(0.0, [worker])
        deaths.reap()
        assert not told
        deaths.look(1.0, [worker])
        deaths.reap()
        assert heard.out == [worker]
    (death,) = told
    assert death.cause.startswith(f"ended, but how cannot be told: process {who} traces it")
    assert "; before, deadlock-timeout had passed" in death.cause
    assert (death.served, death.running, death.ran[0].line) == (5, (9,), b"GET /a")
    assert not death.clean and death.complete
    wait_until(lambda: deaths.reap() or not Path(f"/proc/{child.pid}").exists(), "it is reaped")
