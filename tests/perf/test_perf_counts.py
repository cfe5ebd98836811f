# SPDX-License-Identifier: Apache-2.0
"""What one warm request costs does not rise: what `make perf-counts` counts, against budgets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNTER = Path(__file__).with_name("perf_counts.py")


@pytest.mark.looks_inside
@pytest.mark.parametrize("mode", ["embedded", "daemon"])
def test_a_warm_request_costs_no_more_than_its_budget(mode: str) -> None:
    ran = subprocess.run(
        [sys.executable, COUNTER, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout
