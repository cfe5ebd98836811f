# SPDX-License-Identifier: Apache-2.0
"""Workers and supervisors that die or hang under load: what is lost, who is told, what is back."""

import os
import re
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import census, tracer
from harness.client import CutError, connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, serving, slow_request

LIVED = r", after \d+ requests and with \d+ running, "
DIED = rf"PG1103: process group 'shop': worker \d+ \(pid {{pid}}\){LIVED}was killed by {{signal}}"
LOST = r"GL0504: process group 'shop': the worker .* was killed by {signal}"

StartShop = Callable[..., Httpd]


def test_a_killed_worker_costs_only_the_requests_that_it_ran(start_shop: StartShop) -> None:
    server = start_shop("processes=2 threads=4", workers=2)
    victim = server.workers()[0]
    server.log.expect(DIED.format(pid=victim, signal="SIGKILL"))
    server.log.allow(LOST.format(signal="SIGKILL"))

    with Load(server.address, "/who", clients=6) as load:
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: victim not in server.workers() and len(server.workers()) == 2, "a new worker"
        )
        load.wait_for_more(200)

    failed = load.failures()
    assert {(answer.status, answer.is_cut) for answer in failed} <= {(502, False), (200, True)}
    assert len(failed) <= 4, failed  # its threads


@pytest.mark.parametrize("count", [1, 3])
def test_kills_in_a_row_cost_only_the_requests_that_ran(start_shop: StartShop, count: int) -> None:
    """All workers at once, again and again: whoever was not started waits for their successors."""
    server = start_shop(f"processes={count} threads=2", workers=count)
    server.log.expect("PG1103.*was killed by SIGKILL")
    server.log.allow(LOST.format(signal="SIGKILL"))
    rounds = 3

    with Load(server.address, "/who", clients=3) as load:
        for _ in range(rounds):
            victims = server.workers()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda gone=victims: (
                    len(server.workers()) == count and serving(load, 2).isdisjoint(gone)
                ),
                "all are replaced, and serve",
            )
        load.wait_for_more(50)

    failed = load.failures()
    assert {(answer.status, answer.is_cut) for answer in failed} <= {(502, False), (200, True)}
    assert len(failed) <= rounds * 3  # clients


def test_idle_connections_to_a_killed_worker_cost_nothing(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    with Load(server.address, "/who", clients=4) as load:
        load.wait_for_more(20)
    victim = server.workers()[0]
    server.log.expect(DIED.format(pid=victim, signal="SIGKILL"))

    os.kill(victim, signal.SIGKILL)
    answers = [ask(server, "/who") for _ in range(20)]

    assert [answer.status for answer in answers] == [200] * 20


FAULT = "was killed by SIGSEGV.*: a fault in native code, or a stack that overflowed"

RAN = r"GET {} \(id \S+, for \d+\.\d s\)"

# How the application ends its worker, the cause that is told, the last words before it.
DEATHS = {
    "kill": ("was killed by SIGKILL", ""),
    "segv": (FAULT, "Fatal Python error: Segmentation fault"),
    "overflow": (FAULT, "Fatal Python error: Segmentation fault"),
    "abort": ("was killed by SIGABRT.*: native code, or Python", "Fatal Python error: Aborted"),
    "exit": ("exited with status 3", ""),
    "zero": ("exited with status 0, which nobody had asked for", ""),
    "status": ("exited with status 127: its Python, or a library that it needs", ""),
}


@pytest.mark.parametrize("way", DEATHS)
def test_the_cause_of_a_death_is_told_to_client_and_log(start_shop: StartShop, way: str) -> None:
    """RELIABILITY C 1, C 2."""
    cause, _ = DEATHS[way]
    server = start_shop("processes=2 threads=2", workers=2)
    server.log.expect(rf"PG1103: process group 'shop': worker \d+ \(pid \d+\){LIVED}{cause}")
    server.log.expect(rf"GL0504: process group 'shop': the worker .*{cause}")
    server.log.allow(r"\[group shop\]")  # what faulthandler prints

    before = ask(server, f"/dies?{way}")
    with pytest.raises(CutError) as cut:
        ask(server, f"/dies?{way}&later")

    assert before.status == 502
    assert cut.value.response.status == 200
    assert cut.value.response.body in (b"", b"first")
    assert ask(server, "/who").status == 200


@pytest.mark.parametrize("way", DEATHS)
def test_one_line_tells_of_a_death_what_ran_and_follows_the_last_words(
    start_shop: StartShop, way: str
) -> None:
    cause, last_words = DEATHS[way]
    server = start_shop("threads=3")
    pid = server.workers()[0]
    server.log.expect(
        rf"PG1103: process group 'shop': worker \d+ \(pid {pid}\), after 3 requests and with 2 "
        rf"running, {cause}.*; it is replaced at once\. "
        rf"It ran: (?=.*{RAN.format('/waits')})(?=.*{RAN.format('/dies')})[^,]+,[^,]+,[^,]+,[^,]+$"
    )
    server.log.allow(r"GL0504|\[group shop\]")
    with connected(server.address) as other:
        other.send(request("GET", "/waits?secret"))
        wait_until((server.root / "files" / "secret.runs").exists, "another request runs")
        assert ask(server, f"/dies?{way}").status == 502
        assert other.read_response().status == 502

    line = server.log.wait_for(f"PG1103.*{pid}")
    text = server.log.text()
    told = text[: text.index(line)]
    assert last_words in told
    assert last_words == "" or "dies/wsgi.py" in told, "the stack that failed"
    assert text.count("PG1103") == 1
    assert "secret" not in line, "queries are not told"


def test_what_ran_when_python_could_not_be_had_is_told(start_shop: StartShop) -> None:
    server = start_shop("threads=2 deadlock-timeout=3 shutdown-timeout=1")
    pid = server.workers()[0]
    cause = r"exited with status \d: deadlock-timeout had passed"
    ran = r"interpreter\. It ran: GET /dies "
    server.log.expect(rf"PG1140: .*pid {pid}.* the end of 1 requests: {cause}.*{ran}")
    server.log.expect(f"GL0504.*GET /dies, id .*: {cause}")
    server.log.allow(r"\[group shop\]|PG1119")
    assert ask(server, "/dies?lock").status == 502


def test_what_ran_when_a_signal_had_stopped_the_worker_is_told(start_shop: StartShop) -> None:
    """RELIABILITY C 5: it waits for nobody, and the clients are told at once."""
    server = start_shop("threads=2")
    pid = server.workers()[0]
    server.log.expect("PG1115")
    server.log.expect(
        rf"PG1103: .*pid {pid}.* was killed by SIGKILL: a signal had stopped it; .*GET /waits"
    )
    server.log.expect("GL0504.*: was killed by SIGKILL: a signal had stopped it")
    with slow_request(server) as client:
        os.kill(pid, signal.SIGSTOP)
        assert client.read_response().status == 502


def test_a_worker_that_ended_and_cannot_be_reaped_is_replaced(start_shop: StartShop) -> None:
    """A process that it left behind traces its threads and waits for none: nobody else can tell how
    it ended. What it ran is told, and what comes then is served; it is reaped when that one goes.
    """
    server = start_shop("threads=3")
    (pid,) = server.workers()
    cause = "ended, but how cannot be told: process [0-9]+ traces it and keeps it"
    server.log.expect(
        rf"PG1103: process group 'shop': worker \d+ \(pid {pid}\), after 3 requests and with 1 "
        rf"running, {cause}; it is replaced at once\. It ran: {RAN.format('/waits')}$"
    )
    server.log.expect("GL0504")
    assert ask(server, "/leaves_behind?tracer").status == 200
    with slow_request(server) as client:
        os.kill(pid, signal.SIGKILL)
        assert client.read_response().status == 502
    assert facts(server)["pid"] != pid

    told = re.search(r"process (\d+) traces", server.log.wait_for("PG1103"))
    assert told and Path(f"/proc/{pid}").exists()
    os.kill(int(told[1]), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it is reaped")
    assert facts(server)["pid"] != pid and server.log.text().count("PG1103") == 1


def test_requests_that_a_worker_could_not_end_in_time_are_named(start_shop: StartShop) -> None:
    """It was asked to end, by its application, and what it ran had shutdown-timeout to finish."""
    server = start_shop("threads=2 shutdown-timeout=1")
    pid = server.workers()[0]
    server.log.expect("PG2005")
    server.log.expect(rf"PG1140: .*pid {pid}.*before the end of 1 requests: .*It ran: GET /waits ")
    server.log.expect("GL0504")
    with slow_request(server) as client:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGTERM)
        assert client.read_response().status == 502


def test_a_poisonous_request_kills_one_worker_only(start_shop: StartShop) -> None:
    server = start_shop("processes=3 threads=2", workers=3)
    server.log.expect("PG1103")
    server.log.expect("GL0504")
    before = set(server.workers())

    assert ask(server, "/dies?exit").status == 502

    wait_until(lambda: len(server.workers()) == 3, "three workers again")
    assert len(before & set(server.workers())) == 2


def test_other_groups_notice_nothing_of_a_death(start_shop: StartShop) -> None:
    server = start_shop("threads=2")
    shop.both(server, "other", server.root / "apps" / "who" / "wsgi.py")
    server.log.expect("PG1103: process group 'shop'")
    server.log.expect("GL0504")
    server.log.allow("GL0506: process group 'shop': it cannot serve: exited with status 3")
    other = facts(server, "/other")["pid"]

    with Load(server.address, "/other", clients=2) as load:
        for _ in range(3):
            assert ask(server, "/dies?exit").status in (500, 502)
            load.wait_for_more(10)

    assert load.failures() == []
    assert serving(load, len(load.answers)) == {other}


def test_a_killed_supervisor_costs_no_request(start_shop: StartShop) -> None:
    server = start_shop("processes=2 threads=4", workers=2)
    first, old = server.supervisor(), server.workers()
    server.log.expect(r"GL0603: .*pid " + str(first))

    with Load(server.address, "/who", clients=4) as load:
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: serving(load, 8).isdisjoint(old), "new workers serve", 30)
        load.wait_for_more(100)

    assert load.failures() == []
    assert server.supervisor() != first
    for pid in old:
        server.wait_for_exit(pid)


def test_workers_of_a_dead_supervisor_end_with_their_group(start_shop: StartShop) -> None:
    """Whoever dies twice in a row is not replaced at once, and then no group is configured."""
    server = start_shop("threads=4")
    server.log.expect("GL0603")
    server.log.expect("AH01630")  # httpd's own: nothing is mounted there any more
    (old,) = server.workers()
    os.kill(server.supervisor(), signal.SIGKILL)
    server.wait_for_exit(old)
    worker, second = facts(server)["pid"], server.supervisor()
    os.kill(second, signal.SIGKILL)
    server.log.wait_for(f"GL0603: .*pid {second}")

    server.configure([])
    server.graceful()
    server.wait_for_exit(worker)

    assert ask(server, "/who").status == 403


def test_requests_of_a_dead_supervisors_worker_end_well(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    server.log.expect("GL0603")
    old = server.workers()[0]
    with slow_request(server) as connection:
        os.kill(server.supervisor(), signal.SIGKILL)
        wait_until(lambda: any(pid != old for pid in server.workers()), "a new worker", 30)
        wait_until(lambda: facts(server)["pid"] != old, "it serves")
        assert census.is_alive(old)
        (server.root / "files" / "slow.end").touch()

        assert connection.read_response().body == b"done"
    server.wait_for_exit(old)


def test_a_worker_that_dies_while_no_supervisor_lives_is_a_502(start_shop: StartShop) -> None:
    """Nobody can tell the cause, and the client does not wait until somebody does: httpd's parent,
    which would start the next supervisor, is stopped meanwhile."""
    server = start_shop("threads=4")
    server.log.expect("GL0504: .*the cause is unknown")
    server.log.expect("GL0603")
    (worker,) = server.workers()
    with slow_request(server) as connection:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            os.kill(server.supervisor(), signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            assert connection.read_response().status == 502
        finally:
            os.kill(server.pid, signal.SIGCONT)
    wait_until(lambda: server.workers() not in ([], [worker]), "a new worker", 30)
    assert facts(server)["group"] == "shop"


def test_a_dead_supervisors_worker_that_dies_is_a_502(start_shop: StartShop) -> None:
    """The one that lives is not its parent, and knows no cause."""
    server = start_shop("threads=4")
    server.log.expect("GL0603")
    server.log.expect("GL0504: .*the cause is unknown")
    (old,) = server.workers()
    with slow_request(server) as connection:
        os.kill(server.supervisor(), signal.SIGKILL)
        wait_until(lambda: any(pid != old for pid in server.workers()), "a new worker", 30)
        wait_until(lambda: facts(server)["pid"] != old, "it serves")
        os.kill(old, signal.SIGKILL)

        assert connection.read_response().status == 502
    assert facts(server)["group"] == "shop"


SLOW_AGAIN = """
import json, os, time
if os.path.exists({go!r} + ".first"):
    while not os.path.exists({go!r}):
        time.sleep(0.01)
open({go!r} + ".first", "w").close()
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [json.dumps({{"pid": os.getpid()}}).encode()]
"""


def test_a_worker_that_nobody_buried_yet_costs_no_request(start_shop: StartShop) -> None:
    """Its supervisor died with it, so the pages still name it while its successor imports."""
    server = start_shop("threads=4")
    go, script = server.root / "files" / "go", server.root / "apps" / "slow.wsgi"
    script.write_text(SLOW_AGAIN.format(go=str(go)))
    server.configure(
        [
            *shop.lines(server.root, "threads=4"),
            "WSGIDaemonProcess late",
            f'WSGIScriptAlias /late "{script}" process-group=late application-group=%{{GLOBAL}}',
        ]
    )
    server.graceful()
    server.log.expect("GL0603")
    old = facts(server, "/late")["pid"]
    server.graceful()  # the new children have no connection to it yet; its successor imports

    os.kill(server.supervisor(), signal.SIGKILL)
    os.kill(old, signal.SIGKILL)
    with connected(server.address) as connection:
        connection.send(request("GET", "/late"))
        assert not select.select([connection.socket], [], [], 2.0)[0], "it waits"
        go.touch()

        assert connection.read_response().status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_application_may_have_its_worker_replaced_by_a_signal(
    start_shop: StartShop, number: signal.Signals
) -> None:
    """As code reloaders written for mod_wsgi do; again and again, and while a request runs."""
    server = start_shop("threads=4")
    with slow_request(server) as slow, Load(server.address, "/who", clients=3) as load:
        for _ in range(3):
            (old,) = serving(load, 1)
            os.kill(old, number)
            wait_until(lambda gone=old: serving(load, 3).isdisjoint([gone]), "another serves")
            (server.root / "files" / "slow.end").touch()
        assert slow.read_response().body == b"done"

    assert load.failures() == []


def test_killed_children_of_httpd_cost_only_what_they_served(start_shop: StartShop) -> None:
    """RELIABILITY C 18. The places that they had taken of a worker are free again."""
    server = start_shop("threads=2")
    (worker,) = server.workers()
    with connected(server.address) as one, connected(server.address) as two:
        for name, connection in (("one", one), ("two", two)):
            connection.send(request("GET", f"/waits?{name}"))
            wait_until((server.root / "files" / f"{name}.runs").exists, "both threads run")
        for child in set(census.children(server.pid)) - {server.supervisor()}:
            os.kill(child, signal.SIGKILL)
        for connection in (one, two):
            with pytest.raises((EOFError, ConnectionError)):
                connection.read_response()
    for name in ("one", "two"):
        (server.root / "files" / f"{name}.end").touch()

    assert {facts(server)["pid"] for _ in range(5)} == {worker}
    with connected(server.address) as one, connected(server.address) as two:
        for name, connection in (("three", one), ("four", two)):
            connection.send(request("GET", f"/waits?{name}"))
            wait_until((server.root / "files" / f"{name}.runs").exists, "both threads run again")
            (server.root / "files" / f"{name}.end").touch()
        assert [c.read_response().body for c in (one, two)] == [b"done"] * 2


@pytest.mark.slow
def test_a_supervisor_that_hangs_is_replaced(start_shop: StartShop) -> None:
    server = start_shop("threads=4")
    first, old = server.supervisor(), server.workers()
    server.log.expect("GL0601: the supervisor does not answer")
    server.log.expect("GL0603")

    os.kill(first, signal.SIGSTOP)
    with Load(server.address, "/who", clients=2) as load:
        wait_until(lambda: serving(load, 4).isdisjoint(old), "new workers serve", 60)

    assert load.failures() == []
    for pid in (first, *old):
        server.wait_for_exit(pid)


@pytest.mark.slow
@pytest.mark.looks_inside
def test_a_supervisor_that_hangs_and_cannot_be_ended_is_replaced(start_shop: StartShop) -> None:
    """The kernel may keep it in a system call, so that httpd gets no word of its death."""
    server = start_shop("threads=4")
    first, old = server.supervisor(), server.workers()
    server.log.expect("GL0601: the supervisor does not answer")
    server.log.expect("GL0601: the supervisor cannot be ended.* a new one is started")

    with tracer.kept(first), Load(server.address, "/who", clients=2) as load:
        os.kill(first, signal.SIGSTOP)
        wait_until(lambda: serving(load, 4).isdisjoint(old), "new workers serve", 60)

    assert load.failures() == []
    for pid in (first, *old):
        server.wait_for_exit(pid)


def test_a_worker_that_is_stopped_by_a_signal_is_replaced(start_shop: StartShop) -> None:
    server = start_shop("threads=2")
    stopped = server.workers()[0]
    server.log.expect(rf"PG1115: .*pid {stopped}")
    server.log.expect(DIED.format(pid=stopped, signal="SIGKILL"))

    os.kill(stopped, signal.SIGSTOP)
    server.log.wait_for(rf"PG1115: .*pid {stopped}")  # until then its threads may still run

    assert facts(server)["pid"] != stopped
