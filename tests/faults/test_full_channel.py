# SPDX-License-Identifier: Apache-2.0
"""A supervisor that has not come to read its socket costs no request: httpd's parent keeps the
latest plan, and sends it as soon as there is room (SUCCESSION.md section 2)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts

PLAN, LOGS = "1", "2"  # kinds of messages, docs/plan.md section 2


@pytest.mark.parametrize("kind", [PLAN, LOGS], ids=["plan", "logs"])
def test_of_plans_that_could_not_be_sent_the_latest_one_comes_into_force(
    folder: Path, start_httpd: Callable[..., Httpd], kind: str
) -> None:
    shim = folder / "full_channel.so"
    source = Path(__file__).with_name("full_channel.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, source], check=True)
    preload = f"{os.environ.get('LD_PRELOAD', '')} {shim}".strip()
    environ = {"LD_PRELOAD": preload, "PYGLUE_TEST_FULL": str(folder)}
    info = "LogLevel wsgi:info"
    server = start_httpd(shop.lines(folder, "threads=4", info), root=folder, environ=environ)
    old, supervisor = facts(server)["pid"], server.supervisor()
    with Load(server.address, "/who", clients=3, keep_alive=False) as load:
        (folder / kind).touch()
        for name in ("skipped", "latest"):
            server.configure(shop.lines(folder, "threads=4", info, f"WSGIDaemonProcess {name}"))
            server.graceful()
        load.wait_for_more(50)
        assert facts(server)["pid"] == old
        (folder / kind).unlink()
        server.log.wait_for("PG1112: process group .shop.: .* plan 3$", 30)
        wait_until(lambda: facts(server)["pid"] != old, "the new plan's worker serves", 20)

    assert load.failures() == []
    assert "'skipped'" not in server.log.text()
    assert (ask(server, "/who").status, server.supervisor()) == (200, supervisor)
