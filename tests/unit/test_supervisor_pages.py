# SPDX-License-Identifier: Apache-2.0
"""What children are told of a group: a cause fits into its place in the memory."""

from __future__ import annotations

import pytest

from pyglue.supervisor.actions import GroupState
from pyglue.supervisor.pages import CAUSE_MAX, Pages

DIGEST = b"d" * 20


class Memory:
    """What was put."""

    def put_group(self, slot: int, digest: bytes, state: int, cause: str) -> None:
        self.cause = cause


def told(cause: str) -> str:
    memory = Memory()
    Pages(memory).tell_group(DIGEST, GroupState.DISABLED, cause)  # type: ignore[arg-type]
    return memory.cause


def test_a_cause_that_fits_is_told_as_it_is() -> None:
    assert told("x" * CAUSE_MAX) == "x" * CAUSE_MAX


@pytest.mark.parametrize("length", range(1, 12))
def test_a_longer_cause_ends_after_a_whole_word_with_three_dots(length: int) -> None:
    word = "w" * length
    cut = told(" ".join([word] * CAUSE_MAX))
    assert cut.endswith("...") and CAUSE_MAX - length - 1 <= len(cut) <= CAUSE_MAX
    assert set(cut[:-3].split(" ")) == {word}


def test_a_word_that_is_longer_than_the_place_is_cut_between_characters() -> None:
    assert told("\u00fc" * CAUSE_MAX) == "\u00fc" * ((CAUSE_MAX - 3) // 2) + "..."
