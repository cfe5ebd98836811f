# SPDX-License-Identifier: Apache-2.0
"""What a worker makes of its settings."""

from __future__ import annotations

import pytest

from pyglue.worker.settings import scattered


@pytest.mark.parametrize("bound", [0, 1, 9, 10, 1000, 3_600_000])
def test_bounds_are_drawn_from_their_last_tenth(bound: int) -> None:
    """So that the workers of a group, which began together, do not go together."""
    drawn = {scattered(bound) for _ in range(200)}
    assert bound - bound // 10 <= min(drawn) and max(drawn) <= bound
    assert len(drawn) > 1 or bound < 10
