# SPDX-License-Identifier: Apache-2.0
"""One worker's life as a state table.

    launched -> greeted -> ready -> leaving -> gone

What a worker may say in which state is the table ALLOWED; whatever is not in it is a breach, for
which it is replaced. A message that crossed with our own DRAIN or STOP on its way is no breach,
so a leaving worker may still say what it could have said before. Knows no process and no group.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from .plan import GroupPlan

PROTOCOL = 1


class State(Enum):
    """In the order of a life."""

    LAUNCHED = "launched"  # forked; no word from it yet
    GREETED = "greeted"  # its boot runs; it loads what the plan names
    READY = "ready"
    LEAVING = "leaving"  # asked to end
    GONE = "gone"


class Message(IntEnum):
    """Worker to supervisor, docs/plan.md section 4."""

    HELLO = 1
    READY = 2
    FAILED = 3
    CHANGED = 4
    RELOAD = 5
    RECYCLE = 6
    LEFT = 7
    HOMELESS = 8
    FORKED = 9  # of a preloader's forks: never comes to the core


class Command(IntEnum):
    """Supervisor to worker."""

    DRAIN = 1
    STOP = 2


class Recycle(IntEnum):
    """Why a worker asks for its replacement: the argument of RECYCLE."""

    UNSAID = 0  # a worker of an older version
    MAXIMUM_REQUESTS = 1
    SIGNAL = 2
    RESTART_INTERVAL = 3
    CPU_TIME_LIMIT = 4
    RSS_LIMIT = 5
    REQUEST_TIMEOUT = 6
    DEADLOCK_TIMEOUT = 7
    INACTIVITY_TIMEOUT = 8


class Why(Enum):
    """For what a worker is replaced, or is not needed any more: how long it may drain."""

    CHANGE = "change"  # a plan, or a touched file
    LIMIT = "limit"  # it reached one of its own, or broke a rule
    SIGNAL = "signal"  # SIGUSR1 to a worker of the group
    LATE = "late"  # a request that would never end


ALLOWED: dict[tuple[State, Message], State] = {
    (State.LAUNCHED, Message.HELLO): State.GREETED,
    (State.LAUNCHED, Message.FAILED): State.LAUNCHED,
    (State.GREETED, Message.READY): State.READY,
    (State.GREETED, Message.FAILED): State.GREETED,
    (State.GREETED, Message.HOMELESS): State.GREETED,
    (State.READY, Message.CHANGED): State.READY,
    (State.READY, Message.RELOAD): State.READY,
    (State.READY, Message.RECYCLE): State.READY,
    **{(State.LEAVING, message): State.LEAVING for message in Message},
}

RECYCLES = {
    Recycle.UNSAID: "it asked for it",
    Recycle.MAXIMUM_REQUESTS: "maximum-requests is reached",
    Recycle.SIGNAL: "a signal told it to end",
    Recycle.RESTART_INTERVAL: "restart-interval has passed",
    Recycle.CPU_TIME_LIMIT: "cpu-time-limit is reached",
    Recycle.RSS_LIMIT: "rss-limit is reached",
    Recycle.REQUEST_TIMEOUT: "a request ran for longer than request-timeout",
    Recycle.INACTIVITY_TIMEOUT: "it had no request for inactivity-timeout",
    Recycle.DEADLOCK_TIMEOUT: "its interpreter could not be had for deadlock-timeout",
}

# Those that an administrator should look into.
FAULTY = frozenset({Recycle.RSS_LIMIT, Recycle.REQUEST_TIMEOUT, Recycle.DEADLOCK_TIMEOUT})

FAILURES = {
    1: "there is no engine of mod_pyglue for this Python; build it with: "
    "pyglue install-engine --python {python}",
    2: "the engine for this Python is of another version; build it anew with: "
    "pyglue install-engine --python {python}",
    3: "it did not understand its settings; is another version of mod_pyglue installed?",
    4: "Python could not be prepared; the reason stands above",
    5: "its threads could not be started; the reason stands above",
    6: "interpreters= needs Python 3.12 or later, and this one is older: give the group another by "
    "python=, or use processes= instead",
}


@dataclass(slots=True, eq=False)
class Worker:
    """What the core knows of one incarnation. Owned and changed by its group alone."""

    number: int
    definition: GroupPlan
    state: State = State.LAUNCHED
    pid: int = 0  # for the log; 0: not started yet
    loaded: bool = False  # READY came with 1
    superseded: bool = False  # a newer one takes its place as soon as that is ready
    published: bool = False
    why: Why = Why.CHANGE  # it is superseded, or leaves
    deadline: float | None = None  # then it must have left this state
    is_draining: bool = False  # leaving, and finishing what it runs
    left_at: float = 0.0
    word_at: float | None = None  # when the log is told that it still drains
    launched_at: float = float("inf")
    ready_at: float = 0.0
    failure: str = ""  # why it cannot serve, in its own or our words
    killed: str = ""  # why we killed it
    recycled: Recycle | None = None  # why it asked for its replacement
    is_breached: bool = False  # it sent what it may not
    blamed: bool = False  # its end counts as a failure though we, or it, ended it

    @property
    def is_live(self) -> bool:
        return self.state in (State.LAUNCHED, State.GREETED, State.READY)

    @property
    def is_starting(self) -> bool:
        return self.state in (State.LAUNCHED, State.GREETED)

    @property
    def is_good(self) -> bool:
        return self.state is State.READY and self.loaded

    @property
    def is_unloaded(self) -> bool:
        """Ready to answer 500 only, because a script failed to load."""
        return self.state is State.READY and not self.loaded

    def advance(self, kind: int, argument: int, value: int) -> Message | None:
        """Takes a message by the table; None: it is not allowed."""
        try:
            message = Message(kind)
        except ValueError:
            return None
        after = ALLOWED.get((self.state, message))
        if after is None or not self._is_sound(message, argument, value):
            return None
        self.state = after
        return message

    def _is_sound(self, message: Message, argument: int, value: int) -> bool:
        if message is Message.HELLO:
            return argument == PROTOCOL and value == self.number
        if message is Message.READY:
            return argument in (0, 1)
        if message is Message.FAILED:
            return argument in FAILURES
        if message is Message.RECYCLE:
            return argument in Recycle.__members__.values()
        return True
