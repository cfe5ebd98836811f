# SPDX-License-Identifier: Apache-2.0
"""Any order of events on the core: what must never happen does not, and what must come comes.

SUCCESSION.md names races one by one, and a test each shows them; here orders are drawn that nobody
thought of. Workers obey when they are told to end, and get ready in the end; all else is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.world import ENDED, KILLED, World, group_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from pyglue.supervisor.actions import (
    Action,
    Bury,
    Death,
    Drain,
    Forget,
    GroupState,
    Kill,
    Launch,
    Publish,
    Stop,
)
from pyglue.supervisor.plan import GroupPlan
from pyglue.supervisor.worker import Message, Recycle, State

EXITED = Death("exited with status 3")
ROLLING = group_plan(processes=2)
STRICT = group_plan(processes=2, strict_reload=True)
BOUNDED = group_plan(processes=2, drain_timeout=5.0)
ELASTIC = group_plan(processes=3, processes_min=1)
ON_DEMAND = group_plan(processes=2, processes_min=0, inactivity_timeout=1.0)
DEFINITIONS = [ROLLING, STRICT, BOUNDED, ELASTIC, ON_DEMAND]

# Those that no worker and no request suffers from.
GENTLE = ["hello", "ready", "unloaded", "changed", "reload", "maximum", "left", "wait", "plan"]
HARSH = [*GENTLE, "inactive", "look", "killed", "exited", "breach", "long", "away", "replan"]

steps = st.lists(st.tuples(st.sampled_from(HARSH), st.integers(0, 20)), max_size=60)
gentle_steps = st.lists(st.tuples(st.sampled_from(GENTLE), st.integers(0, 20)), max_size=60)


@dataclass
class Watched:
    """A world that is looked at after each event."""

    world: World
    definition: GroupPlan

    def __post_init__(self) -> None:
        self.told: set[int] = set()  # to end

    def workers(self, *states: State) -> list[int]:
        group = self.world.roster.groups.get(self.definition.digest)
        found = group.workers.values() if group is not None else ()
        return [w.number for w in found if not states or w.state in states]

    def pick(self, which: int, *states: State) -> int | None:
        numbers = self.workers(*states)
        return numbers[which % len(numbers)] if numbers else None

    def step(self, what: str, which: int) -> None:
        before = len(self.world.done)
        getattr(self, f"do_{what}")(which)
        self.look_at(self.world.done[before:])

    # Events.

    def say(self, which: int, state: State, *words: int) -> None:
        number = self.pick(which, state)
        if number is not None:
            argument = number if words[0] == Message.HELLO else 0
            self.world.say(number, words[0], *words[1:], value=argument)

    def do_hello(self, which: int) -> None:
        self.say(which, State.LAUNCHED, Message.HELLO, 1)

    def do_ready(self, which: int) -> None:
        self.say(which, State.GREETED, Message.READY, 1)

    def do_unloaded(self, which: int) -> None:
        self.say(which, State.GREETED, Message.READY, 0)

    def do_changed(self, which: int) -> None:
        self.say(which, State.READY, Message.CHANGED, 0)

    def do_reload(self, which: int) -> None:
        self.say(which, State.READY, Message.RELOAD, 0)

    def do_maximum(self, which: int) -> None:
        self.say(which, State.READY, Message.RECYCLE, Recycle.MAXIMUM_REQUESTS)

    def do_inactive(self, which: int) -> None:
        self.say(which, State.READY, Message.RECYCLE, Recycle.INACTIVITY_TIMEOUT)

    def do_breach(self, which: int) -> None:
        self.say(which, State.READY, Message.READY, 1)

    def do_left(self, which: int) -> None:
        number = self.pick(which, State.LEAVING)
        if number is not None:
            self.world.gone(number, ENDED)

    def do_killed(self, which: int) -> None:
        number = self.pick(which)
        if number is not None:
            self.world.gone(number, KILLED)

    def do_exited(self, which: int) -> None:
        number = self.pick(which, State.LAUNCHED, State.GREETED)
        if number is not None:
            self.world.gone(number, EXITED)

    def do_wait(self, which: int) -> None:
        self.world.wait(which / 10)

    def do_long(self, which: int) -> None:
        self.world.wait(which * 10.0)

    def do_look(self, which: int) -> None:
        if self.definition.digest in self.world.roster.elastic():
            self.world.look(waiting=which % 3, running=which % 5)

    def do_plan(self, which: int) -> None:
        self.world.plan(self.definition)

    def do_replan(self, which: int) -> None:
        self.definition = DEFINITIONS[which % len(DEFINITIONS)]
        self.world.plan(self.definition)

    def do_away(self, which: int) -> None:
        """The group leaves the plan, and comes back, perhaps when nobody needs it any more."""
        self.world.oldest_plan = None if which % 2 else 1
        self.world.plan()
        self.world.wait(0.1)
        self.world.oldest_plan = 1
        self.world.plan(self.definition)

    # What must never happen.

    def look_at(self, actions: list[Action]) -> None:
        buried: set[int] = set()
        for action in actions:
            if isinstance(action, (Drain, Stop, Kill)):
                self.told.add(action.number)
            elif isinstance(action, Bury):
                buried.add(action.number)
            elif isinstance(action, Forget):
                assert action.number in buried, "its obituary comes before"
            elif isinstance(action, Publish):
                assert action.number not in self.told, "it was told to end"
        for number in self.workers(State.LEAVING):
            assert number in self.told, "it leaves and does not know"
        published = set(self.world.ready())
        assert published <= set(self.workers(State.READY)), "requests for one that is not ready"
        assert len(set(self.world.started)) == len(self.world.started)
        starting = self.workers(State.LAUNCHED, State.GREETED)
        assert len(starting) <= 2 * self.definition.processes + 1

    # What must come.

    def settle(self) -> None:
        """Workers get ready, and end when they are told to; nothing else happens any more."""
        for _ in range(200):
            killed = {action.number for action in self.world.done if isinstance(action, Kill)}
            for number in killed & set(self.workers()):
                self.world.gone(number, KILLED)
            for number in self.workers(State.LAUNCHED):
                self.world.say(number, Message.HELLO, 1, number)
            for number in self.workers(State.GREETED):
                self.world.say(number, Message.READY, 1)
            for number in self.workers(State.LEAVING):
                self.world.gone(number, ENDED)
            self.world.wait(1.0)
        count = self.definition.least
        published = self.world.ready()
        assert set(published) == set(self.workers())
        assert len(published) >= count, "it is at strength"
        assert len(published) <= self.definition.processes
        group = self.world.roster.groups[self.definition.digest]
        fresh = [w for w in group.workers.values() if not w.superseded]
        unloaded = [w for w in group.workers.values() if not w.loaded]
        if not unloaded:  # one that failed to load waits for its files
            assert len(fresh) == len(published), "all of the newest definition"
            assert all(w.definition == group.wanted for w in fresh)
        state = GroupState.SERVING if published else GroupState.IDLE
        assert self.world.groups[self.definition.digest][0] is state


@settings(max_examples=150, deadline=None)
@given(definition=st.sampled_from(DEFINITIONS), drawn=steps)
def test_any_order_of_events_ends_with_the_group_at_strength(
    definition: GroupPlan, drawn: list[tuple[str, int]]
) -> None:
    watched = Watched(World(), definition)
    watched.do_plan(0)
    for what, which in drawn:
        watched.step(what, which)
    watched.settle()


@settings(max_examples=150, deadline=None)
@given(drawn=gentle_steps, definition=st.sampled_from([ROLLING, BOUNDED, ELASTIC]))
def test_no_order_of_reloads_leaves_a_moment_without_a_good_worker(
    definition: GroupPlan, drawn: list[tuple[str, int]]
) -> None:
    """No request fails, and none waits for an import, as long as no worker dies."""
    world = World()
    world.serve(definition)
    watched = Watched(world, definition)
    for what, which in drawn:
        watched.step(what, which)
        good = {
            w.number
            for w in world.roster.groups[definition.digest].workers.values()
            if w.is_good and w.published
        }
        assert good, what
        assert world.state() is GroupState.SERVING
        assert len(good) >= definition.least


@settings(max_examples=100, deadline=None)
@given(definition=st.sampled_from(DEFINITIONS), drawn=steps, seed=st.integers(0, 100))
def test_stop_ends_whatever_there_is(
    definition: GroupPlan, drawn: list[tuple[str, int]], seed: int
) -> None:
    watched = Watched(World(), definition)
    watched.do_plan(0)
    for what, which in drawn:
        watched.step(what, which)
    world = watched.world
    alive = watched.workers()
    started = len(world.started)
    world.do(world.roster.stop("stop", world.now))
    world.wait(definition.shutdown_timeout + 2)
    assert {n for n in alive if n in watched.workers()} <= {
        a.number for a in world.done if isinstance(a, Kill)
    }, "who did not end in time is killed"
    for number in watched.workers():
        world.gone(number, KILLED)
    assert world.roster.groups == {} and len(world.started) == started
    assert not any(isinstance(a, Launch) for a in world.wait(100 + seed))
