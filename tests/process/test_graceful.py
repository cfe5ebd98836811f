# SPDX-License-Identifier: Apache-2.0
"""`apachectl graceful` under load: no request fails that httpd itself would not fail."""

import json
import os
import signal
from collections.abc import Callable

import pytest
from harness import census, client
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving, slow_request
from process.upgrade import Installation

StartShop = Callable[..., Httpd]


def under_load(server: Httpd) -> Load:
    """On connections of their own: httpd itself closes idle kept ones at a graceful restart."""
    return Load(server.address, "/who", clients=3, keep_alive=False)


def wait_for_new_workers(load: Load, old: list[int]) -> None:
    wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)


@pytest.mark.parametrize("mpm", ["event", "worker", "prefork"])
def test_graceful_restarts_in_a_row_fail_no_request(start_shop: StartShop, mpm: str) -> None:
    server = start_shop("processes=2 threads=4", workers=2, mpm=mpm)

    with under_load(server) as load:
        for _ in range(3):
            old = server.workers()
            server.graceful()
            wait_for_new_workers(load, old)
        load.wait_for_more(50)

    assert load.failures() == []
    wait_until(lambda: len(server.workers()) == 2, "old workers end")


def test_signals_that_come_faster_than_workers_start_fail_no_request(start_shop: StartShop) -> None:
    server = start_shop("threads=4")

    with under_load(server) as load:
        old = server.workers()
        for _ in range(5):
            server.signal(signal.SIGUSR1)
            load.wait_for_more(5)
        wait_for_new_workers(load, old)

    assert load.failures() == []
    wait_until(lambda: len(server.workers()) == 1, "old workers end")


def test_a_request_that_runs_finishes_in_its_old_worker(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    (old,) = server.workers()
    with slow_request(server) as connection:
        server.graceful()
        wait_until(lambda: facts(server)["pid"] != old, "a new worker serves")
        assert census.is_alive(old)
        (server.root / "files" / "slow.end").touch()

        assert connection.read_response().body == b"done"
    server.wait_for_exit(old)


def test_groups_come_and_go_with_the_plan(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    apps = server.root / "apps"
    added = shop.group(apps, "threads=2", "blog", "/blog")
    supervisor = server.supervisor()

    with under_load(server) as load:
        server.configure(shop.lines(server.root, "threads=4", *added))
        server.graceful()
        wait_until(lambda: ask(server, "/blog/who").status == 200, "the new group serves")
        assert facts(server, "/blog/who")["group"] == "blog"
        blog = facts(server, "/blog/who")["pid"]

        server.configure(shop.lines(server.root, "threads=4"))
        server.graceful()
        server.wait_for_exit(blog)
        load.wait_for_more(20)

    assert load.failures() == []
    server.log.expect("AH01630")  # httpd's own: nothing is mounted there any more
    assert ask(server, "/blog/who").status == 403
    assert server.supervisor() == supervisor


@pytest.mark.parametrize("how", [signal.SIGUSR1, signal.SIGHUP], ids=["graceful", "hard"])
def test_a_restart_may_remove_all_groups_and_another_bring_them_back(
    start_shop: StartShop, how: signal.Signals
) -> None:
    server = start_shop("threads=4")
    (old,) = server.workers()

    server.log.expect("AH01630")  # httpd's own: nothing is mounted there meanwhile
    server.configure([])
    server.restart(how)
    server.wait_for_exit(old)
    assert ask(server, "/who").status == 403

    server.configure(shop.lines(server.root, "threads=4"))
    server.restart(how)
    assert ask(server, "/who").status == 200
    assert facts(server)["pid"] != old


def test_nothing_is_started_where_no_group_is_configured(start_shop: StartShop) -> None:
    """httpd calls its monitor hook once in ten of its turns, and each child that ends is one: a
    dozen of prefork's bring it about."""
    many = ("StartServers 12", "MinSpareServers 12", "MaxSpareServers 12", "MaxRequestWorkers 16")
    server = start_shop("threads=4", *many, mpm="prefork")
    (old,) = server.workers()
    server.log.expect("AH01630")  # httpd's own: nothing is mounted there any more

    server.configure(many)
    server.restart(signal.SIGHUP)
    server.wait_for_exit(old)
    children = census.children(server.pid)
    assert len(children) == 12
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(census.children(server.pid)) - set(children)) >= 12, "new children")

    assert ask(server, "/who").status == 403
    assert {census.command(pid) for pid in census.children(server.pid)} == {
        census.command(server.pid)
    }


def test_a_request_of_a_group_that_left_the_plan_finishes(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    with slow_request(server) as connection:
        old = server.workers()

        server.configure(shop.lines(server.root, name="other"))
        server.graceful()
        wait_until(lambda: ask(server, "/who").status == 200, "the other group serves")
        assert facts(server)["group"] == "other"
        assert all(map(census.is_alive, old))
        (server.root / "files" / "slow.end").touch()

        assert connection.read_response().body == b"done"
    for pid in old:
        server.wait_for_exit(pid)


def test_new_options_are_in_force_after_a_graceful_restart(start_shop: StartShop) -> None:
    server = start_shop("threads=4")

    with under_load(server) as load:
        server.configure(shop.lines(server.root, "threads=2 processes=3 display-name=renamed"))
        old = server.workers()
        server.graceful()
        wait_for_new_workers(load, old)
        wait_until(lambda: named(server, "renamed") == 3, "three workers of the new name")

    assert load.failures() == []


def named(server: Httpd, name: str) -> int:
    return sum(census.command(pid).startswith(name) for pid in server.processes())


def test_a_group_may_be_moved_to_another_python(start_shop: StartShop) -> None:
    """An environment of its own, with its own mod_pyglue."""
    server = start_shop("threads=4")
    old, moved = server.workers(), Installation(server.root).prefix

    with under_load(server) as load:
        server.configure(shop.lines(server.root, f"threads=4 python-home={moved}"))
        server.graceful()
        wait_for_new_workers(load, old)
        load.wait_for_more(20)

    assert load.failures() == []
    assert facts(server)["prefix"] == str(moved)


BROKEN = {
    "script": ("", "raise RuntimeError('broken deploy')", r"broken deploy"),
    "python": (" python=/usr/bin/python-without-engine", "", "PG1103.*python-without-engine"),
    "home": (" python-home=/nowhere/at/all", "", "PG1103.*/nowhere/at/all"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_old_workers_serve_on_when_the_new_ones_cannot(start_shop: StartShop, what: str) -> None:
    options, code, reason = BROKEN[what]
    server = start_shop("threads=4")
    (old,) = server.workers()
    script = server.root / "apps" / "who" / "wsgi.py"
    good = script.read_text()
    server.log.expect(reason)
    server.log.allow(r"PG11|\[group shop\]")

    with under_load(server) as load:
        if code:
            script.write_text(code)
        server.configure(shop.lines(server.root, "threads=4" + options))
        server.graceful()
        server.log.wait_for(reason)
        load.wait_for_more(30)
        assert serving(load, 6) == {old}

        script.write_text(good)
        server.configure(shop.lines(server.root, "threads=4"))
        server.graceful()
        wait_for_new_workers(load, [old])

    assert load.failures() == []


def test_a_killed_old_worker_is_followed_by_its_like_while_new_ones_cannot_start(
    start_shop: StartShop,
) -> None:
    """SUCCESSION 3: what was last good."""
    server = start_shop("threads=4")
    (old,) = server.workers()
    server.log.expect("PG1103.*python-without-engine")
    server.log.expect("PG1103.*SIGKILL")
    server.configure(shop.lines(server.root, "threads=4 python=/usr/bin/python-without-engine"))
    server.graceful()
    server.log.wait_for("python-without-engine")
    assert facts(server)["pid"] == old
    os.kill(old, signal.SIGKILL)
    assert facts(server)["pid"] != old


REFUSED = {
    # With the group that has left, and still serves httpd's old children, they are one too many.
    "groups": ([f"WSGIDaemonProcess more-{i}" for i in range(511)], "would be more than 512"),
    "size": (
        [f"WSGIDaemonProcess long-{i} python-path=/{'x' * (1 << 20)}" for i in range(17)],
        "longer than",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_ran_serves_on_when_the_supervisor_refuses_a_plan(
    start_shop: StartShop, what: str
) -> None:
    """What it refuses it refuses as a whole; requests of new groups are told so at once."""
    more, reason = REFUSED[what]
    server = start_shop("threads=4", "WSGIDaemonProcess leaves", workers=2)
    old, name = set(server.workers()), more[0].split()[1]
    apps = server.root / "apps"
    new = f'WSGIScriptAlias /new "{apps}/who/wsgi.py" process-group={name}'
    server.log.expect(f"PG1003: plan 2 refused.*{reason}")
    server.log.expect("GL0506.*the supervisor refused the configuration")

    with under_load(server) as load:
        server.configure(shop.lines(server.root, "threads=4", *more, new))
        server.graceful()
        server.log.wait_for("PG1003")
        load.wait_for_more(20)
        assert ask(server, "/new").status == 500
        assert set(server.workers()) == old

        server.configure(shop.lines(server.root, "threads=4"))
        server.graceful()
        wait_for_new_workers(load, list(old))

    assert load.failures() == []
    wait_until(lambda: len(server.workers()) == 1, "what was in neither plan ends", 20)


def test_more_error_logs_than_a_message_holds_come_with_a_plan(start_shop: StartShop) -> None:
    """SUCCESSION 2: 250 descriptors at most. Groups on demand: none of them runs."""
    server = start_shop("threads=4")
    (name, port), root = server.address, server.root
    script = root / "apps" / "told.wsgi"
    script.write_text("print('it is loaded')\n" + (root / "apps/who/wsgi.py").read_text())
    hosts = [
        f"<VirtualHost {name}:{port + 1}>\nServerName host{i}.invalid\n"
        f'ErrorLog "{root}/host{i}.log"\nWSGIDaemonProcess host{i} processes=0-1 threads=1\n'
        f'WSGIScriptAlias / "{script}" process-group=host{i} application-group=%{{GLOBAL}}\n'
        "</VirtualHost>"
        for i in range(260)
    ]
    server.configure([*shop.lines(root, "threads=4"), f"Listen {name}:{port + 1}", *hosts])
    with under_load(server) as load:
        server.graceful()
        for i in (0, 249, 250, 259):
            told = client.ask((name, port + 1), "/", headers={"Host": f"host{i}.invalid"})
            assert json.loads(told.text)["group"] == f"host{i}"
            wait_until(lambda i=i: "it is loaded" in (root / f"host{i}.log").read_text(), "its log")
    assert load.failures() == []
    assert (root / "host1.log").read_text() == ""


def test_the_plan_of_httpd_is_what_the_new_workers_run(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    script = server.root / "apps" / "who" / "wsgi.py"

    with under_load(server) as load:
        script.write_text(script.read_text().replace('"pid":', '"deploy": 2, "pid":'))
        server.graceful()
        wait_until(lambda: json.loads(load.answers[-1].text).get("deploy") == 2, "the new code")

    assert load.failures() == []
