# SPDX-License-Identifier: Apache-2.0
"""How a plan arrives in parts: a newer one replaces one that is not complete (SUCCESSION.md 2)."""

from __future__ import annotations

import fcntl
import os

import pytest
from harness.census import is_open

from pyglue.supervisor.channel import Assembly, ChannelError, Kind, Packet


def memory(text: bytes) -> int:
    """A sealed one, as httpd's parent makes it."""
    fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
    os.write(fd, text)

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


def test_newer_plan_replaces_one_that_is_not_complete_and_its_logs_are_closed() -> None:
    assembly = Assembly()
    first, log = memory(b"first"), os.open(os.devnull, os.O_WRONLY)
    assert assembly.add(Packet(Kind.PLAN, 2, 0, 7, [first])) is None
    assert assembly.add(Packet(Kind.LOGS, 0, 1, 7, [log])) is None
    last, own = memory(b"second"), os.open(os.devnull, os.O_WRONLY)
    assert assembly.add(Packet(Kind.PLAN, 1, 0, 8, [last])) is None
    assert not is_open(log)
    complete = assembly.add(Packet(Kind.LOGS, 0, 1, 8, [own]))
    assert complete is not None and complete[:2] == (8, b"second")
    os.close(own)


def test_logs_of_a_plan_that_was_replaced_are_closed() -> None:
    assembly = Assembly()
    assembly.add(Packet(Kind.PLAN, 1, 0, 8, [memory(b"second")]))
    late = os.open(os.devnull, os.O_WRONLY)
    with pytest.raises(ChannelError):
        assembly.add(Packet(Kind.LOGS, 0, 1, 7, [late]))
    assert not is_open(late)
