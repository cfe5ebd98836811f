# SPDX-License-Identifier: Apache-2.0
"""Another version of mod_pyglue is installed while httpd runs: SUCCESSION 5 and 9.

Nothing happens until httpd is restarted gracefully; then its parent finds that the supervisor is of
another version."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import census, site
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving, slow_request
from process.upgrade import OTHER, OURS, Installation

REPLACED = rf"GL0605: .*of mod_pyglue {OURS} and is replaced by one of {OTHER}"


@pytest.fixture
def installation(folder: Path) -> Installation:
    return Installation(folder)


@pytest.fixture
def server(folder: Path, installation: Installation) -> Iterator[Httpd]:
    """The shop, served by the installation."""
    started = Httpd(shop.lines(folder, "processes=2 threads=4"), root=folder)
    installation.configure(started)
    started.start()
    try:
        shop.wait_for_workers(started, 2)
        yield started
    finally:
        site.end(started)


def test_another_version_takes_over_at_a_graceful_restart_and_no_request_fails(
    server: Httpd, installation: Installation
) -> None:
    first, old = server.supervisor(), server.workers()
    with slow_request(server) as connection:
        with Load(server.address, "/who", clients=3, keep_alive=False) as load:
            installation.install(installation.other_version())
            load.wait_for_more(20)
            assert server.supervisor() == first
            server.graceful()
            server.log.wait_for(REPLACED)
            wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)
            load.wait_for_more(20)
        assert load.failures() == []
        assert server.supervisor() != first
        (server.root / "files" / "slow.end").touch()
        assert connection.read_response().body == b"done"

    for pid in (first, *old):
        server.wait_for_exit(pid)
    server.graceful()
    assert server.log.text().count("GL0605") == 1, "it is of this version now"


def test_workers_of_the_version_before_serve_as_long_as_the_new_ones_cannot(
    server: Httpd, installation: Installation
) -> None:
    old = set(server.workers())
    script = server.root / "apps" / "who" / "wsgi.py"
    good = script.read_text()
    server.log.expect("broken deploy")
    server.log.expect("PG1104.*the workers that serve stay")
    server.log.allow(r"\[group shop\]")

    with Load(server.address, "/who", clients=3, keep_alive=False) as load:
        installation.install(installation.other_version())
        script.write_text("raise RuntimeError('broken deploy')")
        server.graceful()
        server.log.wait_for("PG1104")
        load.wait_for_more(20)
        assert serving(load, 6) <= old

        script.write_text(good)
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)

    assert load.failures() == []


def test_a_version_with_memories_of_its_own_fails_no_request(
    server: Httpd, installation: Installation, tmp_path: Path
) -> None:
    """The old supervisor keeps what httpd's old children need, and ends when they have."""
    other = installation.other_layout(tmp_path / "sources")
    first, old = server.supervisor(), server.workers()
    server.log.expect(rf"GL0606: .*of mod_pyglue \({OURS}\) than this one \({OTHER}\)")
    server.log.expect("PG1007")  # it tells that it is left
    server.log.allow("AH00488")  # httpd does not know whose child it was
    with slow_request(server) as connection:
        with Load(server.address, "/who", clients=3, keep_alive=False) as load:
            installation.install(other)
            server.graceful()
            wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)
        assert load.failures() == []
        assert census.is_alive(first)
        (server.root / "files" / "slow.end").touch()
        assert connection.read_response().body == b"done"

    for pid in (first, *old):
        server.wait_for_exit(pid)
    assert facts(server)["group"] == "shop"


def test_stop_ends_an_older_version_that_still_has_a_request(
    server: Httpd, installation: Installation, tmp_path: Path
) -> None:
    other = installation.other_layout(tmp_path / "sources")
    server.log.expect("GL0606")
    server.log.allow("PG1007|AH00488|AH00045|AH00046|AH00052|PG2005|GL05|OSError")
    old = [server.supervisor(), *server.workers()]
    with slow_request(server):
        installation.install(other)
        server.graceful()
        assert ask(server, "/who").status == 200

        server.stop()

    assert not any(map(census.is_alive, old))
    assert not list(server.root.glob("wsgi.*"))


def test_a_supervisor_that_dies_after_the_installation_is_followed_by_one_of_the_new_version(
    server: Httpd, installation: Installation
) -> None:
    """httpd's module is still the old one: each reads and speaks the version before it."""
    first, old = server.supervisor(), server.workers()
    server.log.expect("GL0603")
    with Load(server.address, "/who", clients=3, keep_alive=False) as load:
        installation.install(installation.other_version())
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 30)
        second = server.workers()
        server.graceful()
        wait_until(lambda: serving(load, 6).isdisjoint(second), "newer workers serve", 30)
    assert load.failures() == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_serve_until_the_restart_where_the_new_supervisor_cannot_read_the_memories(
    server: Httpd, installation: Installation, tmp_path: Path
) -> None:
    """Nobody can tell them to leave then: they do so when they had no connection for a minute."""
    other = installation.other_layout(tmp_path / "sources")
    first, old = server.supervisor(), set(server.workers())
    server.log.expect(r"GL0603: the supervisor .* ended, by signal 9;")
    server.log.expect("PG1008: the shared memories are of another version.*restart httpd")
    server.log.expect("GL0604.*it ended with status 1;")
    with Load(server.address, "/who", clients=3, keep_alive=False) as load:
        installation.install(other)
        os.kill(first, signal.SIGKILL)
        server.log.wait_for("GL0604")
        load.wait_for_more(50)
        assert serving(load, 50) <= old
        server.graceful()
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 30)
    assert load.failures() == []
    wait_until(lambda: not any(map(census.is_alive, old)), "old workers end", 120)


def test_the_same_version_installed_again_changes_nothing(
    server: Httpd, installation: Installation
) -> None:
    first = server.supervisor()
    for name in ("mod_pyglue.so", "__init__.py"):
        installation.put(name, (installation.package / name).read_bytes())

    server.graceful()

    assert ask(server, "/who").status == 200
    assert server.supervisor() == first
