# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 16: the folder of the workers' sockets is removed under a running server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process.shop import facts, serving, slow_request

StartShop = Callable[..., Httpd]


def folder_of_sockets(server: Httpd) -> Path:
    (found,) = (path for path in server.root.glob("wsgi.*") if path.is_dir())
    return found


def test_a_removed_folder_of_sockets_is_made_anew_and_no_request_fails(
    start_shop: StartShop,
) -> None:
    """What runs finishes where it runs, what comes goes to new workers."""
    server = start_shop("processes=2 threads=4", workers=2)
    server.log.expect("PG1128: .*wsgi.*removed")
    old, supervisor = server.workers(), server.supervisor()
    with slow_request(server) as connection:
        with Load(server.address, "/who", clients=4) as load:
            shutil.rmtree(folder_of_sockets(server))
            wait_until(lambda: serving(load, 8).isdisjoint(old), "new workers serve", 20)
            load.wait_for_more(20)
        assert load.failures() == []
        (server.root / "files" / "slow.end").touch()
        assert connection.read_response().body == b"done"
    for pid in old:
        server.wait_for_exit(pid)
    assert facts(server)["pid"] in server.workers()
    assert len(list(folder_of_sockets(server).iterdir())) == 2
    assert server.supervisor() == supervisor
    assert server.log.text().count("PG1128") == 1
