# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 17: one `apachectl graceful` after the other under load, slow requests among it.

PYGLUE_GRACEFULS=100 is the run that docs/performance.md tells of; without it the row is short."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop

OPTIONS, PATIENCE = "processes=2 threads=6", "Timeout 60"
StartShop = Callable[..., Httpd]
COUNT = int(os.environ.get("PYGLUE_GRACEFULS", "8"))
SLOW = 20 if COUNT >= 100 else 4  # seconds that a slow request takes


def load(server: Httpd, target: str, clients: int, *, keep_alive: bool) -> Load:
    return Load(
        server.address,
        target,
        clients,
        keep_alive=keep_alive,
        resend=keep_alive,
        deadline=SLOW + 40,
    )


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * COUNT)
def test_a_row_of_graceful_restarts_fails_no_request(start_shop: StartShop) -> None:
    """Short requests on connections of their own and on kept ones, slow ones, and a static file by
    httpd alone as the control: what is closed there while it is idle is closed here too."""
    server = start_shop(OPTIONS, PATIENCE, workers=2)
    (server.root / "apps" / "static.txt").write_text("a file of httpd's")
    alias = f'Alias /static "{server.root}/apps/static.txt"'
    server.configure(shop.lines(server.root, OPTIONS, PATIENCE, alias))
    server.graceful()
    supervisor = server.supervisor()
    with ExitStack() as running:
        loads = {
            name: running.enter_context(load(server, target, clients, keep_alive=keep))
            for name, target, clients, keep in (
                ("own", "/numbered?{number}", 2, False),
                ("kept", "/numbered?{number}", 2, True),
                ("control", "/static", 1, True),
            )
        }
        loads["slow"] = load(server, f"/numbered?{{number}}&{SLOW}", 2, keep_alive=False)
        loads["slow"].begin()
        running.callback(loads["slow"].end)
        for _ in range(COUNT):
            server.graceful()
            for name in ("own", "kept", "control"):
                loads[name].wait_for_more(5)
        wait_until(lambda: len(loads["slow"].answers) >= 2, "slow requests end", SLOW + 40)

    tallies = {name: each.tally() for name, each in loads.items()}
    print({name: (tally, loads[name].resent) for name, tally in tallies.items()})
    for name, tally in tallies.items():
        assert (name, tally.wrong, tally.failed) == (name, 0, 0), loads[name].failures()[:5]
        assert tally.sent == tally.answered
    assert server.supervisor() == supervisor
    wait_until(lambda: len(server.workers()) == 2, "old workers end", 20)
