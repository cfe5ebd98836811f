# SPDX-License-Identifier: Apache-2.0
"""What httpd's parent sends: plans, put together, judged and taken with their logs, or refused; and
the word to stop.

Knows no worker. Up: server.py; down: channel.py (bytes), plan.py (what a plan is), roster.py, which
compares a plan with what runs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from . import channel, messages, process
from .actions import Action
from .births import Births
from .channel import Assembly, ChannelError, CutError, Kind, Packet
from .checks import PlanError
from .logs import Logs, Rate
from .loop import now
from .plan import Plan, parse
from .roster import Roster


@dataclass(frozen=True, slots=True)
class Calls:
    """What the server is asked for."""

    do: Callable[[list[Action]], None]
    stop: Callable[[str], None]  # for this reason
    lose: Callable[[], None]  # nobody holds the other end


class Intake:
    """One for the channel to httpd's parent."""

    def __init__(
        self,
        sock: socket.socket,
        parent: int,
        roster: Roster,
        births: Births,
        logs: Logs,
        calls: Calls,
    ) -> None:
        self._sock = sock
        self._parent = parent
        self._roster = roster
        self._births = births
        self._logs = logs
        self._calls = calls
        self._assembly = Assembly()

    def receive(self) -> None:
        """The channel is readable."""
        try:
            packet = self._next()
            if packet is not None:
                self._take(packet)
        except CutError as error:
            self._calls.do(self._roster.refuse(error.plan, str(error)))
        except ChannelError as error:
            self._logs.say(messages.STRANGE_MESSAGE, {"reason": error})

    def _next(self) -> Packet | None:
        """None: there is none, or, as was told then, there will be none."""
        try:
            packet = channel.receive(self._sock, self._parent, os.geteuid())
        except BlockingIOError:
            return None
        except OSError:
            packet = None  # as end-of-file
        if packet is None:
            self._calls.lose()
        return packet

    def _take(self, packet: Packet) -> None:
        if packet.kind is Kind.STOP:
            channel.close_all(packet.fds)
            self._calls.stop("hard restart" if packet.a == 1 else "httpd stops")
            return
        complete = self._assembly.add(packet)
        if complete is not None:
            self._take_plan(*complete)

    def _take_plan(self, number: int, text: bytes, log_fds: list[int]) -> None:
        try:
            plan = self._judged(number, text, len(log_fds))
        except PlanError as error:
            channel.close_all(log_fds)
            self._calls.do(self._roster.refuse(number, str(error)))
            return
        self._births.plan = plan
        self._take_logs(plan, log_fds)
        self._warn_of_limits(plan)
        self._calls.do(self._roster.take(plan, now()))
        self._logs.close_unused()

    def _judged(self, number: int, text: bytes, logs: int) -> Plan:
        plan = parse(text)
        if plan.number != number or plan.logs != logs:
            raise PlanError("its number or its logs are not those of its message")
        if objection := self._roster.objection(plan):
            raise PlanError(objection)
        return plan

    def _take_logs(self, plan: Plan, log_fds: list[int]) -> None:
        logs = self._logs.take(log_fds, plan.syslogs)
        for group in plan.groups:
            rate = Rate(group.log_rate, group.log_burst)
            self._logs.assign(group.digest, group.name, logs[group.log], group.log_level, rate)

    def _warn_of_limits(self, plan: Plan) -> None:
        limit, room = process.room()
        if sum(2 * group.processes for group in plan.groups) > room:
            self._logs.say(messages.DESCRIPTORS, {"limit": limit, "workers": room})
