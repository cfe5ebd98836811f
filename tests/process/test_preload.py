# SPDX-License-Identifier: Apache-2.0
"""preload=on: the application is loaded once, and workers are forks (SUCCESSION.md section 10)."""

import os
import signal
from collections.abc import Callable, Collection
from typing import Any

import pytest
from harness import tracer
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving

StartShop = Callable[..., Httpd]
ALIAS = (
    'WSGIScriptAlias /loaded_in "{apps}/loaded_in/wsgi.py" '
    "process-group=shop application-group=%{{GLOBAL}}"
)


@pytest.fixture
def start_preloaded(start_shop: StartShop, folder: Any) -> StartShop:
    def start(options: str, workers: int) -> Httpd:
        alias = ALIAS.format(apps=folder / "apps")
        return start_shop(f"preload=on {options}", alias, workers=workers + 1)

    return start


def each_worker(
    server: Httpd, count: int, beside: Collection[int] = ()
) -> dict[int, dict[str, Any]]:
    """What each of so many workers says of itself; those that are about to go are passed by."""
    found: dict[int, dict[str, Any]] = {}

    def ask_again() -> bool:
        told = facts(server, "/loaded_in")
        if told["pid"] not in beside:
            found[told["pid"]] = told
        return len(found) >= count

    wait_until(ask_again, f"{count} workers answer", 20)
    return found


def test_workers_share_what_was_loaded_once(start_preloaded: StartShop) -> None:
    server = start_preloaded("processes=3 threads=1", 3)
    workers = each_worker(server, 3)
    (preloader,) = {told["loaded_in"] for told in workers.values()}
    assert preloader not in workers
    for pid, told in workers.items():
        assert told["parent"] == server.supervisor() and told["session"] == pid


def test_a_worker_that_dies_is_forked_again_of_what_is_loaded(start_preloaded: StartShop) -> None:
    server = start_preloaded("threads=2", 1)
    ((pid, before),) = each_worker(server, 1).items()
    server.log.expect("PG1103.*was killed by SIGKILL")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: facts(server, "/loaded_in")["pid"] != pid, "another serves")
    assert facts(server, "/loaded_in")["loaded_in"] == before["loaded_in"]


def test_an_application_may_hold_a_thousand_files_when_its_workers_are_forked(
    start_preloaded: StartShop,
) -> None:
    """What they open then has higher numbers than select(2) takes."""
    server = start_preloaded("threads=1", 1)
    script = server.root / "apps" / "loaded_in" / "wsgi.py"
    old = set(each_worker(server, 1))
    hold = "import os\nheld = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]\n"
    script.write_text(hold + script.read_text())
    (first,) = each_worker(server, 1, beside=old)
    os.kill(first, signal.SIGUSR1)
    each_worker(server, 1, beside={*old, first})


def test_touched_script_is_preloaded_anew_and_no_request_fails(start_preloaded: StartShop) -> None:
    server = start_preloaded("processes=2 threads=4", 2)
    old = each_worker(server, 2)
    script = server.root / "apps" / "loaded_in" / "wsgi.py"
    with Load(server.address, "/who", clients=3) as load:
        script.write_text(script.read_text().replace('"pid"', '"deploy": 2, "pid"'))
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)
        load.wait_for_more(20)
    assert load.failures() == []
    new = each_worker(server, 2, beside=old)
    assert {told["deploy"] for told in new.values()} == {2}
    assert len({told["loaded_in"] for told in new.values()}) == 1
    wait_until(lambda: len(server.workers()) == 3, "the old ones and their preloader end")


def test_script_that_does_not_load_keeps_the_old_workers(start_preloaded: StartShop) -> None:
    server = start_preloaded("threads=4", 1)
    (old,) = each_worker(server, 1)
    script = server.root / "apps" / "loaded_in" / "wsgi.py"
    server.log.allow(r"\[group shop\]")
    server.log.expect("PG1104.*the workers that serve stay")
    script.write_text("raise RuntimeError('broken deploy')\n")
    server.log.wait_for("PG1104")
    assert facts(server)["pid"] == old


def test_a_preloader_that_dies_costs_nothing_and_is_replaced_when_needed(
    start_preloaded: StartShop,
) -> None:
    server = start_preloaded("threads=2", 1)
    ((pid, before),) = each_worker(server, 1).items()
    server.log.expect("PG1171.*was killed by SIGKILL")
    server.log.expect("PG1103.*was killed by SIGKILL")
    os.kill(before["loaded_in"], signal.SIGKILL)
    server.log.wait_for("PG1171")
    assert facts(server, "/loaded_in")["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: facts(server, "/loaded_in")["pid"] != pid, "another serves")
    assert facts(server, "/loaded_in")["loaded_in"] != before["loaded_in"]


def test_a_fork_that_ended_and_cannot_be_reaped_is_forked_again(start_preloaded: StartShop) -> None:
    """A process of its own traces it."""
    server = start_preloaded("threads=2", 1)
    ((pid, before),) = each_worker(server, 1).items()
    server.log.expect(rf"PG1103.*pid {pid}\), .* ended, but .* traces it and keeps it")
    assert ask(server, "/leaves_behind?tracer").status == 200
    os.kill(pid, signal.SIGKILL)
    server.log.wait_for("PG1103")
    assert facts(server, "/loaded_in")["pid"] != pid
    assert facts(server, "/loaded_in")["loaded_in"] == before["loaded_in"]


@pytest.mark.looks_inside
def test_a_preloader_that_ended_and_cannot_be_reaped_is_replaced_when_needed(
    start_preloaded: StartShop,
) -> None:
    server = start_preloaded("threads=2", 1)
    ((pid, before),) = each_worker(server, 1).items()
    server.log.expect("PG1171.*ended, but .* traces it and keeps it")
    server.log.expect("PG1103.*was killed by SIGKILL")
    with tracer.kept(before["loaded_in"]):
        os.kill(before["loaded_in"], signal.SIGKILL)
        server.log.wait_for("PG1171")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: facts(server, "/loaded_in")["pid"] != pid, "another serves")
        assert facts(server, "/loaded_in")["loaded_in"] != before["loaded_in"]


def test_application_that_ends_its_preloader_disables_the_group_with_the_reason(
    start_preloaded: StartShop,
) -> None:
    server = start_preloaded("threads=4", 1)
    script = server.root / "apps" / "loaded_in" / "wsgi.py"
    server.log.expect("PG1105.*the process that preloads the application exited with status 3")
    old = facts(server)["pid"]
    script.write_text("import os; os._exit(3)\n")
    server.log.wait_for("PG1105")
    assert facts(server)["pid"] == old


def test_threads_of_a_preloaded_application_are_told_about(start_preloaded: StartShop) -> None:
    server = start_preloaded("threads=4", 1)
    script = server.root / "apps" / "loaded_in" / "wsgi.py"
    thread = (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    server.log.expect("PG2017.*has started 1 thread")
    old = facts(server)["pid"]
    script.write_text(f"{thread}\n{script.read_text()}")
    server.log.wait_for("PG2017")
    wait_until(lambda: facts(server)["pid"] != old, "new workers serve", 20)


def test_group_that_preloads_no_longer_keeps_no_preloader(start_preloaded: StartShop) -> None:
    server = start_preloaded("threads=4", 1)
    old = server.workers()
    with Load(server.address, "/who", clients=3, keep_alive=False) as load:
        server.configure(shop.lines(server.root, "threads=4"))
        server.graceful()
        wait_until(lambda: serving(load, 6).isdisjoint(old), "new workers serve", 20)
    assert load.failures() == []
    for pid in old:  # the preloader is one of them
        server.wait_for_exit(pid)
    assert len(server.workers()) == 1


def test_stop_leaves_neither_workers_nor_preloader(start_preloaded: StartShop) -> None:
    server = start_preloaded("processes=2 threads=2", 2)
    workers = server.workers()
    assert ask(server, "/loaded_in").status == 200
    server.stop()
    for pid in workers:
        server.wait_for_exit(pid)
