# SPDX-License-Identifier: Apache-2.0
"""What is told of a launch that failed before anything of the tenant's ran."""

import errno
import struct

import pytest
from harness.world import group_plan

from pyglue import _jail
from pyglue.supervisor.jailed import describe
from pyglue.supervisor.launch import Recipe


def told(step: str, error: int, **of_group: object) -> str:
    recipe = Recipe("/py", None, ("/py",), (), "/home", group_plan(**of_group), True)
    death = describe(struct.pack("=Ii", _jail.steps().index(step), error), recipe)
    assert death is not None
    return death.cause


@pytest.mark.parametrize(("name", "shown"), [("tenant", "tenant"), ("", "#61301")])
def test_user_is_named_also_where_he_has_no_name(name: str, shown: str) -> None:
    said = told("execve", errno.ENOENT, user=name, uid=61301)
    assert said.startswith(f"failed at 'execve': No such file or directory (user {shown}, /py)")


def test_a_yes_without_effect_is_told_as_that() -> None:
    assert "the kernel agreed, but the effect did not show" in told("setresuid", 0)
