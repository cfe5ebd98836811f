# SPDX-License-Identifier: Apache-2.0
"""Who is not started, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from process.standin import StandIn

from pyglue import _pages
from pyglue.supervisor.actions import Launch
from pyglue.supervisor.births import MOST_KEPT, Births
from pyglue.supervisor.plan import parse
from pyglue.supervisor.reader import Reader


def test_nobody_is_started_for_a_user_who_keeps_too_many_of_our_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each worker of his would cost one more, until nobody could be read."""
    httpd = StandIn.__new__(StandIn)  # its plans only: no process, no files
    httpd.plan_number, httpd.python, httpd.run = 0, Path("/srv"), tmp_path
    plan = parse(json.dumps(httpd.plan(httpd.group())).encode())
    births = Births(1, 1, _pages, lambda *_: (0, -1, -1))
    births.plan = plan
    monkeypatch.setattr(Reader, "kept", lambda _, uid: {plan.groups[0].uid: MOST_KEPT}[uid])
    with pytest.raises(ValueError, match="a file system of that user does not answer"):
        births.make(Launch(1, plan.groups[0]), 0.0)
    assert list(tmp_path.iterdir()) == []
