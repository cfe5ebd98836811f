# SPDX-License-Identifier: Apache-2.0
"""The supervisor itself: carries out what the roster asks for, and tells it what happened.

It joins the sans-IO core to what has side effects: what httpd sends (intake.py), those that run
(crew.py) and how they die (deaths.py), pages, cgroups and logs; and it keeps the time. Nothing is
decided here about groups.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import deaths, family, intake, messages, process
from .actions import (
    Action,
    Bury,
    Drain,
    Exit,
    Forget,
    GroupState,
    Kill,
    Launch,
    Publish,
    Quiesce,
    Say,
    Stop,
    TellGroup,
    TellPlan,
    Withdraw,
)
from .births import Births
from .cgroups import Cgroups, SpawnWithin
from .crew import Crew
from .demand import Demand
from .logs import Logs
from .loop import READ, Loop, now
from .orphans import Orphans
from .pages import Entry, Pages
from .roster import Roster
from .scaling import LOOK_EVERY
from .worker import Command

if TYPE_CHECKING:
    from pyglue import _pages

HEARTBEAT = 1.0
SWEEP_SECONDS = 2.0
SHUTDOWN = 5.0  # what orphans get as long as no plan says more
ORPHANS_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class Given:
    """What the supervisor was started with, docs/plan.md section 1, and who starts workers."""

    parent: int
    epoch: int
    channel: socket.socket
    pages: _pages.Pages
    rows: _pages.Rows
    memory: ModuleType  # pyglue._pages
    spawn: SpawnWithin
    describe: deaths.Describe  # what the privileged step said; None for nothing
    main_log: int = 2


class Supervisor:
    """One for the life of an httpd."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._loop = Loop(
            {
                signal.SIGCHLD: lambda: self._deaths.reap(),
                signal.SIGTERM: lambda: self._stop("SIGTERM"),
                signal.SIGUSR1: lambda: self._do(self._roster.roll_all("SIGUSR1", now())),
            }
        )
        self._pages = Pages(given.pages)
        adopted = self._pages.adopt(given.memory.WORKER_SLOTS, given.memory.GROUP_SLOTS)
        self._demand = Demand(given.rows, self._pages)
        self._orphans = Orphans(self._loop, adopted)
        self._roster = Roster(given.epoch, self._orphans.groups())
        self._logs = Logs(given.main_log)
        self._httpd = family.Httpd(
            self._loop,
            given.rows,
            given.parent,
            lambda: self._stop("httpd is gone"),
            self._is_alone,
        )
        self._cgroups = Cgroups(given.parent, given.epoch, self._logs.say)
        self._births = Births(
            given.parent, given.epoch, given.memory, self._cgroups.around(given.spawn)
        )
        self._intake = intake.Intake(
            given.channel,
            given.parent,
            self._roster,
            self._births,
            self._logs,
            intake.Calls(do=self._do, stop=self._stop, lose=self._lose),
        )
        self._crew = Crew(self._loop, self._logs, self._births, self._roster, self._do)
        self._deaths = deaths.Deaths(
            self._loop,
            self._crew.hearing,
            self._cgroups,
            given.memory.read_record,
            given.describe,
            deaths.Calls(self._crew.process_of, self._crew.stopped, self._crew.gone),
        )
        self._queue: deque[Action] = deque()
        self._beat_at = 0.0
        self._look_at = 0.0
        self._is_done = False
        self._perform = self._performers()
        self._orphans_until = 0.0

    def run(self) -> int:
        """Until all has ended."""
        family.become_subreaper()
        process.raise_open_files()
        self._given.channel.setblocking(False)
        self._loop.watch(self._given.channel.fileno(), READ, self._intake.receive)
        self._logs.say(
            messages.STARTED, {"epoch": self._given.epoch, "python": sys.version.split()[0]}
        )
        if not self._httpd.is_there:
            self._httpd.lose()
        while not self._is_done:
            self._tick()
            self._loop.turn(self._until_next())
        self._clean_up()
        return 0

    # Time.

    def _tick(self) -> None:
        at = now()
        if at >= self._beat_at:
            self._beat_at = at + HEARTBEAT
            self._beat(at)
        if at >= self._look_at:
            self._look_at = at + LOOK_EVERY
            self._look(at)
        self._do(self._roster.tick(at, self._httpd.oldest_plan()))

    def _beat(self, at: float) -> None:
        """Each second."""
        self._pages.heartbeat(int(at * 1000))
        self._logs.tick()
        self._httpd.look()
        self._deaths.look(at, self._crew.living())
        self._cgroups.look(at, (worker.definition for worker in self._crew.living()))
        if not self._httpd.is_lost:  # else a supervisor after us may have removed it
            self._look_at_sockets(at)
        for digest in self._orphans.tick():
            self._pages.drop_orphans(digest)
            self._do(self._roster.disinherited(digest, at))
        self._release_orphans()
        self._crew.tick(at)

    def _look_at_sockets(self, at: float) -> None:
        for path in self._births.lost_directories():
            self._logs.say(messages.SOCKETS_GONE, {"path": path})
            self._do(self._roster.roll_all("the socket directory is gone", at))

    def _look(self, at: float) -> None:
        """At what waits and runs, for the groups whose number of workers may change."""
        elastic = self._roster.elastic()
        if elastic:
            self._do(self._roster.look(self._demand.loads(elastic), at))

    def _until_next(self) -> float:
        at = now()
        times = [self._beat_at, self._roster.next_time(at) or self._beat_at]
        if self._roster.is_elastic:
            times.append(self._look_at)
        return min(times) - at

    def _release_orphans(self) -> None:
        """Those of groups that no child of httpd needs any more."""
        plan, oldest = self._births.plan, self._httpd.oldest_plan()
        if plan is None or (oldest is not None and oldest < plan.number):
            return
        for digest in self._orphans.groups() - self._roster.groups.keys():
            self._pages.tell_group(digest, GroupState.NONE, "")
            self._orphans.leave(digest, 0.0)

    # From httpd.

    def _lose(self) -> None:
        """Nobody holds the other end of the channel."""
        self._loop.unwatch(self._given.channel.fileno())
        self._httpd.lose()

    def _is_alone(self, children: int) -> None:
        self._logs.say(messages.PARENT_GONE, {"children": children})

    def _stop(self, reason: str) -> None:
        longest = self._longest_shutdown()
        self._orphans_until = self._orphans_until or now() + longest + ORPHANS_GRACE
        self._orphans.stop(longest)
        self._do(self._roster.stop(reason, now()))

    def _longest_shutdown(self) -> float:
        plan = self._births.plan
        groups = plan.groups if plan is not None else ()
        return max((group.shutdown_timeout for group in groups), default=SHUTDOWN)

    # Actions.

    def _performers(self) -> dict[type[Any], Callable[[Any], None]]:
        """For each action what carries it out."""
        crew = self._crew
        return {
            Launch: crew.launch,
            Publish: self._publish,
            Withdraw: lambda action: self._pages.withdraw(action.number),
            Quiesce: self._quiesce,
            Bury: lambda action: self._pages.bury(action.number, action.death),
            Forget: self._forget,
            Drain: lambda action: crew.command(action.number, Command.DRAIN, action.allowed),
            Stop: lambda action: crew.command(action.number, Command.STOP, action.allowed),
            Kill: lambda action: crew.kill(action.number),
            TellGroup: self._tell_group,
            TellPlan: lambda action: self._pages.tell_plan(action.accepted, action.refused),
            Say: lambda action: self._logs.say(action.message, action.values, action.digest),
            Exit: self._exit,
        }

    def _do(self, actions: list[Action]) -> None:
        """In the order in which the core decided: what an action leads to comes after the rest."""
        is_outer = not self._queue
        self._queue += actions
        while is_outer and self._queue:
            action = self._queue[0]
            self._perform[type(action)](action)
            self._queue.popleft()

    def _publish(self, action: Publish) -> None:
        worker = self._crew[action.number]
        self._pages.publish(
            Entry(
                action.number,
                action.definition.digest,
                action.definition.threads,
                os.fsencode(worker.listener.path),
                worker.key,
            )
        )
        self._orphans.leave(action.definition.digest, 0.0)

    def _quiesce(self, action: Quiesce) -> None:
        if action.number in self._crew:
            self._pages.withdraw(action.number)
            requests = self._demand.requests(action.digest, action.number)
            self._do(self._roster.quiet(action.number, requests, now()))

    def _tell_group(self, action: TellGroup) -> None:
        self._pages.tell_group(action.digest, action.state, action.cause)
        if action.state is GroupState.NONE:
            self._orphans.leave(action.digest, 0.0)
            self._births.forget(action.digest)
            self._logs.forget(action.digest)

    def _forget(self, action: Forget) -> None:
        self._pages.forget(action.number)
        self._crew.forget(action.number)

    def _exit(self, action: Exit) -> None:
        self._logs.say(messages.STOPPED, {"reason": action.reason})
        self._is_done = True

    # The end.

    def _clean_up(self) -> None:
        self._orphans.wait(self._orphans_until)
        self._cgroups.kill()
        survivors = family.sweep(SWEEP_SECONDS, self._logs.scribes())
        if survivors:
            self._logs.say(messages.SURVIVORS, {"count": len(survivors), "pids": survivors})
        if left := self._cgroups.remove(SWEEP_SECONDS):
            self._logs.say(messages.CGROUPS_LEFT, {"folders": ", ".join(left)})
        for number in self._crew.numbers():
            self._pages.forget(number)
        self._births.remove_directories()
        self._logs.end()
