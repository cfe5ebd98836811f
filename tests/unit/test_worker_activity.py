# SPDX-License-Identifier: Apache-2.0
"""When a worker has had no request for inactivity-timeout."""

from __future__ import annotations

from pyglue.worker.activity import Activity


def test_inactivity_is_the_time_without_any_request() -> None:
    at_rest = {"inactivity_timeout": 10.0, "processes_min": 1}
    activity = Activity(at_rest)
    assert not activity.has_ceased(0, 0, 1000.0), "there was none yet"
    assert not activity.has_ceased(0, 1, 1001.0)
    assert not activity.has_ceased(0, 1, 2000.0), "it runs"
    assert not activity.has_ceased(1, 0, 2001.0)
    assert not activity.has_ceased(5, 0, 2010.0), "there were others between two looks"
    assert not activity.has_ceased(5, 0, 2019.0)
    assert activity.has_ceased(5, 0, 2020.0)
    assert not activity.has_ceased(5, 0, 2100.0), "once"
    assert not Activity({}).has_ceased(5, 0, 9000.0), "a supervisor that does not know it"
