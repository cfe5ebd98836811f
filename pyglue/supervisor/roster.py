# SPDX-License-Identifier: Apache-2.0
"""The roster: all groups that run or shall run, of this plan and of older ones.

The top of the sans-IO core. A plan is compared with it, and every group of the plan is rolled as
after a touch; groups that left the plan serve until no httpd child of an older plan is left.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial

from . import messages
from .actions import Action, Death, Exit, Say, TellPlan
from .admission import Admission
from .group import Group
from .plan import MAX_GROUPS, MAX_PROCESSES, GroupPlan, Plan
from .scaling import IdleStops, Load

# Beyond the longest shutdown-timeout, which is a second after the last SIGKILL: who is there then
# cannot be reaped yet, because somebody traces it or a file system holds it. The sweep comes next,
# and httpd waits for that too (STOP_MARGIN in glue_supervisor.c).
STOP_BOUND = 2.0


class Roster:
    """Events in, actions out. Numbers are epoch << 32 | sequence, never used twice."""

    def __init__(self, epoch: int, inherited: Collection[bytes] = ()) -> None:
        self.groups: dict[bytes, Group] = {}
        self._admission = Admission()
        self._idle = IdleStops()
        self._inherited = set(inherited)  # digests that workers of a supervisor before us serve
        self._epoch = epoch
        self._sequence = 0
        self._accepted = 0
        self._refused = 0
        self._of: dict[int, bytes] = {}  # worker's number to the digest of its group
        self._ending = ""  # the reason why all ends
        self._give_up = 0.0
        self._is_full = False  # said already
        self._is_over = False

    # Plans.

    def take(self, plan: Plan, now: float) -> list[Action]:
        """Compares and rolls. A plan that is not newer than the last is no news."""
        if self._ending or plan.number <= self._accepted:
            return []
        wanted = {group.digest: group for group in plan.groups}
        if objection := self.objection(plan):
            return self.refuse(plan.number, objection)
        self._accepted = plan.number
        out: list[Action] = []
        for digest, group in list(self.groups.items()):
            if digest not in wanted:
                out += group.depart(plan.number, now)
        for definition in plan.groups:
            out += self._want(definition, plan.number, now)
        out.append(Say(messages.PLAN_TAKEN, {"plan": plan.number, "groups": len(wanted)}))
        out.append(TellPlan(self._accepted, self._refused))
        return self._after(out, now)

    def objection(self, plan: Plan) -> str:
        """Why it cannot be taken beside what still serves; nothing if it can."""
        serving = self.groups.keys() | self._inherited
        if len({group.digest for group in plan.groups} | serving) <= MAX_GROUPS:
            return ""
        return (
            f"with the groups of older plans that still serve there would be more than {MAX_GROUPS}"
        )

    def refuse(self, number: int, reason: str) -> list[Action]:
        """A plan that cannot be taken changes nothing but the word about it."""
        self._refused = max(self._refused, number)
        return [
            Say(messages.PLAN_REFUSED, {"plan": number, "reason": reason}),
            TellPlan(self._accepted, self._refused),
        ]

    def _want(self, definition: GroupPlan, plan: int, now: float) -> list[Action]:
        group = self.groups.get(definition.digest)
        if group is not None:
            group.come_back()
            return group.roll(definition, f"plan {plan}", now)
        number = partial(self._new_number, definition.digest)
        group = self.groups[definition.digest] = Group(
            definition,
            number,
            self._admission,
            self._idle,
            inherits=definition.digest in self._inherited,
        )
        return group.start(now)

    # Workers.

    def launched(self, number: int, pid: int, now: float) -> list[Action]:
        """It was forked."""
        return self._after(self._group(number).launched(number, pid, now), now)

    def launch_failed(self, number: int, reason: str, now: float) -> list[Action]:
        """It was not even forked."""
        group = self.groups[self._of.pop(number)]
        return self._after(group.launch_failed(number, reason, now), now)

    def message(self, number: int, words: tuple[int, int, int], now: float) -> list[Action]:
        """A worker said something: type, argument, value."""
        return self._after(self._group(number).message(number, words, now), now)

    def flooded(self, number: int, now: float) -> list[Action]:
        """A worker spent its budget of messages."""
        return self._after(self._group(number).flooded(number, now), now)

    def stopped(self, number: int) -> list[Action]:
        """A signal stopped a worker, which answers nobody any more."""
        return self._group(number).stopped(number)

    def unreadable(self, number: int) -> list[Action]:
        """What a worker wrote cannot be read."""
        return self._group(number).unreadable(number)

    def gone(self, number: int, death: Death, now: float) -> list[Action]:
        """A worker was reaped."""
        group = self.groups[self._of.pop(number)]
        return self._after(group.gone(number, death, now), now)

    def disinherited(self, digest: bytes, now: float) -> list[Action]:
        """The last worker that a supervisor before us had left to this group is gone."""
        self._inherited.discard(digest)
        group = self.groups.get(digest)
        return self._after(group.disinherited(now), now) if group is not None else []

    # Scaling.

    @property
    def is_elastic(self) -> bool:
        """Is there any group of which the load matters?"""
        return any(group.is_elastic for group in self.groups.values())

    def elastic(self) -> dict[bytes, list[int]]:
        """The groups of which the load matters, with their workers that serve."""
        return {d: group.serving for d, group in self.groups.items() if group.is_elastic}

    def look(self, loads: Mapping[bytes, Load], now: float) -> list[Action]:
        """What waits and runs, of the groups of `elastic`."""
        out: list[Action] = []
        for digest, load in loads.items():
            out += self.groups[digest].look(load, now)
        return self._after(out, now)

    def quiet(self, number: int, requests: int, now: float) -> list[Action]:
        """The answer to Quiesce: so many are there, or wait."""
        if number not in self._of:
            return []
        return self._after(self._group(number).quiet(number, requests, now), now)

    # All of them.

    def roll_all(self, reason: str, now: float) -> list[Action]:
        """As after a touch of everything."""
        out: list[Action] = []
        for group in self.groups.values():
            out += group.roll(group.wanted, reason, now)
        return self._after(out, now)

    def stop(self, reason: str, now: float) -> list[Action]:
        """Ends everything; Exit comes when nothing is left, or after a bound."""
        if self._ending:
            return []
        self._ending = reason
        longest = max((g.wanted.shutdown_timeout for g in self.groups.values()), default=0.0)
        self._give_up = now + longest + STOP_BOUND
        out: list[Action] = []
        for group in self.groups.values():
            out += group.stop(now)
        return self._after(out, now)

    def tick(self, now: float, oldest_plan: int | None) -> list[Action]:
        """Deadlines. oldest_plan: the oldest that a listed child of httpd was born under, None
        when none is listed."""
        out: list[Action] = []
        for group in self.groups.values():
            if group.departed and not self._is_needed(group, oldest_plan):
                out += group.leave(now)
            if group.due <= now:
                out += group.tick(now)
        if self._ending and now >= self._give_up:
            out.append(Exit(self._ending))
        return self._after(out, now)

    def next_time(self, now: float) -> float | None:
        """When `tick` has something to do."""
        first = min((group.due for group in self.groups.values()), default=math.inf)
        times = [first, self._admission.next_time(now), self._idle.next_time(now)]
        due = min(time for time in times if time is not None)
        return due if due < math.inf else None

    @staticmethod
    def _is_needed(group: Group, oldest_plan: int | None) -> bool:
        return oldest_plan is not None and oldest_plan < group.departed

    # Within.

    def _group(self, number: int) -> Group:
        return self.groups[self._of[number]]

    def _new_number(self, digest: bytes) -> int | None:
        if len(self._of) >= MAX_PROCESSES:
            return None
        self._sequence += 1
        number = self._epoch << 32 | self._sequence
        self._of[number] = digest
        return number

    def _after(self, out: list[Action], now: float) -> list[Action]:
        """What follows from any event: workers are started where there is room for it, groups that
        are over go, and at last all is over."""
        while (digest := self._admission.next(now)) is not None:
            if digest in self.groups:
                out += self.groups[digest].admitted(now)
        while (idle := self._idle.next(now)) is not None:
            if idle[0] in self.groups:
                out += self.groups[idle[0]].stop_idle(idle[1])
        for digest in [d for d, group in self.groups.items() if group.is_over]:
            del self.groups[digest]
        if len(self._of) >= MAX_PROCESSES and not self._is_full:
            out.append(Say(messages.NO_ROOM, {"workers": len(self._of)}))
        self._is_full = len(self._of) >= MAX_PROCESSES
        if self._ending and not self.groups and not self._is_over:
            self._is_over = True
            out.append(Exit(self._ending))
        return out
