# SPDX-License-Identifier: Apache-2.0
"""Touched, broken and mended scripts; crash loops; groups that cannot start."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import census, conf
from harness.client import connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving, slow_request

StartShop = Callable[..., Httpd]
IMPORTS = "import sys; sys.path.insert(0, {folder!r})\nfrom helper import application\n"
WAITS = """
import os, time
open({started!r}, "w").close()
while not os.path.exists({go!r}):
    time.sleep(0.01)
"""
HELPER = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"mended"]
"""


def script_of(server: Httpd, name: str = "who") -> Path:
    return server.root / "apps" / name / "wsgi.py"


def write(path: Path, text: str) -> None:
    """As an editor does: there is never half a script."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def test_touched_script_is_served_anew_and_no_request_fails(start_shop: StartShop) -> None:
    server = start_shop("processes=2 threads=4", workers=2)
    script, old = script_of(server), server.workers()

    with Load(server.address, "/who", clients=3) as load:
        write(script, script.read_text().replace('"pid":', '"deploy": 2, "pid":'))
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 10)
        load.wait_for_more(20)

    assert load.failures() == []
    wait_until(lambda: set(old).isdisjoint(server.workers()), "old workers end")
    assert len(server.workers()) == 2
    assert facts(server)["deploy"] == 2


@pytest.mark.parametrize("option", ["drain-timeout=0", "drain-timeout=1 shutdown-timeout=1"])
def test_drain_timeout_alone_ends_what_an_old_worker_still_runs(
    start_shop: StartShop, option: str
) -> None:
    server = start_shop(f"threads=4 {option}")
    bounded = option != "drain-timeout=0"
    if bounded:
        server.log.expect(r"PG1121.*had 1 s to finish its requests \(drain-timeout\)")
        server.log.allow("PG2005|PG1140|GL05.*exited with status 0")
    (old,) = server.workers()
    files = server.root / "files"
    with slow_request(server) as connection:
        os.utime(script_of(server))
        wait_until(lambda: server.workers() and facts(server)["pid"] != old, "a new worker serves")
        if bounded:
            server.log.wait_for("PG1121")
            assert connection.read_response().status == 502
        else:
            (files / "slow.end").touch()
            assert connection.read_response().text == "done"
    wait_until(lambda: old not in server.workers(), "the old worker ends")


@pytest.mark.parametrize(
    ("option", "more"), [("eviction-timeout", ""), ("graceful-timeout", " maximum-requests=10")]
)
def test_time_for_what_still_runs_after_a_signal_or_a_limit(
    start_shop: StartShop, option: str, more: str
) -> None:
    server = start_shop(f"threads=4 {option}=1 shutdown-timeout=1{more}")
    server.log.expect(rf"PG1121.*had 1 s to finish its requests \({option}\)")
    server.log.expect("PG1140.*It ran: GET /waits ")
    server.log.allow("PG2005|GL0504.*exited with status 0")
    (old,) = server.workers()
    with slow_request(server) as connection:
        if option == "eviction-timeout":
            os.kill(old, signal.SIGUSR1)
        wait_until(lambda: facts(server)["pid"] != old, "a new worker serves")
        assert connection.read_response().status == 502
    server.wait_for_exit(old)


def test_broken_script_keeps_the_old_workers_until_it_is_mended(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    script, (old,) = script_of(server), server.workers()
    good = script.read_text()
    server.log.expect("RuntimeError: broken deploy")
    server.log.expect("PG1104.*the workers that serve stay")
    server.log.allow(r"\[group shop\]")

    with Load(server.address, "/who", clients=3) as load:
        write(script, "raise RuntimeError('broken deploy')\n")
        server.log.wait_for("PG1104")
        load.wait_for_more(20)
        assert serving(load, 6) == {old}
        write(script, good)
        wait_until(lambda: serving(load, 6).isdisjoint([old]), "new workers serve", 10)

    assert load.failures() == []


def test_first_load_that_fails_answers_at_once_and_is_served_when_mended(
    start_shop: StartShop,
) -> None:
    server = start_shop("threads=4")
    folder = server.root / "apps" / "late"
    folder.mkdir()
    helper, script = folder / "helper.py", folder / "wsgi.py"
    helper.write_text("raise RuntimeError('not mended yet')\n")
    script.write_text(IMPORTS.format(folder=str(folder)))
    server.log.expect_traceback("RuntimeError: not mended yet")
    server.log.allow(r"\[group late\]|PG1104|ScriptFailedError|script '|GL0")
    shop.alone(server, "late", script)
    server.graceful()
    server.log.wait_for("PG1104")

    assert ask(server, "/late").status == 500

    write(helper, HELPER)
    os.utime(script)
    wait_until(lambda: ask(server, "/late").text == "mended", "the mended script is served")


def test_sigusr1_to_a_worker_reloads_its_group(start_shop: StartShop) -> None:
    server = start_shop("processes=2 threads=4", workers=2)
    old = server.workers()

    with Load(server.address, "/who", clients=3) as load:
        os.kill(facts(server)["pid"], signal.SIGUSR1)  # one that serves, so it has its handlers
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 10)

    assert load.failures() == []


def test_sigusr1_to_a_worker_that_starts_costs_no_request(start_shop: StartShop) -> None:
    """`pkill -USR1` of a tenant's reaches those too that do not serve yet."""
    server = start_shop("threads=4")
    files = server.root / "files"
    script = server.root / "apps" / "late.wsgi"
    write(script, WAITS.format(started=str(files / "started"), go=str(files / "go")) + HELPER)
    shop.alone(server, "late", script, "threads=4 display-name=late")
    server.graceful()
    wait_until((files / "started").exists, "it is being loaded", 20)
    (first,) = [pid for pid in server.processes() if census.command(pid).startswith("late")]
    with connected(server.address) as connection:
        connection.send(request("GET", "/late"))
        os.kill(first, signal.SIGUSR1)
        (files / "go").touch()
        assert connection.read_response().text == "mended"
    server.wait_for_exit(first)
    assert ask(server, "/late").text == "mended"


def test_maximum_requests_recycles_without_a_failed_request(start_shop: StartShop) -> None:
    server = start_shop("processes=2 threads=4 maximum-requests=40", workers=2)
    old = server.workers()

    with Load(server.address, "/who", clients=3) as load:
        wait_until(lambda: serving(load, 6).isdisjoint(old), "both were recycled", 20)

    assert load.failures() == []


def test_crash_loop_backs_off_and_answers_at_once(start_shop: StartShop) -> None:
    """RELIABILITY C 3: a script that ends its process while it is loaded."""
    server = start_shop("threads=4")
    server.log.expect(r"PG1103.*exited with status 7.*the next start is in 1 s")
    server.log.expect(r"PG1103.*exited with status 7.*the next start is in 2 s")
    server.log.allow("GL0506.*exited with status 7|PG1103")
    script = server.root / "apps" / "loop.wsgi"
    script.write_text("import os\nos._exit(7)\n")
    shop.alone(server, "loop", script)
    server.graceful()
    server.log.wait_for("PG1103")

    assert ask(server, "/loop").status == 500
    server.log.wait_for("the next start is in 2 s")
    assert ask(server, "/who").status == 200


@pytest.mark.parametrize(
    "options, reason",
    [
        ("python-home=/nowhere/at/all", r"/nowhere/at/all/bin/python"),
        ("python=/bin/false", r"exited with status 1"),
        ("home=/nowhere/at/all", r"/nowhere/at/all|No such file"),
    ],
)
def test_group_that_cannot_start_answers_at_once_and_says_why(
    start_shop: StartShop, options: str, reason: str
) -> None:
    server = start_shop("threads=4")
    own_log = server.root / "bad.log"
    server.configure(
        [
            *shop.lines(server.root, "threads=4"),
            f"Listen {server.address[0]}:{server.address[1] + 1}",
            f"<VirtualHost {server.address[0]}:{server.address[1] + 1}>",
            "ServerName bad.invalid",
            f'ErrorLog "{own_log}"',
            f"WSGIDaemonProcess bad {options}",
            f'WSGIScriptAlias / "{script_of(server)}" process-group=bad'
            " application-group=%{GLOBAL}",
            "</VirtualHost>",
        ]
    )
    server.graceful()
    wait_until(lambda: "PG1103" in own_log.read_text(), "the reason is in the host's own log")

    bad = Load((server.address[0], server.address[1] + 1), "/", clients=1)
    with bad:
        pass

    assert {answer.status for answer in bad.answers} == {500}
    assert ask(server, "/who").status == 200
    assert re.search(reason, own_log.read_text())


def test_broken_script_that_no_configuration_names_keeps_the_old_workers_too(
    start_shop: StartShop,
) -> None:
    """SUCCESSION 3: new workers load what the old ones had loaded."""
    server = start_shop("threads=4")
    more = server.root / "more"
    more.mkdir()
    good = "def application(environ, start_response):\n    start_response('200 OK', [])\n"
    write(more / "one.py", good + "    return [b'old']\n")
    write(more / "gone.py", good + "    return [b'gone']\n")
    server.configure(
        shop.lines(
            server.root,
            "threads=4",
            f'WSGIScriptAliasMatch ^/more/([a-z]+) "{more}/$1.py" process-group=shop',
            *conf.granted(more),
        )
    )
    before = server.workers()
    server.graceful()
    wait_until(lambda: set(before).isdisjoint(server.workers()), "new workers")
    wait_until(lambda: ask(server, "/more/one").text == "old", "it is served")
    assert ask(server, "/more/gone").text == "gone"
    server.log.expect("RuntimeError: broken deploy")
    server.log.expect("PG1104.*the workers that serve stay")
    server.log.allow(r"\[group shop\]|PG3")

    with Load(server.address, "/more/one", clients=3) as load:
        write(more / "one.py", "raise RuntimeError('broken deploy')\n")
        server.log.wait_for("PG1104")
        load.wait_for_more(20)
        (more / "gone.py").unlink()
        write(more / "one.py", good + "    return [b'new']\n")
        wait_until(lambda: load.answers[-1].text == "new", "the mended script is served", 20)

    assert load.failures() == []
    wait_until(lambda: ask(server, "/more/one").text == "new", "by all of them")
