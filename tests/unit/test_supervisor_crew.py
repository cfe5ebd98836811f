# SPDX-License-Identifier: Apache-2.0
"""Who is told what of those that run: the roster of workers, the nursery of preloaders."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from harness.world import group_plan

from pyglue.supervisor import process
from pyglue.supervisor.actions import Death, Launch
from pyglue.supervisor.channel import WORDS
from pyglue.supervisor.crew import Crew
from pyglue.supervisor.launch import Recipe
from pyglue.supervisor.listeners import Listener, ListenError
from pyglue.supervisor.logs import Logs
from pyglue.supervisor.loop import Loop
from pyglue.supervisor.nursery import NUMBER as PRELOADER
from pyglue.supervisor.worker import Message

PLAN = group_plan(preload=True, uid=os.getuid())
RECIPE = Recipe("/bin/true", None, ("true",), (), "/", PLAN, False)
HELLO = (Message.HELLO, 1, 1)


class Told:
    """Stands for whoever is told, and keeps by what and of which worker."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        return lambda *values: self.calls.append((name, *values[:2])) or []

    def is_forking(self, number: int) -> bool:
        return True

    def by_pid(self, pid: int) -> None:
        """No preloader has it."""


@dataclass
class Births:
    """Makes processes that are none."""

    nursery: Told = field(default_factory=Told)
    made: dict[int, tuple[process.Process, process.Ends]] = field(default_factory=dict)
    error: Exception | None = None

    def attend(self, _: object) -> Any:
        return self.nursery

    def make(self, action: Launch, _: float) -> process.Process:
        if self.error is not None:
            raise self.error
        listener = Listener("", socket.socket(socket.AF_UNIX))
        self.made[action.number] = process.make(action.number, RECIPE, b"", listener, 4096)
        return self.made[action.number][0]


@dataclass
class World:
    loop: Loop
    roster: Told = field(default_factory=Told)
    births: Any = field(default_factory=Births)

    def __post_init__(self) -> None:
        roster: Any = self.roster
        self.crew = Crew(self.loop, Logs(2), self.births, roster, lambda _: None)

    def launch(self, number: int) -> process.Process:
        self.crew.launch(Launch(number, PLAN))
        return self.crew[number]

    def say(self, number: int, words: tuple[int, int, int]) -> None:
        os.write(self.births.made[number][1].messages, WORDS.pack(*words))
        self.loop.turn(1)


@pytest.fixture
def world() -> Iterator[World]:
    with closing(Loop({})) as loop:
        made = World(loop)
        yield made
        for worker, ends in made.births.made.values():
            made.crew.hearing.close(worker)
            worker.listener.release()
            ends.close()


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        yield sleeper.pid
        sleeper.kill()


def test_words_of_a_worker_are_the_rosters_and_those_of_a_preloader_the_nurserys(
    world: World,
) -> None:
    world.launch(1)
    world.say(1, HELLO)
    assert world.roster.calls == [("message", 1, HELLO)]
    preloader = world.launch(PRELOADER)
    world.say(PRELOADER, HELLO)
    assert world.births.nursery.calls == [("message", preloader, HELLO)]
    assert len(world.roster.calls) == 1


def test_deaths_are_told_to_whom_they_concern(world: World) -> None:
    death = Death("was killed by SIGSEGV")
    world.crew.gone(world.launch(1), death)
    assert world.roster.calls == [("gone", 1, death)]
    preloader = world.launch(PRELOADER)
    world.crew.gone(preloader, death)
    assert world.births.nursery.calls == [("gone", preloader, death)]


def test_a_fork_that_is_one_becomes_a_worker(world: World, child: int) -> None:
    worker = world.launch(1)
    world.say(1, (Message.FORKED, 0, child))
    assert worker.pid == child and world.crew.process_of(child) is worker
    assert world.roster.calls == [("launched", 1, child)]
    assert world.births.nursery.calls == [("settle", 1)]


@pytest.mark.parametrize("pid", [1, 1 << 40])
def test_a_fork_that_is_none_is_a_launch_that_failed(world: World, pid: int) -> None:
    """What a worker says of itself is the word of a stranger."""
    assert world.launch(1).pid == 0
    world.say(1, (Message.FORKED, 0, pid))
    assert world.roster.calls[0][:2] == ("launch_failed", 1) and not world.crew[1].pid


def test_a_fork_is_heard_before_its_death_is(world: World, child: int) -> None:
    worker = world.launch(1)
    os.write(world.births.made[1][1].messages, WORDS.pack(Message.FORKED, 0, child))
    assert world.crew.process_of(child) is worker


def test_what_was_not_begun_yet_ends_without_a_death(world: World) -> None:
    world.launch(1)
    world.crew.kill(1)
    assert world.roster.calls == [("gone", 1, Death("was never begun", clean=True))]
    assert world.births.nursery.calls == [("settle", 1)]


@pytest.mark.parametrize("error", [OSError("no more"), ValueError("a NUL"), ListenError("full")])
def test_what_cannot_be_begun_is_told_with_its_reason(world: World, error: Exception) -> None:
    world.births.error = error
    world.crew.launch(Launch(1, PLAN))
    assert world.roster.calls == [("launch_failed", 1, str(error))] and 1 not in world.crew
