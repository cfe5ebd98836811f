# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 16: a disk that is full takes no line of a log. Requests go on, and so do restarts,
deaths and the stop. /dev/full is such a disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from harness import census, site
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, serving

StartShop = Callable[..., Httpd]
FULL = 'ErrorLog "/dev/full"'


def test_a_hosts_log_on_a_full_disk_costs_no_request(start_shop: StartShop) -> None:
    """Its application logs in each request, and its worker dies meanwhile."""
    server = start_shop("threads=4")
    name, port = server.address
    script = server.root / "apps" / "logs" / "wsgi.py"
    own = [
        f"Listen {name}:{port + 1}",
        f"<VirtualHost {name}:{port + 1}>",
        "ServerName full.invalid",
        FULL,
        "LogLevel wsgi:info",
        "WSGIDaemonProcess own threads=4",
        f'WSGIScriptAlias /logs "{script}" process-group=own application-group=%{{GLOBAL}}',
        "</VirtualHost>",
    ]
    server.configure(shop.lines(server.root, "threads=4", *own))
    server.graceful()
    wait_until(lambda: len(server.workers()) == 2, "both groups have a worker", 20)
    with Load((name, port + 1), "/logs", clients=2, keep_alive=False) as load:
        for _ in range(2):
            load.wait_for_more(30)
            server.graceful()
        load.wait_for_more(30)
    assert load.failures() == []
    assert ask(server, "/who").status == 200


@pytest.fixture
def mute(folder: object) -> Iterator[Httpd]:
    """All of httpd writes its log to the full disk."""
    root = folder
    server = Httpd(shop.lines(root, "processes=2 threads=4", FULL, "LogLevel info"), root=root)  # type: ignore[arg-type]
    server.start()
    yield server
    site.end(server)


def test_all_logs_on_a_full_disk_cost_no_request(mute: Httpd) -> None:
    shop.wait_for_workers(mute, 2)
    first, supervisor = mute.workers(), mute.supervisor()
    with Load(mute.address, "/who", clients=3, keep_alive=False) as load:
        mute.signal(signal.SIGUSR1)
        wait_until(lambda: serving(load, 6).isdisjoint(first), "new workers serve", 20)
        second = mute.workers()
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: serving(load, 6).isdisjoint(second), "a new supervisor's serve", 30)
    assert load.failures() == []
    mute.stop()
    assert not any(map(census.is_alive, [*first, *second, supervisor]))
