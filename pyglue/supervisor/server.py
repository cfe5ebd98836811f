# SPDX-License-Identifier: Apache-2.0
"""The supervisor itself: carries out what the roster asks for, and tells it what happened.

The only module with side effects on everything: it joins the loop, the channel, processes, pages
and logs to the sans-IO core. It decides nothing about groups.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import causes, channel, family, launch, messages
from .actions import (
    Action,
    Bury,
    Death,
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
from .channel import Assembly, ChannelError, Kind, Packet
from .checks import PlanError
from .demand import Demand
from .listeners import ListenError
from .logs import Logs, Rate
from .loop import READ, WRITE, Callback, Loop, now
from .nursery import NUMBER as PRELOADER
from .nursery import Calls, is_fork
from .orphans import Orphans
from .pages import Entry, Pages
from .plan import Plan, parse
from .process import Process
from .roster import Roster
from .scaling import LOOK_EVERY
from .worker import Command, Message

if TYPE_CHECKING:
    from pyglue import _pages

HEARTBEAT = 1.0
SWEEP_SECONDS = 2.0
SHUTDOWN = 5.0  # what orphans get as long as no plan says more
ORPHANS_GRACE = 1.0
REAPS_A_TURN = 256
FDS_A_WORKER = 7
FDS_BESIDE = 64

Describe = Callable[[bytes, launch.Recipe], "Death | None"]


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
    describe: Describe  # what the privileged step said; None for nothing
    main_log: int = 2


class Supervisor:
    """One for the life of an httpd."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._loop = Loop(
            {
                signal.SIGCHLD: self._reap,
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
        self._assembly = Assembly()
        self._plan: Plan | None = None
        self._cgroups = Cgroups(given.parent, given.epoch, self._logs.say)
        self._births = Births(
            given.parent, given.epoch, given.memory, self._cgroups.around(given.spawn)
        )
        self._processes: dict[int, Process] = {}
        self._by_pid: dict[int, Process] = {}
        self._nursery = self._births.attend(
            Calls(
                watch=self._watch,
                forget=self._close,
                told=self._open_listener,
                failed=self._launch_failed,
                say=self._logs.say,
            ),
        )
        self._resting: dict[int, Callback] = {}  # descriptors not read until the next second
        self._queue: deque[Action] = deque()
        self._beat_at = 0.0
        self._look_at = 0.0
        self._memory = causes.Memory()
        self._is_done = False
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            Launch: self._launch,
            Publish: self._publish,
            Withdraw: lambda action: self._pages.withdraw(action.number),
            Quiesce: self._quiesce,
            Bury: lambda action: self._pages.bury(action.number, action.death),
            Forget: self._forget,
            Drain: lambda action: self._command(action.number, Command.DRAIN, action.allowed),
            Stop: lambda action: self._command(action.number, Command.STOP, action.allowed),
            Kill: self._kill,
            TellGroup: self._tell_group,
            TellPlan: lambda action: self._pages.tell_plan(action.accepted, action.refused),
            Say: lambda action: self._logs.say(action.message, action.values, action.digest),
            Exit: self._exit,
        }

    def run(self) -> int:
        """Until all has ended."""
        family.become_subreaper()
        _raise_open_files()
        self._given.channel.setblocking(False)
        self._loop.watch(self._given.channel.fileno(), READ, self._on_channel)
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
            self._pages.heartbeat(int(at * 1000))
            self._logs.tick()
            self._memory.look(at)
            self._cgroups.look(at, (worker.definition for worker in self._living()))
            self._wake_resting()
            if not self._httpd.is_lost:  # else a supervisor after us may have removed it
                self._look_at_sockets(at)
            for digest in self._orphans.tick():
                self._pages.drop_orphans(digest)
                self._do(self._roster.disinherited(digest, at))
            self._release_orphans()
            self._nursery.keep({worker.definition.digest for worker in self._processes.values()})
            self._nursery.tick(at)
        if at >= self._look_at:
            self._look_at = at + LOOK_EVERY
            self._look(at)
        self._do(self._roster.tick(at, self._httpd.oldest_plan()))

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
        oldest = self._httpd.oldest_plan()
        if self._plan is None or (oldest is not None and oldest < self._plan.number):
            return
        for digest in self._orphans.groups() - self._roster.groups.keys():
            self._pages.tell_group(digest, GroupState.NONE, "")
            self._orphans.leave(digest, 0.0)

    # From httpd.

    def _on_channel(self) -> None:
        given = self._given
        try:
            packet = channel.receive(given.channel, given.parent, os.geteuid())
            if packet is not None:
                self._take_packet(packet)
                return
        except BlockingIOError:
            return
        except ChannelError as error:
            self._logs.say(messages.STRANGE_MESSAGE, {"reason": error})
            return
        except OSError:
            pass  # as end-of-file
        self._loop.unwatch(given.channel.fileno())
        self._httpd.lose()

    def _take_packet(self, packet: Packet) -> None:
        if packet.kind is Kind.STOP:
            channel.close_all(packet.fds)
            self._stop("hard restart" if packet.a == 1 else "httpd stops")
            return
        complete = self._assembly.add(packet)
        if complete is not None:
            self._take_plan(*complete)

    def _take_plan(self, number: int, text: bytes, log_fds: list[int]) -> None:
        try:
            plan = parse(text)
            if plan.number != number or plan.logs != len(log_fds):
                raise PlanError("its number or its logs are not those of its message")
            if objection := self._roster.objection(plan):
                raise PlanError(objection)
        except PlanError as error:
            channel.close_all(log_fds)
            self._do(self._roster.refuse(number, str(error)))
            return
        self._plan = self._births.plan = plan
        self._take_logs(plan, log_fds)
        self._warn_of_limits(plan)
        self._do(self._roster.take(plan, now()))
        self._logs.close_unused()

    def _take_logs(self, plan: Plan, log_fds: list[int]) -> None:
        logs = self._logs.take(log_fds, plan.syslogs)
        for group in plan.groups:
            rate = Rate(group.log_rate, group.log_burst)
            self._logs.assign(group.digest, group.name, logs[group.log], group.log_level, rate)

    def _warn_of_limits(self, plan: Plan) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = (limit - FDS_BESIDE) // FDS_A_WORKER
        if sum(2 * group.processes for group in plan.groups) > room:
            self._logs.say(messages.DESCRIPTORS, {"limit": limit, "workers": room})

    def _is_alone(self, children: int) -> None:
        self._logs.say(messages.PARENT_GONE, {"children": children})

    def _stop(self, reason: str) -> None:
        self._orphans.stop(self._longest_shutdown())
        self._do(self._roster.stop(reason, now()))

    def _longest_shutdown(self) -> float:
        groups = self._plan.groups if self._plan is not None else ()
        return max((group.shutdown_timeout for group in groups), default=SHUTDOWN)

    # Actions.

    def _do(self, actions: list[Action]) -> None:
        """In the order in which the core decided: what an action leads to comes after the rest."""
        is_outer = not self._queue
        self._queue += actions
        while is_outer and self._queue:
            action = self._queue[0]
            self._perform[type(action)](action)
            self._queue.popleft()

    def _launch(self, action: Launch) -> None:
        try:
            started = self._births.make(action, now())
        except (OSError, ValueError, ListenError) as error:
            self._do(self._roster.launch_failed(action.number, str(error), now()))
            return
        self._processes[started.number] = started
        self._watch(started)
        if started.pid:
            self._launched(started)

    def _launched(self, worker: Process) -> None:
        self._by_pid[worker.pid] = worker
        self._do(self._roster.launched(worker.number, worker.pid, now()))

    def _launch_failed(self, number: int, reason: str) -> None:
        self._do(self._roster.launch_failed(number, reason, now()))

    def _open_listener(self, worker: Process) -> None:
        """Of one that is being forked by a preloader."""
        try:
            self._births.open_listener(worker)
        except ListenError as error:
            self._launch_failed(worker.number, str(error))

    def _kill(self, action: Kill) -> None:
        worker = self._processes[action.number]
        if worker.pid:
            worker.kill()
            return
        self._nursery.settle(worker.number)
        self._do(self._roster.gone(worker.number, Death("was never begun", clean=True), now()))

    def _publish(self, action: Publish) -> None:
        worker = self._processes[action.number]
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
        if action.number in self._processes:
            self._pages.withdraw(action.number)
            requests = self._demand.requests(action.digest, action.number)
            self._do(self._roster.quiet(action.number, requests, now()))

    def _command(self, number: int, command: Command, allowed: float | None) -> None:
        worker = self._processes[number]
        worker.send(channel.WORDS.pack(command, 0, int((allowed or 0.0) * 1000)))
        self._watch_unsent(worker)

    def _tell_group(self, action: TellGroup) -> None:
        self._pages.tell_group(action.digest, action.state, action.cause)
        if action.state is GroupState.NONE:
            self._orphans.leave(action.digest, 0.0)
            self._births.forget(action.digest)
            self._logs.forget(action.digest)

    def _forget(self, action: Forget) -> None:
        self._pages.forget(action.number)
        worker = self._processes.pop(action.number, None)
        if worker is None:
            return
        self._nursery.settle(action.number)
        self._by_pid.pop(worker.pid, None)
        self._close(worker)
        self._births.remove_socket(worker.listener)

    def _close(self, worker: Process) -> None:
        for fd in (worker.report, worker.control, worker.messages, worker.log):
            self._resting.pop(fd, None)
            self._loop.unwatch(fd)
        worker.close()

    def _exit(self, action: Exit) -> None:
        self._logs.say(messages.STOPPED, {"reason": action.reason})
        self._is_done = True

    # Workers.

    def _watch(self, worker: Process) -> None:
        if worker.report >= 0:
            self._loop.watch(worker.report, READ, lambda: self._on_report(worker))
        self._loop.watch(worker.messages, READ, lambda: self._on_messages(worker))
        self._loop.watch(worker.log, READ, lambda: self._on_log(worker))
        self._watch_unsent(worker)

    def _watch_unsent(self, worker: Process) -> None:
        if worker.unsent and not self._loop.is_watched(worker.control):
            self._loop.watch(worker.control, WRITE, lambda: self._on_writable(worker))

    def _on_writable(self, worker: Process) -> None:
        worker.flush()
        if not worker.unsent:
            self._loop.unwatch(worker.control)

    def _on_report(self, worker: Process) -> None:
        if not worker.read_report():
            self._loop.unwatch(worker.report)

    def _on_log(self, worker: Process) -> None:
        lines = worker.read_log(now())
        if lines is None:
            self._loop.unwatch(worker.log)
            lines = worker.lines.end()
        elif worker.is_loud:
            self._rest(worker.log, lambda: self._on_log(worker))
        self._logs.worker_said(worker.definition.digest, worker.pid, lines, now())

    def _on_messages(self, worker: Process) -> None:
        words = worker.read_messages()
        if words is None:
            self._loop.unwatch(worker.messages)
            if not worker.pid and self._nursery.is_forking(worker.number):
                self._launch_failed(worker.number, "its preloader could not fork it")
            return
        for word in words:
            self._heard(worker, word)
            if worker.is_closed:
                return
            if not worker.budget.take(now()):
                self._pause(worker)

    def _heard(self, worker: Process, word: tuple[int, int, int]) -> None:
        if worker.number == PRELOADER:
            self._nursery.message(worker, word, now())
        elif worker.pid or word[0] != Message.FORKED:
            self._do(self._roster.message(worker.number, word, now()))
        elif is_fork(word[2], worker.definition.uid) and word[2] not in self._by_pid:
            worker.adopt(word[2])
            self._nursery.settle(worker.number)
            self._launched(worker)
        else:
            self._launch_failed(worker.number, "its preloader named a process that is none")

    def _pause(self, worker: Process) -> None:
        if worker.messages not in self._resting:
            self._rest(worker.messages, lambda: self._on_messages(worker))
            if worker.number != PRELOADER:
                self._do(self._roster.flooded(worker.number, now()))

    def _rest(self, fd: int, callback: Callback) -> None:
        """It is not read until the next second."""
        self._loop.unwatch(fd)
        self._resting[fd] = callback

    def _wake_resting(self) -> None:
        for fd, callback in self._resting.items():
            self._loop.watch(fd, READ, callback)
        self._resting.clear()

    # Deaths.

    def _reap(self) -> None:
        """All zombies, unknown ones too: else a tenant fills the table of processes."""
        count = 0
        for info in family.changed_children(REAPS_A_TURN):
            count += 1
            worker = self._process_of(info.si_pid)
            if info.si_code == os.CLD_STOPPED:
                os.waitid(os.P_PID, info.si_pid, os.WSTOPPED | os.WNOHANG)
                self._stopped(worker)
            elif worker is None:
                os.waitpid(info.si_pid, 0)
            else:
                self._bury(worker)
        if count == REAPS_A_TURN:
            self._loop.again(signal.SIGCHLD)

    def _process_of(self, pid: int) -> Process | None:
        """One that was forked a moment ago may not have been heard yet."""
        if pid not in self._by_pid:
            for worker in [w for w in self._processes.values() if not w.pid]:
                if self._nursery.is_forking(worker.number):
                    self._on_messages(worker)
        return self._by_pid.get(pid) or self._nursery.by_pid(pid)

    def _stopped(self, worker: Process | None) -> None:
        if worker is None:
            return
        if worker.number == PRELOADER:
            worker.kill()
        else:
            self._do(self._roster.stopped(worker.number))

    def _bury(self, worker: Process) -> None:
        """Its last words first, then what it leaves behind."""
        self._on_report(worker)
        for word in worker.read_messages() or []:
            self._heard(worker, word)
        words = worker.read_last_words()
        self._logs.worker_said(worker.definition.digest, worker.pid, words, now(), are_last=True)
        death = worker.bury(self._given.memory.read_record, now(), lambda: self._shortage(worker))
        death = self._given.describe(worker.reported, worker.recipe) or death
        if worker.number == PRELOADER:
            self._nursery.gone(worker, death)
        else:
            self._do(self._roster.gone(worker.number, death, now()))

    def _shortage(self, worker: Process) -> str:
        """Of memory or CPU time, as the cause of a SIGKILL that was not ours."""
        if self._cgroups.was_short(worker.definition, now()):
            return causes.SHORT_CGROUP
        if launch.is_spent(worker.definition, worker.cpu_time):
            return causes.SPENT
        return causes.SHORT_MACHINE if self._memory.was_short(now()) else ""

    def _living(self) -> Iterator[Process]:
        """Workers and preloaders."""
        yield from self._processes.values()
        yield from self._nursery.preloaders()

    # The end.

    def _clean_up(self) -> None:
        self._orphans.wait(self._longest_shutdown() + ORPHANS_GRACE)
        self._cgroups.kill()
        survivors = family.sweep(SWEEP_SECONDS, self._logs.scribes())
        if survivors:
            self._logs.say(messages.SURVIVORS, {"count": len(survivors), "pids": survivors})
        if left := self._cgroups.remove(SWEEP_SECONDS):
            self._logs.say(messages.CGROUPS_LEFT, {"folders": ", ".join(left)})
        for number in list(self._processes):
            self._pages.forget(number)
        self._births.remove_directories()
        self._logs.end()


def _raise_open_files() -> None:
    """Some seven descriptors a worker."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
