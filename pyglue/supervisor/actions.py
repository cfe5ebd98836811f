# SPDX-License-Identifier: Apache-2.0
"""What the core asks the outside to do. The core (roster, group, worker) only returns these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .causes import Running
from .messages import Message
from .plan import GroupPlan


class GroupState(IntEnum):
    """pyglue_group_state."""

    NONE = 0
    STARTING = 1
    SERVING = 2
    DISABLED = 3
    IDLE = 4


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended, and what its record said."""

    cause: str  # one clause: "killed by SIGSEGV"
    clean: bool = False  # exit status 0
    served: int = 0  # requests started in its life
    running: tuple[int, ...] = ()  # numbers of those that had not ended
    complete: bool = True  # running lists all of them
    ran: tuple[Running, ...] = ()  # what they were
    is_undropped: bool = False  # it could not become the group's user, and ran nothing


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a worker; answer with `launched` or `launch_failed`. Of one roll are those that may
    share what was loaded once."""

    number: int
    definition: GroupPlan
    roll: int = 0


@dataclass(frozen=True, slots=True)
class Publish:
    """Give it requests."""

    number: int
    definition: GroupPlan


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Give it nothing more; its entry says "leaving" until it is forgotten."""

    number: int


@dataclass(frozen=True, slots=True)
class Quiesce:
    """Withdraw the last worker of a group, and then look whether it has requests, or the group has
    any that wait; answer with `quiet`."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Bury:
    """Put its obituary into the pages. Always before Forget."""

    number: int
    death: Death


@dataclass(frozen=True, slots=True)
class Forget:
    """It is gone: clear its entry, remove its socket, close what is left of it."""

    number: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask it to leave. allowed: seconds, None without limit."""

    number: int
    allowed: float | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask it to leave within so many seconds, and to exit anyway then."""

    number: int
    allowed: float


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to it and its process group."""

    number: int


@dataclass(frozen=True, slots=True)
class TellGroup:
    """Put the group's state into the pages; NONE removes it."""

    digest: bytes
    state: GroupState
    cause: str = ""


@dataclass(frozen=True, slots=True)
class TellPlan:
    """Say in the pages up to which plan was accepted, and which was refused last."""

    accepted: int
    refused: int


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the error log: of this group's server, or the main one."""

    message: Message
    values: dict[str, object]
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """Nothing is left: the supervisor ends."""

    reason: str


Action = (
    Launch
    | Publish
    | Withdraw
    | Quiesce
    | Bury
    | Forget
    | Drain
    | Stop
    | Kill
    | TellGroup
    | TellPlan
    | Say
    | Exit
)


class Outbox:
    """What one group asks for while an event is handled."""

    def __init__(self, digest: bytes) -> None:
        self._digest = digest
        self._actions: list[Action] = []

    def put(self, *actions: Action) -> None:
        self._actions += actions

    def say(self, message: Message, **values: object) -> None:
        """A line for the group's error log."""
        self.put(Say(message, values, self._digest))

    def take(self) -> list[Action]:
        """All of it, in the order in which it was decided."""
        taken, self._actions = self._actions, []
        return taken
