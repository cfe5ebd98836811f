# SPDX-License-Identifier: Apache-2.0
"""Workers of a supervisor that died: they serve on until their group has workers of ours.

They are nobody's children any more, so they are told over their own socket (LEAVE, docs/wire.md
13), and are taken for gone when that connection ends. They cannot say anything: our end is shut
down for reading before it is connected, because what a tenant attaches to a socket of root's may
block whoever closes that (TENANTS.md section 2, rule 4).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from dataclasses import dataclass

from .loop import Loop, now
from .pages import Entry

WIRE_VERSION = 1
FRAME_LEAVE = 14
FRAME = struct.Struct("=IBBHQ")
HELLO = struct.Struct("=IIQ32s")
TURN = 0.1
LONGEST = 0xFFFFFFFF  # ms that a frame can tell: 49 days
# Its backlog is full, or we are short of something: the next tick tries again.
MEANWHILE = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(slots=True)
class _Orphan:
    entry: Entry
    allowed: float | None = None  # seconds it may take to leave, 0 without limit; None: it stays
    sock: socket.socket | None = None  # it was told; the end of this is its end


class Orphans:
    """All of them. `tick` goes on with what could not be done at once."""

    def __init__(self, loop: Loop, entries: list[Entry]) -> None:
        self._loop = loop
        self._all = {entry.number: _Orphan(entry) for entry in entries}

    def groups(self) -> set[bytes]:
        """Digests of the groups that some of them still serve."""
        return {o.entry.digest for o in self._all.values() if o.allowed is None}

    @property
    def left(self) -> int:
        """How many are not gone."""
        return len(self._all)

    def leave(self, digest: bytes, allowed: float) -> None:
        """Those of this group are not needed any more."""
        for orphan in list(self._all.values()):
            if orphan.entry.digest == digest and orphan.allowed is None:
                orphan.allowed = allowed
                self._tell(orphan)

    def stop(self, allowed: float) -> None:
        """All of them, those that are leaving too, within this time."""
        for orphan in list(self._all.values()):
            orphan.allowed = allowed
            self._tell(orphan)

    def tick(self) -> set[bytes]:
        """Returns the groups that have lost the last of those that served them."""
        before = self.groups()
        for orphan in list(self._all.values()):
            if orphan.allowed is None:
                self._look(orphan)
            elif orphan.sock is None:
                self._tell(orphan)
            elif _has_ended(orphan.sock):
                self._gone(orphan)
        return before - self.groups()

    def wait(self, until: float) -> None:
        """For those that were told to be gone."""
        while self._all and now() < until:
            self.tick()
            self._loop.turn(TURN)

    def _look(self, orphan: _Orphan) -> None:
        """Nobody but its socket tells of its death."""
        try:
            _connect(orphan.entry).close()
        except OSError as error:
            if error.errno not in MEANWHILE:
                self._gone(orphan)

    def _tell(self, orphan: _Orphan) -> None:
        try:
            if orphan.sock is None:
                orphan.sock = _connect(orphan.entry)
            orphan.sock.send(_leave(orphan.entry, orphan.allowed or 0.0))
        except OSError as error:
            if error.errno not in MEANWHILE:  # it is gone, or leaves and can be told nothing more
                self._gone(orphan)

    def _gone(self, orphan: _Orphan) -> None:
        self._all.pop(orphan.entry.number, None)
        if orphan.sock is not None:
            orphan.sock.close()


def _connect(entry: Entry) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    try:
        sock.shutdown(socket.SHUT_RD)
        sock.connect(os.fsdecode(entry.path))
    except OSError:
        sock.close()
        raise
    return sock


def _has_ended(sock: socket.socket) -> bool:
    """The other end is closed: one that is shut down for reading is always readable."""
    ends = select.poll()
    ends.register(sock, 0)
    return bool(ends.poll(0))


def _leave(entry: Entry, allowed: float) -> bytes:
    hello = HELLO.pack(WIRE_VERSION, min(int(allowed * 1000), LONGEST), entry.number, entry.key)
    return FRAME.pack(len(hello), FRAME_LEAVE, 0, 0, 0) + hello
