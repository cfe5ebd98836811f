# SPDX-License-Identifier: Apache-2.0
"""How long a worker that leaves may finish what it runs, and what ends it (SUCCESSION.md 4)."""

from __future__ import annotations

import pytest
from harness.world import FIRST, World, group_plan, of

from pyglue.supervisor import messages
from pyglue.supervisor.actions import Action, Drain, Kill, Stop
from pyglue.supervisor.leaving import drain_of
from pyglue.supervisor.worker import Message, Recycle, Why


@pytest.mark.parametrize(
    ("options", "allowed"),
    [  # for a change, a limit, a signal, a request that never ends
        ({}, (None, None, None, 15)),
        ({"drain_timeout": 40.0}, (40, 40, 40, 15)),
        ({"drain_timeout": 0.0}, (None, None, None, 15)),
        ({"drain_timeout": 40.0, "graceful_timeout": 20.0}, (40, 20, 20, 20)),
        ({"graceful_timeout": 0.0}, (None, 0, 0, 0)),
        ({"graceful_timeout": 20.0, "eviction_timeout": 5.0}, (None, 20, 5, 20)),
        ({"graceful_timeout": 20.0, "eviction_timeout": 0.0}, (None, 20, 20, 20)),
        ({"drain_timeout": 40.0, "eviction_timeout": 5.0}, (40, 40, 5, 15)),
    ],
)
def test_how_long_a_worker_may_drain_depends_on_why_it_goes(
    options: dict[str, float], allowed: tuple[float | None, ...]
) -> None:
    definition = group_plan(**options)
    whys = (Why.CHANGE, Why.LIMIT, Why.SIGNAL, Why.LATE)
    assert tuple(drain_of(definition, why)[0] for why in whys) == allowed


def replaced(world: World, message: int, argument: int = 0) -> list[Action]:
    """The first worker asks to be replaced, and its successor gets ready."""
    world.say(FIRST, message, argument)
    return world.make_ready(world.started[-1])


def test_worker_that_has_not_finished_in_time_is_told_to_stop_and_then_killed() -> None:
    world = World()
    world.serve(group_plan(drain_timeout=30.0, shutdown_timeout=5.0))
    actions = replaced(world, Message.CHANGED)
    assert Drain(FIRST, 35.0) in actions
    assert of(Stop, world.wait(29)) == []
    assert Stop(FIRST, 5.0) in world.wait(1)
    assert len(world.said(messages.DRAINED_LATE)) == 1
    assert of(Kill, world.wait(5)) == []
    assert of(Kill, world.wait(1)) == [FIRST]


def test_worker_without_a_limit_is_never_ended_but_named_each_minute() -> None:
    world = World()
    world.serve(group_plan())
    assert Drain(FIRST, None) in replaced(world, Message.CHANGED)
    for _ in range(24 * 60):
        actions = world.wait(60)
        assert of(Stop, actions) == of(Kill, actions) == []
    assert len(world.said(messages.STILL_DRAINS)) == 24 * 60


def test_the_clock_is_asked_for_the_next_line_and_the_end() -> None:
    world = World()
    world.serve(group_plan(drain_timeout=90.0))
    replaced(world, Message.CHANGED)
    assert world.roster.next_time(world.now) == world.now + 60
    world.wait(60)
    assert world.roster.next_time(world.now) == world.now + 30


def test_worker_that_a_signal_reached_has_the_eviction_timeout() -> None:
    world = World()
    world.serve(group_plan(drain_timeout=30.0, eviction_timeout=3.0, shutdown_timeout=1.0))
    assert Drain(FIRST, 4.0) in replaced(world, Message.RELOAD)


def test_worker_at_its_limit_has_the_graceful_timeout() -> None:
    world = World()
    world.serve(group_plan(drain_timeout=30.0, graceful_timeout=3.0, shutdown_timeout=1.0))
    assert Drain(FIRST, 4.0) in replaced(world, Message.RECYCLE, Recycle.MAXIMUM_REQUESTS)


def test_graceful_timeout_of_nothing_leaves_the_shutdown_timeout_alone() -> None:
    world = World()
    world.serve(group_plan(graceful_timeout=0.0))
    actions = replaced(world, Message.RECYCLE, Recycle.MAXIMUM_REQUESTS)
    assert of(Drain, actions) == [] and of(Stop, actions) == [FIRST]


def test_worker_with_a_request_that_never_ends_is_given_up_in_any_case() -> None:
    world = World()
    world.serve(group_plan())
    replaced(world, Message.RECYCLE, Recycle.REQUEST_TIMEOUT)
    assert of(Stop, world.wait(15)) == [FIRST]


def test_worker_that_drains_and_finds_that_a_request_never_ends_is_given_up_too() -> None:
    world = World()
    world.serve(group_plan())
    replaced(world, Message.CHANGED)
    world.wait(3600)
    world.say(FIRST, Message.RECYCLE, Recycle.REQUEST_TIMEOUT)
    assert of(Stop, world.wait(14)) == []
    assert of(Stop, world.wait(1)) == [FIRST]


def test_a_plan_during_a_drain_does_not_lengthen_it() -> None:
    world = World()
    world.serve(group_plan(drain_timeout=30.0))
    replaced(world, Message.CHANGED)
    world.wait(20)
    world.plan(group_plan(drain_timeout=600.0))
    assert of(Stop, world.wait(10)) == [FIRST]


def test_the_roll_waits_at_the_cap_and_says_so_once() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    for _ in range(4):
        world.say(number, Message.CHANGED)
        number = world.started[-1]
        world.make_ready(number)
    assert world.said(messages.ROLL_WAITS) == []
    world.say(number, Message.CHANGED)
    world.wait(1)
    world.wait(1)
    assert len(world.said(messages.ROLL_WAITS)) == 1 and number in world.ready()
