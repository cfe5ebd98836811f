# SPDX-License-Identifier: Apache-2.0
"""Starts are bounded over all groups, and each group's own asking too (TENANTS.md 8.4)."""

from __future__ import annotations

from harness.world import KILLED, World, group_plan, of

from pyglue.supervisor.actions import Death, Launch
from pyglue.supervisor.admission import AT_ONCE, BURST, HOLD, OWN_BURST, RATE, Admission
from pyglue.supervisor.plan import GroupPlan
from pyglue.supervisor.worker import Message

EXITED = Death("exited with status 3")


def sites(count: int, **options: object) -> list[GroupPlan]:
    return [group_plan(f"site{i:03}", **options) for i in range(count)]


def owner(world: World, number: int) -> str:
    return world.roster._of[number].decode().strip()


def test_four_workers_start_at_once_over_all_groups_and_the_next_when_one_is_ready() -> None:
    world = World()
    world.plan(*sites(3, processes=3))
    assert len(world.started) == AT_ONCE == 4
    (fifth,) = of(Launch, world.make_ready(world.started[0]))
    assert of(Launch, world.gone(fifth, EXITED)) == [world.started[-1]]


def test_groups_take_turns() -> None:
    world = World()
    world.plan(*sites(4, processes=2))
    assert {owner(world, number) for number in world.started} == {f"site00{i}" for i in range(4)}


def test_starts_that_hang_hold_their_places_for_a_moment_only() -> None:
    world = World()
    world.plan(*sites(12))
    assert world.roster.next_time(world.now) == world.now + HOLD
    world.wait(HOLD)
    assert len(world.started) == 2 * AT_ONCE
    world.wait(HOLD)
    assert len(world.started) == 3 * AT_ONCE


def test_so_many_starts_a_second_and_no_more_when_all_of_them_fail() -> None:
    """85 to 170 a second were seen."""
    world = World()
    world.plan(*sites(300))
    seconds = 20
    for _ in range(seconds * 20):
        for number in [n for n in world.started if n in world.roster._of]:
            world.gone(number, EXITED)
        world.wait(0.05)
    assert len(world.started) <= BURST + seconds * RATE + 1
    assert len(set(world.groups)) == 300


def test_every_group_has_its_turn_beside_hundreds_that_fail() -> None:
    world = World()
    world.plan(*sites(300), group_plan("last"))
    for _ in range(31 * 20):
        for number in [n for n in world.started if n in world.roster._of]:
            if owner(world, number) == "last":
                return
            world.gone(number, EXITED)
        world.wait(0.05)
    raise AssertionError("it was never started")


def test_a_group_that_served_and_lost_a_worker_goes_before_all_that_start() -> None:
    world = World()
    world.serve(group_plan())
    world.plan(group_plan(), *sites(100))
    for started in world.started[1:]:  # the roll of shop is among them
        world.make_ready(started)
    world.gone(max(world.ready(), key=lambda n: owner(world, n) == "shop"), KILLED)
    waiting = [n for n in world.started if n in world.roster._of and n not in world.pages]
    world.make_ready(waiting[0])
    assert owner(world, world.started[-1]) == "shop"


def test_running_groups_do_not_wait_for_starting_ones() -> None:
    """Their workers are published as ever while the queue is full."""
    world = World()
    world.serve(group_plan())
    world.plan(group_plan(), *sites(100))
    assert len(world.ready()) == 1


def test_a_worker_that_asks_for_its_successor_again_and_again_gets_one_a_second() -> None:
    for message in (Message.RELOAD, Message.RECYCLE, Message.CHANGED):
        world = World()
        world.serve(group_plan())
        seconds = 60
        for _ in range(seconds * 10):
            newest = world.started[-1]
            if newest not in world.ready():
                world.make_ready(newest)
            world.say(newest, message)
            for old in [n for n in world.pages if n not in world.ready()]:
                world.gone(old)
            world.wait(0.1)
        assert len(world.started) <= OWN_BURST + 2 + seconds + 1, message
        assert len(world.ready()) >= 1


def test_the_back_off_of_a_group_holds_whatever_room_there_is() -> None:
    world = World()
    world.plan(group_plan())
    world.gone(world.started[0], EXITED)
    world.wait(0.9)
    assert len(world.started) == 1
    world.wait(0.1)
    assert len(world.started) == 2


def test_a_group_that_left_the_plan_while_it_waited_is_not_started() -> None:
    world = World()
    world.plan(*sites(5))
    world.oldest_plan = None
    world.plan(*sites(4))
    world.wait(1)
    for number in world.started[:4]:
        if number in world.roster._of:
            world.gone(number)
    world.wait(10)
    assert "site004" not in {owner(world, n) for n in world.started if n in world.roster._of}


def test_urgency_moves_a_group_forward_and_back() -> None:
    admission = Admission()
    admission.ask(b"a", urgent=False)
    admission.ask(b"b", urgent=False)
    admission.ask(b"b", urgent=True)
    admission.ask(b"b", urgent=True)
    assert [admission.next(1.0) for _ in range(3)] == [b"b", b"a", None]
