# SPDX-License-Identifier: Apache-2.0
"""Descendants of workers, as the supervisor meets them."""

from __future__ import annotations

import os
import signal

import pytest

from pyglue.supervisor import family
from pyglue.supervisor.loop import Loop


def test_dead_children_of_a_fork_bomb_are_taken_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is always one more."""
    monkeypatch.setattr(os, "waitid", lambda *_: "dead")
    assert list(family.changed_children(7)) == ["dead"] * 7
    monkeypatch.setattr(os, "waitid", lambda *_: None)
    assert list(family.changed_children(7)) == []


def test_the_sweep_ends_in_time_though_there_is_always_one_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(family, "own_children", lambda: [7])
    monkeypatch.setattr(os, "kill", lambda *_: None)
    monkeypatch.setattr(os, "waitpid", lambda *_: (7, 9))
    assert family.sweep(0.05) == [7]


def test_what_is_left_of_a_signal_is_taken_in_the_next_turn() -> None:
    came: list[int] = []
    before = signal.getsignal(signal.SIGCHLD)
    loop = Loop({signal.SIGCHLD: lambda: came.append(1)})
    try:
        loop.again(signal.SIGCHLD)
        loop.turn(10)
        assert came == [1]
        loop.turn(0)
        assert came == [1]
    finally:
        loop.close()
        signal.signal(signal.SIGCHLD, before)
