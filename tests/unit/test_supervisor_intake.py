# SPDX-License-Identifier: Apache-2.0
"""A plan of httpd's is taken with its logs or refused with a reason, and nobody else is heard."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness.census import is_open
from process.standin import StandIn

from pyglue import _pages
from pyglue.supervisor import messages
from pyglue.supervisor.actions import Action, Say, TellPlan
from pyglue.supervisor.births import Births
from pyglue.supervisor.channel import HEAD, PLAN_SEALS, VERSION, Kind
from pyglue.supervisor.intake import Calls, Intake
from pyglue.supervisor.plan import MAX_GROUPS, parse
from pyglue.supervisor.roster import Roster


def sound() -> dict[str, Any]:
    httpd = StandIn.__new__(StandIn)  # its plans only: no process, no files
    httpd.plan_number = 0
    httpd.python = httpd.run = Path("/srv")
    return httpd.plan(httpd.group())


class Logs:
    """Takes the descriptors, and nothing else: the real ones become this process's own."""

    def take(self, fds: list[int], _: object) -> list[int]:
        self.taken = [*fds]
        return self.taken

    def assign(self, *_: object) -> None:
        """Which group writes where."""

    def say(self, message: messages.Message, _: object) -> None:
        self.said = message

    def close_unused(self) -> None:
        for fd in self.taken:
            os.close(fd)


@dataclass
class Parent:
    """httpd's parent, played by this process, and what its words lead to."""

    number: int = field(default_factory=os.getpid)  # whom the intake takes for it
    done: list[Action] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    losses: int = 0

    def __post_init__(self) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        theirs.setblocking(False)
        self.theirs = theirs
        read, self.log = os.pipe()
        os.close(read)
        self.logs: Any = Logs()
        self.births = Births(1, 1, _pages, lambda *_: (0, -1, -1))
        calls = Calls(self.done.extend, self.stops.append, self._lose)
        self.intake = Intake(theirs, self.number, Roster(1), self.births, self.logs, calls)

    def _lose(self) -> None:
        self.losses += 1

    def send(self, kind: Kind, a: int = 0, b: int = 0, plan: int = 1, *fds: int) -> None:
        socket.send_fds(self.ours, [HEAD.pack(kind, VERSION, a, b, plan)], list(fds))
        self.intake.receive()

    def send_plan(self, text: bytes, number: int = 1) -> None:
        fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
        os.write(fd, text)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, PLAN_SEALS | fcntl.F_SEAL_GROW)
        self.send(Kind.PLAN, 1, 0, number, fd)
        os.close(fd)
        self.send(Kind.LOGS, 0, 1, number, self.log)

    def said(self) -> list[messages.Message]:
        return [action.message for action in self.done if isinstance(action, Say)]

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        os.close(self.log)


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    yield made
    made.close()


def test_a_plan_is_taken_when_its_logs_have_come(parent: Parent) -> None:
    parent.send_plan(json.dumps(sound()).encode())
    assert parent.births.plan is not None and parent.births.plan.number == 1
    assert messages.PLAN_TAKEN in parent.said() and TellPlan(1, 0) in parent.done


@pytest.mark.parametrize("text", [b"{", json.dumps({**sound(), "plan": 2}).encode()])
def test_a_plan_that_cannot_be_taken_changes_nothing_and_its_logs_are_closed(
    parent: Parent, text: bytes
) -> None:
    """No JSON, or not the plan of its message."""
    next_fd = os.dup(parent.log)
    os.close(next_fd)
    parent.send_plan(text)
    assert parent.births.plan is None and not is_open(next_fd)
    assert parent.said() == [messages.PLAN_REFUSED] and TellPlan(0, 1) in parent.done


def test_a_plan_whose_descriptors_find_no_room_is_refused(parent: Parent) -> None:
    """It is not sent again, so that its requests would wait for it in vain."""
    head = HEAD.pack(Kind.PLAN, VERSION, 1, 0, 7)
    socket.send_fds(parent.ours, [head], [parent.log])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        parent.intake.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert parent.said() == [messages.PLAN_REFUSED] and TellPlan(0, 7) in parent.done


def test_a_plan_that_has_no_room_beside_the_groups_of_a_dead_supervisor_is_refused() -> None:
    digests = [number.to_bytes(20, "big") for number in range(MAX_GROUPS)]
    roster, plan = Roster(2, digests), parse(json.dumps(sound()).encode())
    assert str(MAX_GROUPS) in roster.objection(plan)
    roster.disinherited(digests[0], 0.0)
    assert not roster.objection(plan)


def test_nobody_but_the_parent_is_heard() -> None:
    stranger = Parent(number=os.getppid())
    stranger.send(Kind.STOP)
    assert stranger.stops == [] and stranger.losses == 0
    assert stranger.logs.said is messages.STRANGE_MESSAGE
    stranger.close()


@pytest.mark.parametrize(("hard", "reason"), [(1, "hard restart"), (0, "httpd stops")])
def test_the_word_to_stop_is_passed_on(parent: Parent, hard: int, reason: str) -> None:
    parent.send(Kind.STOP, hard)
    assert parent.stops == [reason]


def test_the_end_of_the_channel_is_the_loss_of_httpd(parent: Parent) -> None:
    parent.intake.receive()  # there is nothing yet
    assert parent.losses == 0
    parent.ours.close()
    parent.intake.receive()
    assert parent.losses == 1


def test_an_error_while_its_word_is_obeyed_is_not_the_loss_of_httpd(parent: Parent) -> None:
    """No plan would be heard any more, and nobody would know why."""

    def fail(_: str) -> None:
        raise FileNotFoundError

    calls = Calls(parent.done.extend, fail, parent._lose)
    parent.intake = Intake(
        parent.theirs, parent.number, Roster(1), parent.births, parent.logs, calls
    )
    with pytest.raises(FileNotFoundError):
        parent.send(Kind.STOP)
    assert parent.losses == 0
