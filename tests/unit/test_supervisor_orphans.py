# SPDX-License-Identifier: Apache-2.0
"""Workers that lost their supervisor, as the next one meets them."""

from __future__ import annotations

import array
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness.wire import Peer, Type

from pyglue.supervisor.loop import Loop, now
from pyglue.supervisor.orphans import LONGEST, Orphans
from pyglue.supervisor.pages import Entry

DIGEST = bytes(20)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of an orphan."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "7.sock"))
        sock.listen()
        yield sock


@pytest.fixture
def orphans(listener: socket.socket) -> Iterator[Orphans]:
    entry = Entry(7, DIGEST, 2, os.fsencode(listener.getsockname()), bytes(32))
    with closing(Loop({})) as loop:
        made = Orphans(loop, [entry])
        yield made
        made.wait(now() + 10)
        assert made.left == 0


def accepted(listener: socket.socket) -> Peer:
    listener.settimeout(10)
    return Peer(listener.accept()[0])


def test_an_orphan_is_told_to_leave_and_gone_when_it_has_closed(
    orphans: Orphans, listener: socket.socket
) -> None:
    orphans.leave(DIGEST, 0.0)
    with accepted(listener) as peer:
        assert peer.receive().type == Type.LEAVE
        orphans.wait(now() + 0.05)
        assert orphans.left == 1


def test_a_time_that_no_frame_can_tell_is_the_longest_that_it_can(
    orphans: Orphans, listener: socket.socket
) -> None:
    """shutdown-timeout=1200h is allowed."""
    orphans.stop(1200 * 3600.0)
    with accepted(listener) as peer:
        frame = peer.receive()
        assert frame.type == Type.LEAVE and LONGEST.to_bytes(4, sys.byteorder) in frame.payload


@pytest.mark.parametrize("is_told", [False, True])
def test_an_orphan_is_not_gone_because_we_have_no_descriptor(
    orphans: Orphans, listener: socket.socket, is_told: bool
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        if is_told:
            orphans.leave(DIGEST, 0.0)
        assert orphans.tick() == set()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert orphans.left == 1
    orphans.leave(DIGEST, 0.0)
    orphans.tick()
    with accepted(listener) as peer:
        assert peer.receive().type == Type.LEAVE


def test_an_orphan_can_attach_nothing_to_the_supervisors_socket(
    orphans: Orphans, listener: socket.socket
) -> None:
    """TENANTS 2, rule 4: closing it may block, and root would be who closes it."""
    orphans.leave(DIGEST, 0.0)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))]
    with accepted(listener) as peer, pytest.raises(BrokenPipeError):
        peer.socket.sendmsg([b"x"], rights)


def test_a_group_is_named_when_the_last_of_its_orphans_is_gone(listener: socket.socket) -> None:
    """Only its socket tells."""
    entry = Entry(7, DIGEST, 2, os.fsencode(listener.getsockname()), bytes(32))
    with closing(Loop({})) as loop:
        orphans = Orphans(loop, [entry])
        assert [orphans.tick(), orphans.groups()] == [set(), {DIGEST}]

        listener.close()

        assert [orphans.tick(), orphans.groups()] == [{DIGEST}, set()]
        assert orphans.left == 0
