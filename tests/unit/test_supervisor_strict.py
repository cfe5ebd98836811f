# SPDX-License-Identifier: Apache-2.0
"""reload=strict: no request that arrives after a change sees old code, at the price of a wait."""

from __future__ import annotations

from harness.world import KILLED, World, group_plan, of

from pyglue.supervisor import messages
from pyglue.supervisor.actions import Drain, GroupState, Launch, Stop
from pyglue.supervisor.plan import GroupPlan
from pyglue.supervisor.worker import Message, Recycle


def strict(**options: object) -> GroupPlan:
    return group_plan(strict_reload=True, **options)


def test_a_change_withdraws_all_at_once_and_requests_wait_for_the_new_ones() -> None:
    world = World()
    old = world.serve(strict(processes=3))
    for message in (Message.CHANGED, Message.RELOAD):
        actions = world.say(old[1], message)
        assert of(Drain, actions) == old and world.ready() == []
        assert world.state() is GroupState.STARTING
        new = of(Launch, actions)
        assert len(new) == 3
        for number in new:
            world.make_ready(number)
        assert world.ready() == new
        old = new


def test_they_finish_what_they_run() -> None:
    world = World()
    (old,) = world.serve(strict())
    (new,) = of(Launch, world.say(old, Message.CHANGED))
    world.make_ready(new)
    assert of(Stop, world.wait(3600)) == []


def test_a_plan_rolls_as_elsewhere() -> None:
    """A restart of httpd stalls nobody for an import."""
    world = World()
    old = world.serve(strict(processes=2))
    world.plan(strict(processes=2))
    assert world.ready() == old


def test_code_that_does_not_load_answers_500_as_with_mod_wsgi() -> None:
    world = World()
    (old,) = world.serve(strict())
    (new,) = of(Launch, world.say(old, Message.CHANGED))
    world.gone(old)
    world.make_ready(new, loaded=0)
    assert world.ready() == [new] and world.state() is GroupState.SERVING
    (mended,) = of(Launch, world.say(new, Message.CHANGED))
    assert world.ready() == []
    world.gone(new)
    world.make_ready(mended)
    assert world.ready() == [mended]


def test_a_change_is_heard_from_a_worker_that_waits_for_its_successor() -> None:
    """It refuses what comes, and so must not stay."""
    world = World()
    (old,) = world.serve(strict())
    (first,) = of(Launch, world.say(old, Message.RECYCLE, Recycle.MAXIMUM_REQUESTS))
    assert world.ready() == [old]
    actions = world.say(old, Message.CHANGED)
    assert world.ready() == [] and first not in world.ready()
    (second,) = of(Launch, actions)
    world.make_ready(second)
    assert world.ready() == [second]


def test_what_does_not_load_beside_older_ones_is_started_when_they_have_ended() -> None:
    """Applications that hold a port or a lock."""
    world = World()
    (old,) = world.serve(strict())
    (beside,) = of(Launch, world.say(old, Message.CHANGED))
    actions = world.make_ready(beside, loaded=0)
    assert of(Stop, actions) == [beside] and len(world.said(messages.LOADS_ALONE)) == 1
    assert world.state() is GroupState.STARTING
    assert of(Launch, world.gone(beside)) == []
    (alone,) = of(Launch, world.gone(old))
    world.make_ready(alone)
    assert world.ready() == [alone]
    assert of(Launch, world.say(alone, Message.CHANGED)) == [], "that is known now"
    (next_one,) = of(Launch, world.gone(alone))
    world.make_ready(next_one)
    assert world.ready() == [next_one] and len(world.said(messages.LOADS_ALONE)) == 1


def test_recycling_and_plans_keep_that_order_too() -> None:
    world = World()
    (old,) = world.serve(strict())
    (beside,) = of(Launch, world.say(old, Message.RECYCLE, Recycle.MAXIMUM_REQUESTS))
    assert of(Drain, world.make_ready(beside, loaded=0)) == [old]
    world.gone(beside)
    (alone,) = of(Launch, world.gone(old))
    world.make_ready(alone)
    actions = world.plan(strict())
    assert of(Drain, actions) == [alone] and of(Launch, actions) == []
    (last,) = of(Launch, world.gone(alone))
    world.make_ready(last)
    assert world.ready() == [last]


def test_what_does_not_load_alone_either_is_a_failure_of_its_own() -> None:
    world = World()
    (old,) = world.serve(strict())
    (beside,) = of(Launch, world.say(old, Message.CHANGED))
    world.make_ready(beside, loaded=0)
    world.gone(beside)
    (alone,) = of(Launch, world.gone(old))
    world.make_ready(alone, loaded=0)
    assert world.ready() == [alone]
    (mended,) = of(Launch, world.say(alone, Message.CHANGED))
    world.make_ready(mended)
    assert world.ready() == [mended]


def test_a_crash_is_replaced_at_once() -> None:
    world = World()
    (old,) = world.serve(strict())
    assert len(of(Launch, world.gone(old, KILLED))) == 1


def test_the_message_of_a_held_roll_names_the_option() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    (new,) = of(Launch, world.say(old, Message.CHANGED))
    world.make_ready(new, loaded=0)
    (line,) = world.said(messages.WORKER_UNLOADED)
    assert "reload=strict" in str(line.values["next"])
