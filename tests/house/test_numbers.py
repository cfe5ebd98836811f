# SPDX-License-Identifier: Apache-2.0
"""What has to be written in two places, because a wall stands between them, is the same in both."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import pyglue
from pyglue import _pages
from pyglue.supervisor import actions, listeners, orphans, pages, plan

ROOT = Path(__file__).parents[2]


def constant(name: str, file: str) -> int:
    """A #define or an enumerator with a value of its own, as the C says it."""
    found = re.search(
        rf"\b{name}(?: = | +)(0x[0-9a-f]+|\d+)u?\b", (ROOT / file).read_text(), re.IGNORECASE
    )
    assert found, f"{name} is not in {file}"
    return int(found.group(1), 0)


def test_version_of_package_and_build_is_one() -> None:
    assert version("mod-pyglue") == pyglue.__version__


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (plan.MAX_GROUPS, _pages.GROUP_SLOTS),
        (plan.MAX_PROCESSES, _pages.WORKER_SLOTS),
        (plan.MAX_THREADS, _pages.RECORD_SLOTS - 1),
        (listeners.SUN_PATH, _pages.SOCKET_PATH),
        (pages.READY, _pages.WORKER_READY),
        (pages.LEAVING, _pages.WORKER_LEAVING),
        (actions.GroupState.STARTING, _pages.GROUP_STARTING),
        (actions.GroupState.SERVING, _pages.GROUP_SERVING),
        (actions.GroupState.DISABLED, _pages.GROUP_DISABLED),
        (pages.CAUSE_MAX, constant("PYGLUE_CAUSE_SIZE", "pyglue/bridge/placement.h") - 1),
        (orphans.WIRE_VERSION, constant("PYGLUE_WIRE_VERSION", "pyglue/bridge/frame.h")),
    ],
)
def test_number_of_the_supervisor_is_the_bridges(here: int, there: int) -> None:
    assert here == there


@pytest.mark.parametrize(
    ("page", "number"),
    [
        ("bridge.md", constant("PYGLUE_ENGINE_VERSION", "pyglue/bridge/engine.h")),
        ("wire.md", constant("PYGLUE_WIRE_VERSION", "pyglue/bridge/frame.h")),
        ("plan.md", plan.VERSION),
    ],
)
def test_contract_is_of_the_version_of_its_code(page: str, number: int) -> None:
    title = (ROOT / "docs" / page).read_text().splitlines()[0]
    assert title.endswith(f", version {number}")


def test_worker_wants_the_engine_of_its_own_package() -> None:
    wanted = constant("ENGINE_VERSION", "pyglue/worker/engine.py")
    assert wanted == constant("PYGLUE_ENGINE_VERSION", "pyglue/bridge/engine.h")
