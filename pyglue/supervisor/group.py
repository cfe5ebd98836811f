# SPDX-License-Identifier: Apache-2.0
"""A process group: what is wanted of it, what was last good, and its workers.

Sans-IO: events with the time go in, actions come out. After each event `_settle` looks at the
whole and takes what steps are due (publish, withdraw, start, tell), so that no order of events
can leave a step out. By which rules workers take each other's places is told in `roll.py`; a crash
while the wanted definition does not load is replaced from the last good one.
"""

from __future__ import annotations

import math
from functools import partial

from . import messages
from .actions import (
    Action,
    Bury,
    Death,
    Forget,
    GroupState,
    Outbox,
    Quiesce,
    TellGroup,
)
from .admission import Admission
from .failures import Failures, explained, is_reloaded
from .leaving import Leaving
from .plan import GroupPlan
from .roll import Roll
from .scaling import IdleStops, Load
from .size import Size
from .starts import NewNumber, Starts
from .strength import misses_fallback, misses_fresh, serving
from .worker import FAILURES, FAULTY, RECYCLES, Message, Recycle, State, Why, Worker

FAILED_GRACE = 5.0  # a worker that said FAILED exits by itself


class Group:
    """One group of the roster, present or departed."""

    def __init__(
        self,
        definition: GroupPlan,
        new_number: NewNumber,
        admission: Admission,
        idle: IdleStops,
        *,
        inherits: bool = False,
    ) -> None:
        self.wanted = definition
        self.good: GroupPlan | None = None
        self.workers: dict[int, Worker] = {}
        self.departed = 0  # number of the plan that no longer has it; 0: it is wanted
        self.due = math.inf  # when `tick` has something to do
        self._ending = False
        self._is_unable = False  # what is wanted could not be started since it is
        self._told: tuple[GroupState, str] | None = None
        self._out = Outbox(definition.digest)
        self._failures = Failures(self._out)
        self._leaving = Leaving(self._out)
        self._starts = Starts(definition, new_number, admission, self._out)
        shared = self.workers, self._out, self._leaving, self._failures
        self._roll = Roll(*shared, inherits=inherits)
        self._size = Size(definition, *shared, idle, is_served=inherits)

    # Events.

    def start(self, now: float) -> list[Action]:
        """It is new in the roster."""
        return self._settle(now)

    def admitted(self, now: float) -> list[Action]:
        """It may start one worker, if it still misses one."""
        self._starts.permit(1)
        out = self._settle(now)
        self._starts.permit(0)
        return out

    def roll(self, definition: GroupPlan, reason: str, now: float) -> list[Action]:
        """Replaces all workers by new ones of this definition: a plan, a touch, a signal."""
        self.wanted = definition
        self._size.fit(definition)
        self._starts.fit(definition)
        self._roll.fit(definition)
        self._supersede_all(Why.CHANGE, now)
        if self._size.count > 0:
            self._out.say(messages.ROLLING, reason=reason)
        return self._settle(now)

    @property
    def is_elastic(self) -> bool:
        """It is to be told what waits and runs."""
        return self._size.is_elastic and not self._ending

    @property
    def serving(self) -> list[int]:
        """Its workers that get requests."""
        return [worker.number for worker in serving(self.workers.values())]

    def look(self, load: Load, now: float) -> list[Action]:
        """What waits for it, and runs in its workers, now."""
        if self._ending or not self._size.look(load, now):
            return []
        return self._settle(now)

    def stop_idle(self, number: int) -> list[Action]:
        """Its last worker may go, if that is what it still is."""
        if self._size.is_last(number):
            self._out.put(Quiesce(number, self.wanted.digest))
        return self._out.take()

    def quiet(self, number: int, requests: int, now: float) -> list[Action]:
        """Withdrawn as the last one it has so many requests, or they wait for it."""
        worker = self.workers.get(number)
        if worker is None or worker.state is not State.READY:
            return self._settle(now)
        if requests or not self._size.is_last(number):
            self._roll.publish(worker)
        else:
            self._size.stop_last(worker, now)
        return self._settle(now)

    def launched(self, number: int, pid: int, now: float) -> list[Action]:
        worker = self.workers[number]
        worker.pid = pid
        worker.launched_at = now
        worker.deadline = now + worker.definition.launch_timeout
        self._out.say(messages.WORKER_STARTED, number=number, pid=pid)
        return self._settle(now)

    def launch_failed(self, number: int, reason: str, now: float) -> list[Action]:
        """It could not even be forked; there is no process."""
        self._note_unable(self.workers.pop(number))
        self._starts.ended(number)
        self._out.put(Forget(number))
        self._failures.launch_failed(number, reason, now)
        self._size.rest_if_empty(now)
        return self._settle(now)

    def message(self, number: int, words: tuple[int, int, int], now: float) -> list[Action]:
        """A worker said something: type, argument, value."""
        worker = self.workers[number]
        if worker.killed:
            return self._settle(now)  # it crossed with our SIGKILL: nothing comes of it any more
        state = worker.state
        message = worker.advance(*words)
        if message is None:
            self._breach(worker, f"type {words[0]}, argument {words[1]} while {state.value}")
        elif state is not State.LEAVING:
            self._heard(worker, message, words[1], now)
            if message in _REASONS:
                self._wished(worker, message, words[2], now)
        elif message is Message.RECYCLE and words[1] == Recycle.REQUEST_TIMEOUT:
            self._leaving.hurry(worker, now)
        elif message is Message.RELOAD and not self._ending:
            self._wished(worker, message, words[2], now)
        return self._settle(now)

    def flooded(self, number: int, now: float) -> list[Action]:
        """A worker spent its budget of messages."""
        self._out.say(messages.FLOOD, number=number)
        return self._settle(now)

    def stopped(self, number: int) -> list[Action]:
        """A signal stopped a worker: requests would wait in it. Its death follows."""
        return self._condemn(number, messages.WORKER_STOPPED, "a signal had stopped it")

    def unreadable(self, number: int) -> list[Action]:
        """Reading what a worker wrote would keep us. Its death follows."""
        return self._condemn(number, messages.WORKER_UNREADABLE, "its pipes could not be read")

    def gone(self, number: int, death: Death, now: float) -> list[Action]:
        """A worker was reaped."""
        worker = self.workers.pop(number)
        if not is_reloaded(worker, death):
            self._note_unable(worker)
        self._starts.ended(number)
        death = explained(worker, death)
        self._out.put(Bury(number, death), Forget(number))
        is_coming = any(w.is_starting for w in self.workers.values())
        self._failures.account(worker, death, now, is_coming=is_coming)
        worker.state = State.GONE
        self._size.rest_if_empty(now)
        return self._settle(now)

    def disinherited(self, now: float) -> list[Action]:
        """The last worker of a supervisor before us is gone."""
        self._roll.inherits = False
        return self._settle(now)

    def depart(self, plan: int, now: float) -> list[Action]:
        """It is not in this plan; children of older plans still need it."""
        if not self.departed:
            self.departed = plan
            self._out.say(messages.DEPARTED, plan=plan)
        return self._settle(now)

    def come_back(self) -> None:
        """A later plan has it again, even if its workers are leaving already."""
        self.departed = 0
        self._ending = False

    def leave(self, now: float) -> list[Action]:
        """Nobody needs it any more: every worker finishes what it runs."""
        self._ending = True
        for worker in list(self.workers.values()):
            if worker.is_live:
                self._leaving.retire(worker, now)
        return self._settle(now)

    def stop(self, now: float) -> list[Action]:
        """Every worker ends within its shutdown-timeout, leaving ones too."""
        self._ending = self._failures.is_end_of_all = True
        for worker in self.workers.values():
            self._leaving.end(worker, now)
        return self._settle(now)

    def tick(self, now: float) -> list[Action]:
        for worker in self.workers.values():
            self._leaving.tick(worker, now)
        return self._settle(now)

    @property
    def is_over(self) -> bool:
        return self._ending and not self.workers

    # What an event means for one worker.

    def _condemn(self, number: int, message: messages.Message, why: str) -> list[Action]:
        worker = self.workers[number]
        self._out.say(message, number=number, pid=worker.pid)
        self._leaving.kill(worker, why)
        return self._out.take()

    def _heard(self, worker: Worker, message: Message, argument: int, now: float) -> None:
        if message is Message.HELLO:
            worker.deadline = None  # how long the scripts take to load is their own affair
        elif message is Message.READY:
            self._is_ready(worker, argument == 1, now)
        elif message is Message.HOMELESS:
            home = worker.definition.user_home
            self._out.say(messages.WORKER_HOMELESS, number=worker.number, home=home)
        elif message is Message.FAILED:
            self._cannot_serve(worker, argument, now)
        elif message is Message.RECYCLE:
            self._recycle(worker, Recycle(argument), now)

    def _wished(self, worker: Worker, message: Message, value: int, now: float) -> None:
        """CHANGED or RELOAD. If the worker is superseded, its replacement is on its way, but what
        began before a signal came may have loaded what was there before."""
        strict = self.wanted.strict_reload
        asked = min(value / 1000, now) if message is Message.RELOAD else 0.0
        fresh = [w for w in self.workers.values() if w.is_live and not w.superseded]
        if worker.superseded and not strict and all(w.launched_at >= asked for w in fresh):
            return
        self._supersede_all(_WHYS[message], now)
        self._out.say(messages.ROLLING, reason=_REASONS[message])
        if strict:
            self._roll.retire_superseded(now)

    def _is_ready(self, worker: Worker, loaded: bool, now: float) -> None:
        worker.loaded = loaded
        worker.ready_at = now
        self._is_unable = self._is_unable and worker.definition != self.wanted
        self._starts.ended(worker.number)
        if loaded:
            self.good = worker.definition
            self._out.say(messages.WORKER_READY, number=worker.number)
            return
        if not self._roll.load_alone(worker, self.wanted, now):
            self._tell_unloaded(worker)

    def _tell_unloaded(self, worker: Worker) -> None:
        self._out.say(
            messages.WORKER_UNLOADED,
            number=worker.number,
            pid=worker.pid,
            next="the workers that serve stay. If it cannot be loaded beside them, because they "
            "hold a port or a lock: reload=strict ends them first"
            if self._roll.good_serves
            else "its requests are answered 500 until a file changes",
        )

    def _note_unable(self, worker: Worker) -> None:
        """Its end: did it never get so far as to load its scripts?"""
        if worker.is_starting and worker.definition == self.wanted:
            self._is_unable = True

    def _cannot_serve(self, worker: Worker, argument: int, now: float) -> None:
        home = worker.definition.python_home
        python = worker.definition.python or (f"{home}/bin/python" if home else "ITS_PYTHON")
        worker.failure = FAILURES[argument].format(python=python)
        worker.blamed = True
        worker.deadline = now + FAILED_GRACE

    def _recycle(self, worker: Worker, why: Recycle, now: float) -> None:
        if why is Recycle.INACTIVITY_TIMEOUT and self._size.may_shrink:
            self._size.spare(worker, now)
            return
        worker.superseded = True
        worker.why = Why.LATE if why is Recycle.REQUEST_TIMEOUT else Why.LIMIT
        worker.recycled = why
        self._out.say(
            messages.RECYCLED_FAULTY if why in FAULTY else messages.RECYCLED,
            number=worker.number,
            pid=worker.pid,
            reason=RECYCLES[why],
        )

    def _breach(self, worker: Worker, what: str) -> None:
        if not worker.is_breached:  # said once: it may send a thousand such a second
            self._out.say(messages.BREACH, number=worker.number, pid=worker.pid, what=what)
        worker.is_breached = True
        worker.superseded = True
        worker.why = Why.LIMIT
        if not worker.published:
            worker.blamed = True
            worker.failure = "it sent what it may not"
            self._leaving.kill(worker, worker.failure)

    def _supersede_all(self, why: Why, now: float) -> None:
        """All that run are to be replaced, whatever failed before."""
        self._failures.forget()
        self._is_unable = False
        self._starts.begin_roll()
        self._roll.supersede_all(why, now)

    # Settling: the steps that are due, from the state alone.

    def _settle(self, now: float) -> list[Action]:
        if not self._ending:
            self._roll.settle(self.wanted, self._size.count, now)
            self._start_missing(now)
        self._tell(now)
        self.due = self._next_time(now)
        return self._out.take()

    def _next_time(self, now: float) -> float:
        times = [
            time
            for worker in self.workers.values()
            for time in (worker.deadline, worker.word_at)
            if time is not None
        ]
        if not self._ending:
            not_before = self._failures.backoff.not_before
            later = (not_before, *self._starts.times(now))
            times += [time for time in later if time > now]
        return min(times, default=math.inf)

    def _start_missing(self, now: float) -> None:
        """Those that are missing, one by one: each needs a place among the starts of all groups."""
        if self._roll.is_blocked:
            return
        while self._failures.backoff.may_start(now) and self._starts.is_affordable(now):
            definition = self._missing()
            if definition is None or not self._starts.is_admitted(urgent=self._is_urgent()):
                return
            is_fallback = definition is not self.wanted
            worker = self._starts.start(definition, now, superseded=is_fallback)
            if worker is None:
                return
            self.workers[worker.number] = worker

    def _missing(self) -> GroupPlan | None:
        """Of what a worker is to be started: what is wanted, or what was last good."""
        workers, count = self.workers.values(), self._size.count
        has_other = self.good is not None and self.good != self.wanted
        if has_other and misses_fallback(workers, count, is_unable=self._is_unable):
            return self.good
        may_roll = partial(self._roll.may_go_on, self.wanted.processes)
        return self.wanted if misses_fresh(workers, count, may_roll) else None

    def _is_urgent(self) -> bool:
        """It served, and is short of workers now."""
        is_short = len(self.serving) < self._size.count
        return self.good is not None and is_short and not self._failures.backoff.is_failing

    def _tell(self, now: float) -> None:
        state = self._state(now)
        told = state, self._failures.cause if state is GroupState.DISABLED else ""
        if told != self._told:
            self._told = told
            self._out.put(TellGroup(self.wanted.digest, *told))

    def _state(self, now: float) -> GroupState:
        if self.is_over:
            return GroupState.NONE
        if self._roll.inherits or self.serving:
            return GroupState.SERVING
        if self._size.rests(now):
            return GroupState.IDLE
        return GroupState.DISABLED if self._failures.cause else GroupState.STARTING


_WHYS = {Message.CHANGED: Why.CHANGE, Message.RELOAD: Why.SIGNAL}
_REASONS = {Message.CHANGED: "a file changed", Message.RELOAD: "a worker was sent SIGUSR1"}
