# SPDX-License-Identifier: Apache-2.0
"""Messages with httpd's parent and with workers: bytes in, checked tuples out.

From the parent: one SEQPACKET socket, which other processes of httpd's hold too (mod_cgid's daemon
is forked and not exec'd), so a message counts only with the parent's pid and our own uid by
SCM_CREDENTIALS. From workers: fixed 16 bytes through a pipe, within a budget per second.
docs/plan.md is normative.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass, field
from enum import IntEnum

from .plan import MAX_BYTES

VERSION = 1
HEAD = struct.Struct("=IIIIQ")
CREDENTIALS = struct.Struct("=iII")
WORDS = struct.Struct("=IIQ")
MAX_FDS = 253  # what the kernel passes at most in one message
MESSAGES_PER_SECOND = 20
PLAN_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE


class Kind(IntEnum):
    """Parent to supervisor, docs/plan.md section 2."""

    PLAN = 1
    LOGS = 2
    STOP = 3


class ChannelError(Exception):
    """A message that is not taken; the text says why. The channel goes on."""


class CutError(ChannelError):
    """Descriptors of a plan's message could not be had."""

    def __init__(self, plan: int) -> None:
        super().__init__(
            "the supervisor has no room for its descriptors: raise the number of open files that "
            "httpd may have (LimitNOFILE=, ulimit -n)"
        )
        self.plan = plan


@dataclass(slots=True)
class Packet:
    """A message of the parent's. Whoever takes it owns the descriptors."""

    kind: Kind
    a: int
    b: int
    plan: int
    fds: list[int] = field(default_factory=list)


def receive(sock: socket.socket, parent: int, uid: int) -> Packet | None:
    """The next message; None at end-of-file. BlockingIOError: there is none."""
    space = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(MAX_FDS * 4)
    data, ancillary, flags, _ = sock.recvmsg(HEAD.size + 1, space, socket.MSG_CMSG_CLOEXEC)
    fds, sender = _unpack(ancillary)
    if not data and not ancillary:
        return None
    try:
        return _checked(data, flags, sender == (parent, uid), fds)
    except ChannelError:
        close_all(fds)
        raise


def _unpack(ancillary: list[tuple[int, int, bytes]]) -> tuple[list[int], tuple[int, int] | None]:
    fds: list[int] = []
    sender = None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4])
        elif kind == socket.SCM_CREDENTIALS and len(data) == CREDENTIALS.size:
            pid, uid, _ = CREDENTIALS.unpack(data)
            sender = pid, uid
    return fds, sender


def _checked(data: bytes, flags: int, is_parent: bool, fds: list[int]) -> Packet:
    if not is_parent:
        raise ChannelError("its sender is not httpd's parent")
    if len(data) != HEAD.size:
        raise ChannelError("it has a wrong length")
    kind, version, a, b, plan = HEAD.unpack(data)
    if version != VERSION:
        raise ChannelError(f"its version is {version}, not {VERSION}")
    if flags & socket.MSG_CTRUNC:
        raise CutError(plan)
    try:
        return Packet(Kind(kind), a, b, plan, fds)
    except ValueError:
        raise ChannelError(f"its kind {kind} is unknown") from None


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()


def read_sealed(fd: int) -> bytes:
    """The text of a plan: from a memfd that nobody can change or shrink under us."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ChannelError("the plan is not in a memfd") from error
    if seals & PLAN_SEALS != PLAN_SEALS:
        raise ChannelError("the memfd of the plan is not sealed")
    return os.pread(fd, MAX_BYTES + 1, 0)  # who parses it refuses what is longer, with a reason


class Assembly:
    """A plan that is complete when all its logs have come. A newer one replaces it."""

    def __init__(self) -> None:
        self._plan = 0
        self._text: bytes | None = None
        self._logs: dict[int, int] = {}
        self._wanted = 0

    def add(self, packet: Packet) -> tuple[int, bytes, list[int]] | None:
        """Takes the packet's descriptors. A complete plan: number, text, log descriptors."""
        if packet.kind is Kind.PLAN:
            self._begin(packet)
        else:
            self._more(packet)
        if self._text is None or len(self._logs) < self._wanted:
            return None
        logs = [self._logs[i] for i in range(self._wanted)]
        done = self._plan, self._text, logs
        self._text, self._logs = None, {}
        return done

    def _begin(self, packet: Packet) -> None:
        try:
            if len(packet.fds) != 1:
                raise ChannelError("a plan comes with exactly one descriptor")
            text = read_sealed(packet.fds[0])
        finally:
            close_all(packet.fds)
        close_all(list(self._logs.values()))
        self._plan, self._text, self._logs, self._wanted = packet.plan, text, {}, packet.a

    def _more(self, packet: Packet) -> None:
        first, count = packet.a, packet.b
        if (
            self._text is None
            or packet.plan != self._plan
            or count != len(packet.fds)
            or first + count > self._wanted
            or any(i in self._logs for i in range(first, first + count))
        ):
            close_all(packet.fds)
            raise ChannelError("its error logs belong to no plan that is being taken")
        self._logs.update(zip(range(first, first + count), packet.fds, strict=True))
