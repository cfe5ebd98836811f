# SPDX-License-Identifier: Apache-2.0
"""processes=LEAST-MOST: workers come when requests wait, and go when they are not needed."""

from __future__ import annotations

import pytest
from harness.world import KILLED, World, group_plan, of

from pyglue.supervisor import messages
from pyglue.supervisor.actions import (
    Action,
    Death,
    Drain,
    GroupState,
    Launch,
    Publish,
    Quiesce,
    Withdraw,
)
from pyglue.supervisor.plan import GroupPlan
from pyglue.supervisor.scaling import GROW_AFTER, SHRINK_AFTER
from pyglue.supervisor.worker import Message, Recycle

INACTIVE = Recycle.INACTIVITY_TIMEOUT
EXITED = Death("exited with status 3")


def elastic(least: int, most: int, **options: object) -> GroupPlan:
    return group_plan(processes_min=least, processes=most, **options)


def grown(world: World, to: int) -> None:
    """Requests wait until there are so many workers."""
    while len(world.ready()) < to:
        world.look_for(2 * GROW_AFTER, waiting=3)
        world.make_ready(world.started[-1])


# Growing and shrinking.


def test_it_starts_with_the_least_and_grows_one_at_a_time_while_requests_wait() -> None:
    world = World()
    world.serve(elastic(2, 4))
    assert len(world.ready()) == 2
    world.look_for(10, waiting=0)
    assert len(world.started) == 2
    world.look_for(10, waiting=1)
    assert len(world.started) == 3, "the next one only when this one serves"
    world.make_ready(world.started[-1])
    world.look_for(10, waiting=1)
    world.make_ready(world.started[-1])
    world.look_for(10, waiting=9)
    assert len(world.ready()) == len(world.started) == 4
    assert len(world.said(messages.GROWN)) == 2


def test_what_waits_for_a_moment_starts_nothing() -> None:
    world = World()
    world.serve(elastic(1, 4))
    for _ in range(50):
        world.look_for(GROW_AFTER / 2, waiting=5)
        world.look_for(0.1, waiting=0)
    assert len(world.started) == 1


def test_it_shrinks_to_the_least_when_fewer_are_enough_for_a_minute() -> None:
    world = World()
    world.serve(elastic(1, 3, threads=4))
    grown(world, 3)
    newest = world.ready()[-1]
    actions = world.look_for(SHRINK_AFTER + 1, waiting=0, running=4)
    assert of(Drain, actions) == [newest], "the one that came last"
    world.look_for(SHRINK_AFTER + 1, waiting=0, running=4)
    assert len(world.ready()) == 2, "one worker has four threads, and half of them are a reserve"
    world.look_for(SHRINK_AFTER + 1, waiting=0, running=2)
    assert len(world.ready()) == 1
    world.look_for(10 * SHRINK_AFTER, waiting=0)
    assert len(world.ready()) == 1 and len(world.said(messages.SHRUNK)) == 2


def test_a_moment_of_load_starts_the_minute_anew() -> None:
    world = World()
    world.serve(elastic(1, 2, threads=2))
    grown(world, 2)
    for _ in range(5):
        world.look_for(SHRINK_AFTER - 2, waiting=0)
        world.look_for(0.1, waiting=0, running=2)
    assert len(world.ready()) == 2


def test_inactivity_timeout_is_the_minute_if_it_is_set() -> None:
    world = World()
    world.serve(elastic(1, 2, inactivity_timeout=5.0))
    grown(world, 2)
    world.look_for(4, waiting=0)
    assert len(world.ready()) == 2
    world.look_for(2, waiting=0)
    assert len(world.ready()) == 1


def test_nothing_grows_or_shrinks_during_a_roll() -> None:
    world = World()
    (old,) = world.serve(elastic(1, 4))
    world.say(old, Message.CHANGED)
    world.look_for(20, waiting=9)
    assert len(world.started) == 2


def test_a_roll_keeps_the_number_that_there_is() -> None:
    world = World()
    world.serve(elastic(1, 4))
    grown(world, 3)
    world.plan(elastic(1, 4))
    while world.started[-1] not in world.ready():
        world.make_ready(world.started[-1])
    assert len(world.ready()) == 3


@pytest.mark.parametrize(("least", "most", "count"), [(1, 2, 2), (4, 8, 4), (1, 8, 3)])
def test_a_new_plan_bounds_it_anew(least: int, most: int, count: int) -> None:
    world = World()
    world.serve(elastic(1, 4))
    grown(world, 3)
    world.plan(elastic(least, most))
    while [n for n in world.started if n in world.roster._of and n not in world.pages]:
        world.make_ready(next(n for n in world.started if n not in world.pages))
    assert len(world.ready()) == count


def test_a_crash_is_replaced_whatever_the_load() -> None:
    world = World()
    (number,) = world.serve(elastic(1, 4))
    assert len(of(Launch, world.gone(number, KILLED))) == 1


# Inactivity where the number is fixed.


def test_worker_without_a_request_for_inactivity_timeout_is_replaced_as_with_mod_wsgi() -> None:
    world = World()
    (number,) = world.serve(group_plan(inactivity_timeout=5.0))
    (new,) = of(Launch, world.say(number, Message.RECYCLE, INACTIVE))
    assert world.ready() == [number]
    world.make_ready(new)
    assert world.ready() == [new]


def test_worker_above_the_least_goes_without_a_successor() -> None:
    world = World()
    world.serve(elastic(1, 2))
    grown(world, 2)
    first, second = world.ready()
    assert of(Drain, world.say(first, Message.RECYCLE, INACTIVE)) == [first]
    assert world.ready() == [second]
    assert len(of(Launch, world.say(second, Message.RECYCLE, INACTIVE))) == 1


# On demand.


def on_demand(**options: object) -> tuple[World, int]:
    """A group on demand, of which a request has started the first worker."""
    world = World()
    world.plan(elastic(0, 2, **options))
    world.look(waiting=1)
    world.make_ready(world.started[-1])
    return world, world.started[-1]


def test_nothing_is_started_until_a_request_waits() -> None:
    world = World()
    world.plan(elastic(0, 2))
    world.look_for(60, waiting=0)
    assert world.started == [] and world.state() is GroupState.IDLE
    assert len(of(Launch, world.look(waiting=1))) == 1
    assert world.state() is GroupState.STARTING
    world.make_ready(world.started[0])
    assert world.state() is GroupState.SERVING


def test_the_level_starts_one_however_often_it_is_read() -> None:
    world = World()
    world.plan(elastic(0, 2))
    world.look_for(2, waiting=5)
    assert len(world.started) == 1


def test_a_level_that_is_gone_when_the_worker_is_ready_leaves_it_to_its_inactivity() -> None:
    world, number = on_demand()
    world.look_for(600, waiting=0)
    assert world.ready() == [number]


def order_of(actions: list[Action]) -> list[type]:
    kinds = (Withdraw, Drain, Publish, Quiesce, Launch)
    return [type(action) for action in actions if isinstance(action, kinds)]


def test_the_last_worker_is_withdrawn_and_looked_at_before_it_leaves() -> None:
    world, number = on_demand()
    actions = world.say(number, Message.RECYCLE, INACTIVE)
    assert order_of(actions) == [Quiesce] and world.ready() == []
    assert of(Drain, world.done) == [number]
    assert world.state() is GroupState.IDLE
    world.gone(number)
    assert of(Launch, world.look_for(5, waiting=0)) == []
    assert len(of(Launch, world.look(waiting=1))) == 1


def test_a_request_that_came_meanwhile_has_it_published_again() -> None:
    world, number = on_demand()
    world.requests = 1
    world.say(number, Message.RECYCLE, INACTIVE)
    assert world.ready() == [number] and of(Drain, world.done) == []
    assert world.state() is GroupState.SERVING
    world.requests = 0
    world.say(number, Message.RECYCLE, INACTIVE)
    assert of(Drain, world.done) == [number]


def test_a_request_after_that_waits_for_a_new_worker_beside_the_leaving_one() -> None:
    world, number = on_demand()
    world.say(number, Message.RECYCLE, INACTIVE)
    (new,) = of(Launch, world.look(waiting=1))
    world.make_ready(new)
    assert world.ready() == [new]


def test_the_answer_about_a_worker_that_died_meanwhile_changes_nothing() -> None:
    world, number = on_demand()
    world.gone(number, KILLED)
    assert world.roster.quiet(number, 0, world.now) == []


def test_a_last_worker_that_is_being_replaced_is_no_last_one() -> None:
    world, number = on_demand()
    (new,) = of(Launch, world.say(number, Message.CHANGED))
    world.say(number, Message.RECYCLE, INACTIVE)
    assert world.ready() == [number]
    world.make_ready(new)
    assert world.ready() == [new]


def test_a_worker_on_demand_that_dies_is_not_replaced_until_a_request_waits() -> None:
    world, number = on_demand()
    world.wait(60)
    assert of(Launch, world.gone(number, KILLED)) == []
    assert world.state() is not GroupState.DISABLED
    assert len(of(Launch, world.look(waiting=1))) == 1


def test_a_group_on_demand_that_cannot_start_says_so_and_is_tried_by_the_next_request() -> None:
    """Not by each of them: the back-off is kept though nothing runs."""
    world = World()
    world.plan(elastic(0, 2))
    waits = []
    for _ in range(6):
        waited = 0
        while not of(Launch, world.look(waiting=1)):
            assert world.state() is GroupState.DISABLED
            world.wait(1)
            waited += 1
        waits.append(waited)
        world.gone(world.started[-1], EXITED)
    assert waits == [0, 1, 2, 4, 8, 16]
    world.wait(32)
    assert world.state() is GroupState.IDLE and len(world.started) == 6


def test_the_back_off_outlives_an_idle_stop() -> None:
    world = World()
    world.plan(elastic(0, 2))
    world.look(waiting=1)
    world.gone(world.started[-1], EXITED)
    world.wait(1)
    world.look(waiting=1)
    world.make_ready(world.started[-1])
    world.say(world.started[-1], Message.RECYCLE, INACTIVE)
    world.gone(world.started[-1])
    world.look(waiting=1)
    world.gone(world.started[-1], EXITED)
    world.wait(1)
    assert of(Launch, world.look(waiting=1)) == [], "it is the second failure of a row"
    world.wait(1)
    assert len(of(Launch, world.look(waiting=1))) == 1


def test_idle_groups_go_in_their_order_and_few_a_second() -> None:
    world = World()
    names = [f"site{i}" for i in range(12)]
    world.plan(*[elastic(0, 1, name=name, digest=name.encode().ljust(20)) for name in names])
    numbers = []
    for name in names:
        world.look(waiting=1, name=name)
        world.wait(1)
        world.make_ready(world.started[-1])
        numbers.append(world.started[-1])
    for number in numbers:
        world.say(number, Message.RECYCLE, INACTIVE)
    assert of(Quiesce, world.done) == numbers[:4]
    assert world.roster.next_time(world.now) is not None
    for _ in range(21):
        world.wait(0.1)
    assert of(Quiesce, world.done) == numbers


def test_a_plan_for_a_group_that_is_idle_starts_nothing() -> None:
    world, number = on_demand()
    world.say(number, Message.RECYCLE, INACTIVE)
    world.gone(number)
    assert of(Launch, world.plan(elastic(0, 2, threads=7))) == []
    (launch,) = [a for a in world.look(waiting=1) if isinstance(a, Launch)]
    assert launch.definition.threads == 7


def test_a_group_that_workers_of_a_dead_supervisor_serve_gets_one_of_ours() -> None:
    """They would serve old code for ever."""
    world = World(elastic(0, 2))
    world.plan(elastic(0, 2))
    assert len(world.started) == 1


def test_a_group_that_is_idle_and_not_needed_any_more_is_gone() -> None:
    world, number = on_demand()
    world.say(number, Message.RECYCLE, INACTIVE)
    world.gone(number)
    world.plan()
    world.oldest_plan = None
    world.wait(1)
    assert world.state() is GroupState.NONE


def test_only_elastic_groups_are_looked_at() -> None:
    world = World()
    world.plan(group_plan("fixed"), elastic(0, 1), elastic(2, 3, name="b", digest=b"b" * 20))
    assert set(world.roster.elastic()) == {b"shop".ljust(20), b"b" * 20}
