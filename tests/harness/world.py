# SPDX-License-Identifier: Apache-2.0
"""The supervisor's sans-IO core in a world of the test's: its clock, and fake processes."""

from __future__ import annotations

from pyglue.supervisor import messages
from pyglue.supervisor.actions import (
    Action,
    Bury,
    Death,
    Forget,
    GroupState,
    Launch,
    Publish,
    Quiesce,
    Say,
    TellGroup,
    Withdraw,
)
from pyglue.supervisor.plan import GroupPlan, Httpd, Plan
from pyglue.supervisor.roster import Roster
from pyglue.supervisor.scaling import LOOK_EVERY, Load
from pyglue.supervisor.worker import Message

from .plans import UNSAID

EPOCH = 7
FIRST = EPOCH << 32 | 1
KILLED = Death("was killed by SIGSEGV", served=3, running=(9,))
POISONED = Death("was killed by SIGSEGV", served=1, running=(9,))  # by its first request
ENDED = Death("exited with status 0", clean=True)


def group_plan(name: str = "shop", **options: object) -> GroupPlan:
    values: dict[str, object] = {
        **UNSAID,
        "name": name,
        "digest": name.encode().ljust(20),
        "user": "shop",
        "uid": 1001,
        "gid": 1001,
        "groups": (1001,),
        "user_home": "/home/shop",
        "python_path": (),
        "scripts": (),
    }
    return GroupPlan(**{**values, **options})  # type: ignore[arg-type]


class World:
    """A roster, its clock, and fake processes that do nothing by themselves."""

    def __init__(self, *inherited: GroupPlan) -> None:
        self.roster = Roster(EPOCH, [group.digest for group in inherited])
        self.now = 100.0
        self.plans = 0
        self.done: list[Action] = []
        self.pages: dict[int, str] = {}  # as children see it
        self.groups: dict[bytes, tuple[GroupState, str]] = {}
        self.started: list[int] = []
        self.buried: set[int] = set()
        self.oldest_plan: int | None = 1
        self.requests = 0  # that the last worker of a group has when it is withdrawn

    def do(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            self.see(action)
            if isinstance(action, Launch):
                self.started.append(action.number)
                self.do(self.roster.launched(action.number, 1000 + len(self.started), self.now))
            elif isinstance(action, Quiesce):
                self.pages[action.number] = "leaving"
                self.do(self.roster.quiet(action.number, self.requests, self.now))
        self.done += actions
        return actions

    def see(self, action: Action) -> None:
        if isinstance(action, Publish):
            self.pages[action.number] = "ready"
        elif isinstance(action, Withdraw):
            self.pages[action.number] = "leaving"
        elif isinstance(action, Bury):
            self.buried.add(action.number)
        elif isinstance(action, Forget):
            self.pages.pop(action.number, None)
        elif isinstance(action, TellGroup):
            self.groups[action.digest] = action.state, action.cause

    def plan(self, *groups: GroupPlan) -> list[Action]:
        self.plans += 1
        httpd = Httpd(
            pid=1,
            uid=33,
            gid=33,
            privileged=True,
            timeout=60.0,
            socket_prefix="/run/wsgi",
            request_max=1 << 24,
        )
        plan = Plan(
            version=1,
            plan=self.plans,
            module="0.1.0",
            httpd=httpd,
            environ=(),
            python_home=None,
            logs=1,
            groups=groups,
        )
        return self.do(self.roster.take(plan, self.now))

    def say(self, number: int, message: int, argument: int = 0, value: int = 0) -> list[Action]:
        return self.do(self.roster.message(number, (message, argument, value), self.now))

    def make_ready(self, number: int, loaded: int = 1) -> list[Action]:
        self.say(number, Message.HELLO, 1, number)
        return self.say(number, Message.READY, loaded)

    def serve(self, *groups: GroupPlan) -> list[int]:
        """A plan, and all its workers ready."""
        self.plan(*groups)
        for number in list(self.started):
            self.make_ready(number)
        return list(self.started)

    def gone(self, number: int, death: Death = ENDED) -> list[Action]:
        return self.do(self.roster.gone(number, death, self.now))

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.do(self.roster.tick(self.now, self.oldest_plan))

    def look(self, waiting: int, running: int = 0, name: str = "shop") -> list[Action]:
        """What the rows say of a group now."""
        load = Load(waiting, running)
        return self.do(self.roster.look({name.encode().ljust(20): load}, self.now))

    def look_for(self, seconds: float, waiting: int, running: int = 0) -> list[Action]:
        """As the supervisor does, again and again."""
        out: list[Action] = []
        for _ in range(round(seconds / LOOK_EVERY)):
            self.now += LOOK_EVERY
            out += self.do(self.roster.tick(self.now, self.oldest_plan))
            out += self.look(waiting, running)
        return out

    def ready(self) -> list[int]:
        return sorted(number for number, state in self.pages.items() if state == "ready")

    def state(self, name: str = "shop") -> GroupState:
        return self.groups[name.encode().ljust(20)][0]

    def said(self, message: messages.Message) -> list[Say]:
        return [a for a in self.done if isinstance(a, Say) and a.message is message]


def of(kind: type, actions: list[Action]) -> list[int]:
    return [action.number for action in actions if isinstance(action, kind)]  # type: ignore[attr-defined]
