# SPDX-License-Identifier: Apache-2.0
"""The sans-IO core: every order of events that SUCCESSION.md names, on a clock of the test's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.world import EPOCH, FIRST, KILLED, POISONED, World, group_plan, of

from pyglue.supervisor import messages
from pyglue.supervisor.actions import (
    Bury,
    Death,
    Drain,
    Exit,
    Forget,
    GroupState,
    Kill,
    Launch,
    Publish,
    Stop,
    TellPlan,
    Withdraw,
)
from pyglue.supervisor.roster import Roster
from pyglue.supervisor.worker import Message, Recycle


def test_all_processes_of_a_new_group_start_at_once() -> None:
    world = World()
    world.plan(group_plan(processes=3))
    assert world.started == [FIRST, FIRST + 1, FIRST + 2]
    assert world.state() is GroupState.STARTING
    assert TellPlan(1, 0) in world.done


def test_worker_is_published_when_it_is_ready_and_not_before() -> None:
    world = World()
    world.plan(group_plan())
    world.say(FIRST, Message.HELLO, 1, FIRST)
    assert world.ready() == []
    world.say(FIRST, Message.READY, 1)
    assert world.ready() == [FIRST]
    assert world.state() is GroupState.SERVING


def test_roll_replaces_one_at_a_time_and_withdraws_only_after_publishing() -> None:
    world = World()
    old = world.serve(group_plan(processes=2))
    launched = of(Launch, world.plan(group_plan(processes=2)))
    assert len(launched) == 1 and world.ready() == old
    actions = world.make_ready(launched[0])
    order = [type(a) for a in actions if isinstance(a, (Publish, Withdraw, Drain))]
    assert order == [Publish, Withdraw, Drain]
    assert len(world.ready()) == 2 and len(of(Launch, actions)) == 1
    world.make_ready(of(Launch, actions)[0])
    assert not set(old) & set(world.ready()) and len(world.ready()) == 2


def test_changed_from_every_worker_is_one_roll() -> None:
    world = World()
    old = world.serve(group_plan(processes=3))
    world.say(old[0], Message.CHANGED)
    world.say(old[1], Message.CHANGED)
    world.say(old[2], Message.RELOAD)
    assert len(world.started) == 4


def test_second_plan_during_a_roll_ends_the_unpublished_and_starts_from_the_newest() -> None:
    world = World()
    world.serve(group_plan())
    (second,) = of(Launch, world.plan(group_plan(threads=3)))
    world.say(second, Message.HELLO, 1, second)
    actions = world.plan(group_plan(threads=4))
    assert of(Stop, actions) == [second]
    (third,) = of(Launch, actions)
    world.make_ready(second)  # crossed with our STOP
    assert second not in world.ready() and not world.said(messages.BREACH)
    world.make_ready(third)
    assert world.ready() == [third]


def test_with_one_process_a_roll_has_two_for_a_moment() -> None:
    world = World()
    (old,) = world.serve(group_plan(processes=1))
    (new,) = of(Launch, world.plan(group_plan(processes=1)))
    assert world.ready() == [old] and {old, new} <= set(world.roster._of)
    world.make_ready(new)
    assert world.ready() == [new]


def test_word_of_a_worker_that_crossed_with_its_sigkill_is_taken_for_nothing() -> None:
    world = World()
    world.plan(group_plan())
    assert of(Kill, world.wait(31)) == [FIRST]
    world.make_ready(FIRST)
    assert world.ready() == []
    world.gone(FIRST, KILLED)
    assert world.state() is not GroupState.SERVING


def test_group_of_another_identity_is_another_group_whatever_its_name() -> None:
    """alice's group renamed to bob's user: each child of httpd finds its own by digest."""
    world = World()
    (old,) = world.serve(group_plan())
    other = group_plan(digest=b"another user".ljust(20), user="bob", uid=1002)
    (new,) = of(Launch, world.plan(other))
    world.make_ready(new)
    assert world.ready() == [old, new]
    world.oldest_plan = 2
    assert of(Drain, world.wait(1)) == [old]
    assert world.ready() == [new]


def test_departed_group_is_replaced_from_its_last_good_definition_too() -> None:
    world = World()
    good = group_plan(threads=2)
    (old,) = world.serve(good)
    (bad,) = of(Launch, world.plan(group_plan(threads=3)))
    world.make_ready(bad, loaded=0)
    world.plan()
    world.wait(20)
    launches = [a for a in world.gone(old, KILLED) if isinstance(a, Launch)]
    assert [a.definition for a in launches] == [good]


def test_launched_worker_of_an_older_roll_is_killed_at_once() -> None:
    world = World()
    world.serve(group_plan())
    (second,) = of(Launch, world.plan(group_plan()))
    assert of(Kill, world.plan(group_plan())) == [second]


def test_sigusr1_that_ends_a_worker_in_its_first_moment_is_no_failure() -> None:
    world = World()
    world.plan(group_plan())
    (first,) = world.started
    (second,) = of(Launch, world.gone(first, Death("was killed by SIGUSR1")))
    assert world.state() is GroupState.STARTING and world.said(messages.WORKER_DIED) == []
    world.make_ready(second)
    assert world.ready() == [second]


def test_worker_that_failed_to_load_holds_the_roll_while_a_good_one_serves() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    (new,) = of(Launch, world.plan(group_plan(threads=3)))
    world.make_ready(new, loaded=0)
    world.wait(100)
    assert world.ready() == [old] and len(world.started) == 2
    (mended,) = of(Launch, world.say(new, Message.CHANGED))
    world.make_ready(mended)
    assert world.ready() == [mended]


def test_worker_that_failed_to_load_is_published_where_nothing_better_serves() -> None:
    world = World()
    world.plan(group_plan())
    world.make_ready(FIRST, loaded=0)
    assert world.ready() == [FIRST]
    (second,) = of(Launch, world.say(FIRST, Message.CHANGED))
    assert world.ready() == [FIRST]
    world.make_ready(second)
    assert world.ready() == [second]


def test_all_workers_that_failed_to_load_are_replaced_at_once() -> None:
    world = World()
    world.plan(group_plan(processes=3))
    for number in list(world.started):
        world.make_ready(number, loaded=0)
    assert len(of(Launch, world.say(FIRST, Message.CHANGED))) == 3


def test_crash_while_the_wanted_does_not_load_is_replaced_from_the_last_good() -> None:
    world = World()
    good = group_plan(threads=2)
    (old,) = world.serve(good)
    (bad,) = of(Launch, world.plan(group_plan(threads=3)))
    world.make_ready(bad, loaded=0)
    world.wait(20)
    launches = [a for a in world.gone(old, KILLED) if isinstance(a, Launch)]
    assert [a.definition for a in launches] == [good]
    assert world.ready() == [bad]  # 500 at once rather than a wait
    world.make_ready(launches[0].number)
    assert world.ready() == [launches[0].number]


CANNOT = [Message.FAILED, None]  # its Python has no engine; it ends before it says anything


@pytest.mark.parametrize("word", CANNOT)
def test_crash_while_the_wanted_cannot_start_is_replaced_from_the_last_good(
    word: Message | None,
) -> None:
    world = World()
    good, wanted = group_plan(threads=2), group_plan(threads=3)
    (old,) = world.serve(good)
    (bad,) = of(Launch, world.plan(wanted))
    if word is not None:
        world.say(bad, Message.HELLO, 1, bad)
        world.say(bad, word, 1)
    world.gone(bad, Death("exited with status 1"))
    assert world.ready() == [old]
    world.gone(old, KILLED)
    again = [a for a in world.wait(1) if isinstance(a, Launch)]
    assert [a.definition for a in again][:1] == [good]
    world.make_ready(again[0].number)
    assert world.ready() == [again[0].number] and world.state() is GroupState.SERVING
    tried = [a for a in [*again[1:], *world.wait(10)] if isinstance(a, Launch)]
    assert {a.definition for a in tried} == {wanted}, "it is tried on"
    world.make_ready(tried[0].number)
    assert world.ready() == [tried[0].number]


def test_obituary_is_written_before_the_entry_vanishes() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    actions = world.gone(number, KILLED)
    order = [type(a) for a in actions if isinstance(a, (Bury, Forget, Launch))]
    assert order == [Bury, Forget, Launch]


def waits_of(world: World, number: int, deaths: list[Death]) -> list[int]:
    """Seconds until a worker that died this way is replaced, one death after the other."""
    waits = []
    for death in deaths:
        actions, waited = world.gone(number, death), 0
        while not of(Launch, actions):
            actions = world.wait(1)
            waited += 1
        waits.append(waited)
        (number,) = of(Launch, actions)
        world.make_ready(number)
    return waits


def test_first_crash_is_replaced_at_once_and_a_row_of_them_backs_off() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    world.wait(60)
    assert waits_of(world, number, [POISONED] * 9) == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_worker_that_had_finished_requests_is_replaced_within_a_second_each_time() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    deaths = [KILLED, KILLED, KILLED, POISONED, POISONED, KILLED, KILLED]
    assert waits_of(world, number, deaths) == [0, 1, 1, 2, 4, 1, 1]


def test_all_workers_killed_together_are_replaced_together() -> None:
    world = World()
    for number in world.serve(group_plan(processes=4)):
        world.gone(number, KILLED)
    assert len(world.started) == 5  # the first at once
    world.wait(1)
    assert len(world.started) == 8


def test_requests_wait_while_workers_that_had_worked_and_their_replacements_are_killed() -> None:
    """Whoever has not been started is not to be lost by a kill."""
    world = World()
    (number,) = world.serve(group_plan())
    world.gone(number, KILLED)
    world.gone(world.started[-1], Death("was killed by SIGKILL"))
    assert world.state() is GroupState.STARTING
    world.wait(2)
    world.make_ready(world.started[-1])
    world.gone(world.started[-1], KILLED)
    assert world.state() is GroupState.STARTING


def test_a_group_that_worked_is_disabled_when_its_starts_go_on_failing() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    world.gone(number, KILLED)
    while world.now < 110:
        if world.started[-1] in world.roster._of:
            world.gone(world.started[-1], Death("exited with status 3"))
        world.wait(1)
    assert world.state() is GroupState.DISABLED


def test_requests_wait_for_a_replacement_that_is_on_its_way_when_the_last_one_dies() -> None:
    world = World()
    group = group_plan(processes=2)
    first, second = world.serve(group)
    world.gone(first, KILLED)

    world.gone(second, KILLED)

    assert world.groups[group.digest][0] is GroupState.STARTING


def test_crash_before_ready_disables_the_group_with_the_cause_until_one_serves() -> None:
    world = World()
    world.plan(group_plan())
    world.gone(FIRST, Death("exited with status 3"))
    assert world.groups[b"shop".ljust(20)] == (
        GroupState.DISABLED,
        "its worker exited with status 3",
    )
    (second,) = of(Launch, world.wait(1))
    assert world.state() is GroupState.DISABLED
    world.make_ready(second)
    assert world.state() is GroupState.SERVING


def test_new_plan_tries_a_disabled_group_at_once() -> None:
    world = World()
    world.plan(group_plan())
    for _ in range(4):
        world.gone(world.started[-1], Death("exited with status 3"))
        world.wait(60)
    world.gone(world.started[-1], Death("exited with status 3"))
    assert len(of(Launch, world.plan(group_plan()))) == 1
    assert world.state() is GroupState.STARTING


def test_launch_that_fails_is_tried_again_by_back_off() -> None:
    world = World()
    world.plan(group_plan())
    world.do(world.roster.launch_failed(FIRST, "no socket directory", world.now))
    assert world.groups[b"shop".ljust(20)] == (GroupState.DISABLED, "no socket directory")
    assert len(of(Launch, world.wait(1))) == 1


def test_silent_worker_is_killed_after_launch_timeout_but_a_slow_script_is_not() -> None:
    world = World()
    world.plan(group_plan(processes=2))
    world.say(FIRST, Message.HELLO, 1, FIRST)
    assert of(Kill, world.wait(31)) == [FIRST + 1]


def test_recycled_worker_leaves_only_after_its_replacement_is_ready() -> None:
    world = World()
    first, second = world.serve(group_plan(processes=2))
    (new,) = of(Launch, world.say(first, Message.RECYCLE, Recycle.MAXIMUM_REQUESTS))
    assert world.ready() == [first, second]
    world.make_ready(new)
    assert world.ready() == [second, new]
    assert not world.said(messages.WORKER_DIED)
    world.gone(first)
    assert world.said(messages.WORKER_ENDED)


def test_why_a_worker_is_recycled_is_told_and_faults_of_applications_as_warnings() -> None:
    world = World()
    first, second = world.serve(group_plan(processes=2))
    world.say(first, Message.RECYCLE, Recycle.RESTART_INTERVAL)
    assert world.said(messages.RECYCLED) and not world.said(messages.RECYCLED_FAULTY)
    world.say(second, Message.RECYCLE, Recycle.REQUEST_TIMEOUT)
    assert world.said(messages.RECYCLED_FAULTY)


def test_unknown_reason_for_a_recycling_is_a_breach() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    world.say(number, Message.RECYCLE, 99)
    assert world.said(messages.BREACH)


def test_a_worker_that_a_signal_ended_after_it_asked_for_a_replacement_did_not_die() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    (new,) = of(Launch, world.say(number, Message.RECYCLE))
    world.gone(number)
    assert world.said(messages.WORKER_ENDED) and not world.said(messages.WORKER_DIED)
    assert world.state() is GroupState.STARTING
    world.make_ready(new)
    assert world.ready() == [new]


def test_roll_waits_at_the_cap_of_leaving_workers() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    for _ in range(4):
        (new,) = of(Launch, world.say(number, Message.CHANGED))
        world.make_ready(new)
        number = new
    assert of(Launch, world.say(number, Message.CHANGED)) == []
    assert len(of(Launch, world.gone(FIRST))) == 1


def test_a_flood_of_breaches_is_one_line() -> None:
    """However long its replacement takes; it gets no other workers for it either."""
    world = World()
    (worker,) = world.serve(group_plan())
    for kind in range(20, 1020):
        world.say(worker, kind)
    assert len(world.said(messages.BREACH)) == 1
    assert len(world.started) == 2


def test_message_out_of_state_is_a_breach_and_the_worker_is_replaced() -> None:
    wrong = [(Message.READY, 1, 0), (Message.HELLO, 2, FIRST), (Message.HELLO, 1, 5), (99, 0, 0)]
    for words in wrong:
        world = World()
        world.plan(group_plan())
        assert of(Kill, world.say(FIRST, *words)) == [FIRST], words
        assert len(world.said(messages.BREACH)) == 1


def test_ready_twice_replaces_a_serving_worker_without_a_gap() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    (new,) = of(Launch, world.say(number, Message.READY, 1))
    assert world.ready() == [number]
    world.make_ready(new)
    assert world.ready() == [new]


def test_departed_group_serves_until_no_child_of_an_older_plan_is_left() -> None:
    world = World()
    number, _ = world.serve(group_plan(), group_plan("blog"))
    world.plan(group_plan("blog"))
    world.make_ready(world.started[-1])
    world.wait(5)
    assert number in world.ready()
    crash = world.gone(number, KILLED)
    (again,) = of(Launch, crash)
    world.make_ready(again)
    world.oldest_plan = 2
    assert of(Drain, world.wait(1)) == [again]
    world.gone(again)
    assert world.state() is GroupState.NONE


def test_departed_group_that_comes_back_while_it_leaves_is_started_anew() -> None:
    world = World()
    (number,) = world.serve(group_plan())
    world.plan()
    world.oldest_plan = None
    world.wait(1)
    assert world.ready() == []
    (new,) = of(Launch, world.plan(group_plan()))
    world.make_ready(new)
    assert world.ready() == [new]
    world.gone(number)
    assert world.state() is GroupState.SERVING


def test_fewer_processes_withdraw_what_is_too_many() -> None:
    world = World()
    world.serve(group_plan(processes=4))
    world.plan(group_plan(processes=2))
    while world.started[-1] not in world.ready():
        world.make_ready(world.started[-1])
    assert len(world.ready()) == 2


def test_plan_that_is_not_newer_changes_nothing() -> None:
    world = World()
    world.serve(group_plan())
    world.plans = 0
    assert world.plan(group_plan("other")) == []


def test_stop_ends_all_and_exits_when_the_last_is_gone() -> None:
    world = World()
    first, second = world.serve(group_plan(processes=2))
    actions = world.do(world.roster.stop("stop", world.now))
    assert of(Stop, actions) == [first, second] and world.ready() == []
    assert of(Kill, world.wait(6.5)) == [first, second]
    world.gone(first, KILLED)
    assert not any(isinstance(a, Exit) for a in world.done)
    assert any(isinstance(a, Exit) for a in world.gone(second, KILLED))
    assert len(world.started) == 2


def test_stop_waits_for_no_worker_that_cannot_be_reaped() -> None:
    """Its tenant traces it, say. What is below the supervisor, who traces too, is killed then."""
    world = World()
    (worker,) = world.serve(group_plan())
    world.do(world.roster.stop("stop", world.now))
    assert of(Kill, world.wait(6.5)) == [worker]
    assert any(isinstance(a, Exit) for a in world.wait(1))


def test_stop_gives_a_draining_worker_a_deadline() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    world.plan(group_plan())
    world.make_ready(world.started[-1])
    actions = world.do(world.roster.stop("stop", world.now))
    assert old in of(Stop, actions)


def test_a_tick_has_nothing_to_do_for_groups_that_are_at_rest() -> None:
    """However many there are: the loop asks at each turn."""
    world = World()
    world.serve(group_plan())
    world.wait(60)
    assert world.roster.next_time(world.now) is None
    group = world.roster.groups[b"shop".ljust(20)]
    group.tick = None  # type: ignore[assignment, method-assign]
    world.wait(1)


def test_stop_without_groups_exits_at_once() -> None:
    roster = Roster(EPOCH)
    assert Exit("stop") in roster.stop("stop", 1.0)


def test_numbers_are_never_used_twice_and_carry_the_epoch() -> None:
    world = World()
    world.serve(group_plan(processes=2))
    world.plan(group_plan(processes=2))
    assert len(set(world.started)) == len(world.started)
    assert all(number >> 32 == EPOCH for number in world.started)


def test_plan_that_changes_nothing_rolls_all_the_same() -> None:
    """graceful is a touch of everything: code below an unchanged configuration may be new."""
    world = World()
    plan = group_plan()
    world.serve(plan)
    assert len(of(Launch, world.plan(replace(plan)))) == 1


def test_workers_that_cannot_serve_are_one_failure_and_replaced_by_back_off() -> None:
    world = World()
    world.plan(group_plan(processes=2))
    for number in list(world.started):
        assert of(Launch, world.say(number, Message.FAILED, 1)) == []
        assert of(Launch, world.gone(number, Death("exited with status 1"))) == []
    assert world.state() is GroupState.DISABLED
    assert len(of(Launch, world.wait(1))) == 2


def test_worker_that_failed_to_load_is_not_published_while_workers_of_a_dead_supervisor_serve() -> (
    None
):
    shop = group_plan()
    world = World(shop)
    world.plan(shop)
    assert world.state() is GroupState.SERVING

    world.make_ready(FIRST, loaded=0)
    assert world.ready() == []
    assert world.state() is GroupState.SERVING

    world.do(world.roster.disinherited(shop.digest, world.now))
    assert world.ready() == [FIRST]


def test_a_group_whose_starts_fail_is_not_disabled_while_workers_of_a_dead_supervisor_serve() -> (
    None
):
    shop = group_plan()
    world = World(shop)
    world.plan(shop)
    world.gone(FIRST, KILLED)
    assert world.state() is GroupState.SERVING

    world.do(world.roster.disinherited(shop.digest, world.now))
    assert world.state() is GroupState.DISABLED


def test_what_was_inherited_counts_no_more_when_a_worker_of_ours_serves() -> None:
    shop = group_plan()
    world = World(shop)
    world.serve(shop)
    world.say(FIRST, Message.CHANGED)
    world.gone(FIRST, KILLED)

    world.make_ready(FIRST + 1, loaded=0)

    assert world.ready() == [FIRST + 1]


def test_signal_that_comes_during_a_roll_begins_another_if_a_new_worker_is_older() -> None:
    """It may have loaded what the signal was sent for. Whoever is asked: an old one, or one that
    leaves already."""
    world = World()
    (old,) = world.serve(group_plan())
    (second,) = of(Launch, world.say(old, Message.RELOAD, 0, int(world.now * 1000)))
    world.say(second, Message.HELLO, 1, second)
    assert of(Launch, world.say(old, Message.RELOAD, 0, int(world.now * 1000))) == []
    world.now += 1
    (third,) = of(Launch, world.say(old, Message.RELOAD, 0, int(world.now * 1000)))
    world.make_ready(third)
    assert world.ready() == [third]
    world.now += 1
    assert len(of(Launch, world.say(old, Message.RELOAD, 0, int(world.now * 1000)))) == 1


def test_a_time_to_come_is_none() -> None:
    world = World()
    (old,) = world.serve(group_plan())
    world.say(old, Message.RELOAD, 0, (1 << 64) - 1)
    assert of(Launch, world.say(old, Message.RELOAD, 0, (1 << 64) - 1)) == []
