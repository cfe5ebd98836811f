# SPDX-License-Identifier: Apache-2.0
"""What a group is short of, or has too much of, counted from its workers and the number that there
shall be.

Part of the sans-IO core, without a state of its own: `group.py` asks, and acts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from .worker import State, Worker

Workers = Collection[Worker]


def _live(workers: Workers) -> list[Worker]:
    return [worker for worker in workers if worker.is_live]


def count_leaving(workers: Workers) -> int:
    """Those that were asked to end and have not yet."""
    return sum(1 for worker in workers if worker.state is State.LEAVING)


def serving(workers: Workers) -> list[Worker]:
    """Those that get requests."""
    return [worker for worker in workers if worker.published and worker.is_live]


def has_older(workers: Workers) -> bool:
    """Some from before a change are there yet."""
    return any(w.state is State.LEAVING or (w.superseded and w.published) for w in workers)


def is_alone(workers: Workers, number: int) -> bool:
    """This one alone serves, and none is on its way."""
    live = _live(workers)
    return [w.number for w in live] == [number] and live[0].published and not live[0].superseded


def surplus(workers: Workers, count: int) -> list[Worker]:
    """Those of the published ones that are too many, in the order in which they go: old ones first,
    and of the old ones those that never loaded, of the fresh ones the newest."""
    published = serving(workers)
    old = sorted((w for w in published if w.superseded), key=lambda w: (w.loaded, w.number))
    fresh = sorted((w for w in published if not w.superseded), key=lambda w: -w.number)
    return (old + fresh)[: max(len(published) - count, 0)]


def is_at_strength(workers: Workers, count: int) -> bool:
    """All that were wanted serve, and none of them waits for its successor."""
    live = _live(workers)
    return len(live) == count and all(w.published and not w.superseded for w in live)


def misses_fallback(workers: Workers, count: int, *, is_unable: bool) -> bool:
    """Is a worker of the last good definition to be started, because the wanted one does not load,
    or (is_unable) does not get so far, and too few serve?"""
    live = _live(workers)
    fails = is_unable or any(w.is_unloaded and not w.superseded for w in live)
    return fails and sum(1 for w in live if w.is_good or w.is_starting) < count


def misses_fresh(workers: Workers, count: int, may_roll: Callable[[], bool]) -> bool:
    """Is a worker of the wanted definition to be started? In a roll one at a time, and if it may go
    on, but as many as it takes to be at strength again."""
    live = _live(workers)
    fresh = [w for w in live if not w.superseded]
    is_roll = any(w.superseded and w.is_good for w in live)
    if len(fresh) >= count or not is_roll:
        return len(fresh) < count
    is_short = sum(1 for w in live if w.published or w.is_starting) < count
    return is_short or (all(w.published for w in fresh) and may_roll())
