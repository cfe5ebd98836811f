# SPDX-License-Identifier: Apache-2.0
"""preload=on: what is forked, what is not any more, and whose word is taken. The preloader is a
process that sleeps; what it would say is said by the test."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from harness.census import is_open
from harness.plans import UNSAID

from pyglue.supervisor import hearing, process
from pyglue.supervisor.actions import Death
from pyglue.supervisor.launch import Recipe
from pyglue.supervisor.listeners import Listener
from pyglue.supervisor.logs import Logs
from pyglue.supervisor.loop import Loop
from pyglue.supervisor.nursery import FORK, NUMBER, Birth, Calls, Nursery, is_fork
from pyglue.supervisor.plan import GroupPlan
from pyglue.supervisor.process import Process
from pyglue.supervisor.worker import Message

GROUP: dict[str, Any] = {
    **UNSAID,
    "name": "shop",
    "digest": b"d" * 20,
    "user": "",
    "uid": os.getuid(),
    "gid": os.getgid(),
    "groups": (),
    "user_home": "/",
    "python_path": (),
    "scripts": (),
    "preload": True,
    "launch_timeout": 30.0,
}


@dataclass
class World:
    """A nursery, and all that it asked for."""

    sleepers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    orders: list[socket.socket] = field(default_factory=list)  # what preloaders read
    watched: list[Process] = field(default_factory=list)
    forgotten: list[Process] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    births: list[Birth] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = Loop({})
        ignored = hearing.Calls(*[lambda *_: None] * 4)
        self.hearing = hearing.Hearing(self.loop, Logs(2), ignored)
        self.calls = Calls(
            watch=self.watched.append,
            forget=self._forget,
            tell=self.hearing.tell,
            told=lambda worker: self.told.append(worker.number),
            failed=self.failed.__setitem__,
            say=lambda message, values, digest: self.said.append(message.id),
        )
        self.nursery = Nursery(self._spawn, self.calls)

    def _spawn(self, recipe: Recipe, fds: list[int]) -> tuple[int, int, int]:
        self.orders.append(socket.socket(fileno=os.dup(fds[4])))
        sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
        self.sleepers.append(sleeper)
        return sleeper.pid, os.pidfd_open(sleeper.pid), os.open(os.devnull, os.O_RDONLY)

    def _forget(self, preloader: Process) -> None:
        self.forgotten.append(preloader)
        preloader.close()

    def launch(
        self, number: int, roll: int = 0, now: float = 0.0, settings: bytes = b"own"
    ) -> Birth:
        recipe = Recipe("/bin/true", None, ("true",), (), "/", GroupPlan(**GROUP), False)
        listener = Listener("", socket.socket(socket.AF_UNIX))
        made, ends = process.make(number, recipe, b"", listener, 4096)
        birth = Birth(made, ends, settings, b"preloader's", roll)
        self.births.append(birth)
        self.nursery.launch(birth, now)
        return birth

    def load(self, now: float = 0.0) -> None:
        """The newest preloader has loaded its scripts."""
        self.nursery.message(self.watched[-1], (Message.HELLO, 1, NUMBER), now)
        self.nursery.message(self.watched[-1], (Message.READY, 1, 0), now)

    def has_killed(self, which: int = -1) -> bool:
        return self.sleepers[which].wait(10) == -signal.SIGKILL

    def close(self) -> None:
        self.nursery.keep(set())
        for birth in self.births:
            birth.process.listener.release()
            birth.process.close()
        for orders in self.orders:
            orders.close()
        for sleeper in self.sleepers:
            sleeper.kill()
            sleeper.wait()
        self.loop.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_workers_are_ordered_once_their_preloader_has_loaded(world: World) -> None:
    world.launch(1)
    world.launch(2)
    assert len(world.sleepers) == 1 and not world.told
    world.load()
    assert world.told == [1, 2] and world.nursery.is_forking(1)
    order, fds, _, _ = socket.recv_fds(world.orders[0], 64, 8)
    assert order == FORK and len(fds) == 6
    for fd in fds:
        os.close(fd)
    assert not is_open(world.births[0].ends.control)


def test_settings_that_no_pipe_holds_at_once_reach_a_fork_whole(world: World) -> None:
    """A plan of many scripts. The launch was long ago when they are sent."""
    settings = bytes(range(256)) * 1024
    world.launch(1, settings=settings)
    world.load()
    _, fds, _, _ = socket.recv_fds(world.orders[0], 64, 8)
    came = b""
    while len(came) < len(settings):
        came += os.read(fds[0], 1 << 16)
        world.loop.turn(0)
    assert came == settings
    for fd in fds:
        os.close(fd)


def test_supervisor_takes_nothing_from_the_socket_of_a_preloader(world: World) -> None:
    """TENANTS.md section 5: what lies in it could block whoever closes it."""
    world.launch(1)
    with pytest.raises(BrokenPipeError):
        world.orders[0].send(b"x")


def test_another_roll_needs_another_preloader_and_ends_the_idle_one(world: World) -> None:
    world.launch(1)
    world.load()
    world.nursery.settle(1)
    world.launch(2, roll=1)
    assert len(world.sleepers) == 2 and world.has_killed(0)
    assert world.forgotten == world.watched[:1]
    world.launch(3, roll=1)
    assert len(world.sleepers) == 2


def test_preloader_that_still_forks_outlives_a_roll(world: World) -> None:
    world.launch(1)
    world.load()
    world.launch(2, roll=1)
    assert not world.forgotten


def test_what_is_not_wanted_any_more_is_not_forked(world: World) -> None:
    birth = world.launch(1)
    world.nursery.settle(1)
    assert not is_open(birth.ends.control)
    world.load()
    assert not world.told


def test_preloader_that_dies_fails_all_that_it_was_to_fork(world: World) -> None:
    world.launch(1)
    world.load()
    world.launch(2, now=1.0)
    assert world.told == [1, 2]
    world.nursery.gone(world.watched[0], Death("was killed by SIGSEGV"))
    assert set(world.failed) == {1, 2} and "was killed by SIGSEGV" in world.failed[1]
    world.launch(3)
    assert len(world.sleepers) == 2


def test_preloader_that_never_loads_leaves_no_descriptor_of_what_waited(world: World) -> None:
    birth = world.launch(1)
    world.nursery.gone(world.watched[0], Death("exited with status 3"))
    assert "exited with status 3" in world.failed[1]
    assert not is_open(birth.ends.control)


def test_preloader_that_cannot_be_started_leaves_no_descriptor(world: World) -> None:
    """It is tried again and again, and the supervisor lives for months."""

    def fail(*_: object) -> tuple[int, int, int]:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    world.nursery = Nursery(fail, world.calls)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        world.launch(1)
    (birth,) = world.births
    birth.process.listener.release()
    birth.process.close()
    world.births.clear()
    assert set(os.listdir("/proc/self/fd")) == before


def test_preloader_without_an_engine_tells_the_command(world: World) -> None:
    world.launch(1)
    world.nursery.message(world.watched[0], (Message.HELLO, 1, NUMBER), 0.0)
    world.nursery.message(world.watched[0], (Message.FAILED, 1, 0), 0.0)
    world.nursery.gone(world.watched[0], Death("exited with status 1"))
    assert "pyglue install-engine --python /bin/true" in world.failed[1]


def test_preloader_that_says_nothing_is_killed(world: World) -> None:
    world.launch(1)
    world.nursery.tick(29.0)
    assert world.sleepers[0].poll() is None
    world.nursery.tick(31.0)
    assert world.has_killed()
    world.nursery.gone(world.watched[0], Death("was killed by SIGKILL"))
    assert "launch-timeout" in world.failed[1]


def test_preloader_that_forks_nothing_is_killed(world: World) -> None:
    world.launch(1)
    world.load(now=100.0)
    world.nursery.tick(129.0)
    assert world.sleepers[0].poll() is None
    world.nursery.tick(131.0)
    assert world.has_killed()


def test_message_that_a_preloader_may_not_send_ends_it(world: World) -> None:
    world.launch(1)
    world.nursery.message(world.watched[0], (Message.CHANGED, 0, 0), 0.0)
    assert world.has_killed()


def test_preloader_of_a_group_without_workers_ends(world: World) -> None:
    world.launch(1)
    world.nursery.keep({GROUP["digest"]})
    assert not world.forgotten
    world.nursery.keep(set())
    assert world.has_killed() and world.forgotten == world.watched


@pytest.mark.parametrize("which", [0, 1], ids=["itself", "another"])
def test_preloader_that_is_named_as_a_fork_is_none_any_more(world: World, which: int) -> None:
    """It is reaped as that worker, and then its number may be anybody's: root kills it no more."""
    world.launch(1)
    world.load()
    world.launch(2, roll=1)
    birth = world.births[0]
    birth.process.adopt(world.sleepers[which].pid)
    world.nursery.settle(1)
    assert world.forgotten == [world.watched[which]]
    world.nursery.keep(set())
    assert world.has_killed(1 - which) and world.sleepers[which].poll() is None


def test_only_a_child_of_this_process_and_user_is_taken_for_a_fork() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert is_fork(child.pid, os.getuid())
        assert not is_fork(child.pid, os.getuid() + 1)
        assert not is_fork(1, 0) and not is_fork(os.getpid(), os.getuid())
        assert not is_fork(1 << 40, os.getuid())
    finally:
        child.kill()
        child.wait()
