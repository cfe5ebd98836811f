# SPDX-License-Identifier: Apache-2.0
"""A graceful restart that gives groups other users: SUCCESSION 2, identity.

A group is known by what makes its identity, not by its name, so no request of the new
configuration is ever answered by a worker of the user that the name meant before."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf
from harness.client import connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from sight import status

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]

APPS = Path(__file__).parent.parent / "apps"
ALICE, BOB = 61301, 61302  # numbers that no user has
Start = Callable[..., Httpd]


def lines(root: Path, **users: int) -> list[str]:
    """A group for each name, as that user, at /NAME."""
    if not (root / "apps").exists():
        shutil.copytree(APPS, root / "apps")
        (root / "files").mkdir()
        (root / "files").chmod(0o777)
    apps = root / "apps"
    return [
        *(f"WSGIDaemonProcess {name} user=#{uid} group=#{uid} threads=4"
          for name, uid in users.items()),
        *(f'WSGIScriptAlias /{name}/{app} "{apps}/{app}/wsgi.py" process-group={name}'
          " application-group=%{GLOBAL}" for name in users for app in ("who", "waits")),
        f'SetEnv files "{root}/files"',
        *conf.granted(apps),
    ]  # fmt: skip


def load(server: Httpd, name: str) -> Load:
    return Load(server.address, f"/{name}/who", clients=2, keep_alive=False)


def users(answers: list[str]) -> list[int]:
    """Who gave them, one after the other, without repetition."""
    found = [json.loads(text)["uid"] for text in answers]
    return [uid for i, uid in enumerate(found) if i == 0 or found[i - 1] != uid]


def uid_of(load: Load) -> int:
    return int(json.loads(load.answers[-1].text)["uid"])


def test_a_group_may_be_given_another_user_and_no_request_fails(
    start_httpd: Start, folder: Path
) -> None:
    """What runs in the old user's worker ends there."""
    server = start_httpd(lines(folder, shop=ALICE), root=folder)
    with load(server, "shop") as running, connected(server.address) as connection:
        connection.send(request("GET", "/shop/waits?slow"))
        wait_until((folder / "files" / "slow.runs").exists, "a request runs")
        (old,) = server.workers()

        server.configure(lines(folder, shop=BOB))
        server.graceful()
        wait_until(lambda: uid_of(running) == BOB, "the new user's worker serves", 20)
        assert status(old)["Uid"].split()[0] == str(ALICE)
        (folder / "files" / "slow.end").touch()
        assert connection.read_response().body == b"done"

    server.wait_for_exit(old)
    assert running.failures() == []


def test_groups_may_exchange_their_users(start_httpd: Start, folder: Path) -> None:
    """httpd's old children ask the old users' workers, its new ones the new users'."""
    server = start_httpd(lines(folder, one=ALICE, two=BOB), root=folder)
    with load(server, "one") as one, load(server, "two") as two:
        old = server.workers()
        server.configure(lines(folder, one=BOB, two=ALICE))
        server.graceful()
        wait_until(lambda: (uid_of(one), uid_of(two)) == (BOB, ALICE), "they are exchanged", 20)
        for pid in old:
            server.wait_for_exit(pid)
        for each in (one, two):
            each.wait_for_more(20)

    assert one.failures() == two.failures() == []
    assert len(server.workers()) == 2


@pytest.mark.parametrize("how", [signal.SIGUSR1, signal.SIGHUP], ids=["graceful", "hard"])
def test_after_a_restart_returned_nobody_new_is_answered_by_the_old_user(
    start_httpd: Start, folder: Path, how: signal.Signals
) -> None:
    server = start_httpd(lines(folder, shop=ALICE), root=folder)
    wait_until(lambda: server.workers(), "a worker is there")
    server.configure(lines(folder, shop=BOB))
    server.restart(how)
    wait_until(lambda: old_children_are_gone(server), "httpd's old children have ended", 20)

    with load(server, "shop") as running:
        running.wait_for_more(20)

    assert users([answer.text for answer in running.answers]) == [BOB]


def old_children_are_gone(server: Httpd) -> bool:
    """One child serves, with its helper threads; all others are parent, supervisor and workers."""
    names = [Path(f"/proc/{pid}/comm").read_text() for pid in server.processes()]
    httpd = Path(f"/proc/{server.pid}/comm").read_text()
    return names.count(httpd) == 2


def test_users_of_two_groups_that_become_one_share_no_worker(
    start_httpd: Start, folder: Path
) -> None:
    server = start_httpd(lines(folder, one=ALICE, two=BOB), root=folder)
    with load(server, "one") as one, load(server, "two") as two:
        server.configure(lines(folder, one=ALICE, two=ALICE))
        server.graceful()
        wait_until(lambda: uid_of(two) == ALICE, "two is of the other user", 20)

    assert one.failures() == two.failures() == []
    assert users([answer.text for answer in one.answers]) == [ALICE]
    pids = {json.loads(each.answers[-1].text)["pid"] for each in (one, two)}
    assert len(pids) == 2
