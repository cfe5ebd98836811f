# SPDX-License-Identifier: Apache-2.0
"""TENANTS 6, SUCCESSION 11: how much of httpd one group may hold, and what ends its waiting."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import census, conf
from harness.client import Connection, Response, connected, request, wait_until
from harness.httpd import Httpd
from harness.memories import Memories

from . import lying

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


def lines(folder: Path, options: str) -> list[str]:
    """A group with the application that runs until it is told to end, and another group."""
    folder.chmod(0o777)
    for name in ("waits", "writes"):
        shutil.copytree(APPS / name, folder / name)
    (folder / "page.txt").write_text("static")
    return [
        f"WSGIDaemonProcess own {options}",
        "WSGIDaemonProcess other",
        f"WSGIDaemonProcess third {options}",
        f'Alias /static "{folder}"',
        f'WSGIScriptAlias /waits "{folder}/waits/wsgi.py" process-group=own',
        f'WSGIScriptAlias /third "{folder}/waits/wsgi.py" process-group=third',
        f'WSGIScriptAlias /other "{folder}/writes/wsgi.py" process-group=other',
        f'SetEnv files "{folder}"',
        *conf.granted(folder),
    ]


def get(server: Httpd, target: str) -> Response:
    with connected(server.address) as connection:
        connection.send(request("GET", target))
        return connection.read_response()


@contextmanager
def held(
    server: Httpd, folder: Path, count: int, where: str = "/waits", prefix: str = ""
) -> Iterator[list[Connection]]:
    """One request that runs in the only thread, and others that wait behind it."""
    with ExitStack() as stack:
        connections = []
        for i in range(count):
            connections.append(stack.enter_context(connected(server.address)))
            connections[-1].send(request("GET", f"{where}?{prefix}{i}"))
            if i == 0:
                runs = folder / f"{prefix}0.runs"
                wait_until(runs.exists, "the first request runs", 20)
        try:
            yield connections
        finally:
            release(folder, count, prefix)


def release(folder: Path, count: int, prefix: str = "") -> None:
    for i in range(count):
        (folder / f"{prefix}{i}.end").touch()


def answered(connections: list[Connection]) -> list[Connection]:
    """Those of them that have something to be read."""
    ready = select.select([one.socket for one in connections], [], [], 0)[0]
    return [one for one in connections if one.socket in ready]


def statuses(server: Httpd, folder: Path, count: int, refused: int, words: str) -> list[int]:
    """Of so many requests at once, when so many of them were refused and the rest was let run."""
    server.log.expect(f"GL0506.*{words}")
    with held(server, folder, count) as waiting:
        wait_until(lambda: len(answered(waiting)) == refused, "some are refused")
        assert get(server, "/other").status == 200
        assert get(server, "/static/page.txt").body == b"static"
        release(folder, count)
        answers = [one.read_response() for one in waiting]
    assert {a.header("Retry-After") for a in answers if a.status == 503} == {"1"}
    return sorted(answer.status for answer in answers)


def requests_told(server: Httpd, words: str) -> tuple[int, int]:
    """In how many lines the log tells of such refusals, and of how many requests they tell."""
    lines = re.findall(f"GL0506.*{words}.*$", server.log.text(), re.MULTILINE)
    counts = [re.search(r"; (\d+) requests? since", line) for line in lines]
    return len(lines), sum(int(count[1]) if count else 1 for count in counts)


@pytest.mark.parametrize(
    ("options", "held"), [("", 9), ("child-threads=25", 3), ("child-threads=1", 1)]
)
def test_a_group_holds_its_share_of_a_childs_threads_and_no_more(
    start_httpd: Start, folder: Path, options: str, held: int
) -> None:
    """Of 12."""
    server = start_httpd(lines(folder, f"threads=1 {options}"))
    assert statuses(server, folder, held + 2, 2, "child-threads=") == [200] * held + [503] * 2


def test_requests_wait_up_to_the_groups_backlog(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines(folder, "threads=1 listen-backlog=2"))
    assert statuses(server, folder, 5, 2, "listen-backlog") == [200] * 3 + [503] * 2


def test_overload_fills_no_log(start_httpd: Start, folder: Path) -> None:
    """One line a second of each reason, which tells how many requests it was."""
    server = start_httpd(lines(folder, "threads=1 listen-backlog=0"))
    server.log.expect("GL0506.*listen-backlog=")
    begin, refused = time.monotonic(), 0
    (folder / "warm.end").touch()
    while get(server, "/waits?warm").status == 503:  # until the worker is there
        refused += 1
    with held(server, folder, 1) as (first,):
        for i in range(100):
            assert get(server, f"/waits?more{i}").status == 503
        (folder / "0.end").touch()
        assert first.read_response().status == 200
    seconds = time.monotonic() - begin
    server.stop()  # what is untold then a child tells at its end
    told, of_requests = requests_told(server, "listen-backlog=")
    assert of_requests == refused + 100
    assert told <= seconds + 2


def test_static_files_are_answered_while_groups_are_saturated(
    start_httpd: Start, folder: Path
) -> None:
    """Two groups may hold all of the 12 threads each, but what waits for both holds 9 at most: 2
    run, 9 wait, 5 are refused."""
    server = start_httpd(lines(folder, "threads=1 child-threads=100"))
    server.log.expect("GL0506.*too many requests of this httpd process wait")
    with held(server, folder, 8) as own, held(server, folder, 8, "/third", "t") as third:
        waiting = own + third
        wait_until(lambda: len(answered(waiting)) == 5, "some are refused")
        for _ in range(20):
            assert get(server, "/static/page.txt").body == b"static"
        assert len(answered(waiting)) == 5, "what waited still waits"
        release(folder, 8)
        release(folder, 8, "t")
        answers = sorted(one.read_response().status for one in waiting)
    assert answers == [200] * 11 + [503] * 5


def test_static_files_are_answered_while_one_group_uploads_and_another_waits(
    start_httpd: Start, folder: Path
) -> None:
    """Of 12 threads 9 wait at most: 6 for the clients of one group, which send slowly, so that 3
    wait for the other's worker, beside the one that runs."""
    server = start_httpd(lines(folder, "threads=1 child-threads=100"))
    server.log.expect("GL0506.*too many requests of this httpd process wait")
    server.log.expect("GL0506.*clients send, those of all groups")
    with ExitStack() as stack:
        uploads = [stack.enter_context(connected(server.address)) for _ in range(8)]
        for upload in uploads:
            upload.send(request("POST", "/waits?u", {"Content-Length": "10"}) + b"12345")
        wait_until(lambda: len(answered(uploads)) == 2, "two of them are refused")
        with held(server, folder, 6, "/third", "t") as waiting:
            wait_until(lambda: len(answered(waiting)) == 2, "some are refused")
            assert get(server, "/static/page.txt").body == b"static"
            release(folder, 6, "t")
            answers = sorted(one.read_response().status for one in waiting)
        (folder / "u.end").touch()
        for upload in uploads:
            if upload not in answered(uploads):
                upload.send(b"67890")
        statuses = sorted(one.read_response().status for one in uploads)
    assert (answers, statuses) == ([200] * 4 + [503] * 2, [200] * 6 + [503] * 2)


def test_no_upload_is_awaited_where_as_many_wait_as_may(start_httpd: Start, folder: Path) -> None:
    """The group that is uploaded to has nothing to do: what waits for another's worker is told."""
    server = start_httpd(lines(folder, "threads=1 child-threads=100"))
    words = "too many requests of this httpd process wait for workers"
    with (
        held(server, folder, 10, "/third", "t") as waiting,
        connected(server.address) as upload,
        Memories(server) as memories,
    ):
        wait_until(lambda: memories.waiting() == 9, "9 wait behind the one that runs")
        upload.send(request("POST", "/waits?u", {"Content-Length": "10"}) + b"12345")
        assert upload.read_response().status == 503
        server.log.expect(f"GL0506.*'own': {words}")
        release(folder, 10, "t")
        assert {one.read_response().status for one in waiting} == {200}


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
def test_requests_whose_clients_left_while_they_waited_never_reach_python(
    start_httpd: Start, folder: Path, is_reset: bool
) -> None:
    """RELIABILITY C 8. Whoever comes behind them is served."""
    server = start_httpd([*lines(folder, "threads=1"), "LogLevel wsgi:info"])
    words = "the client left while the request waited"
    with held(server, folder, 5) as (first, *leaving, last):
        for one in leaving:
            if is_reset:
                one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        server.log.wait_for(words)
        (folder / "0.end").touch()
        (folder / "4.end").touch()
        assert first.read_response().status == last.read_response().status == 200
    server.stop()
    assert sorted(path.name for path in folder.glob("?.runs")) == ["0.runs", "4.runs"]
    assert requests_told(server, words)[1] == 3


@pytest.mark.looks_inside
def test_a_client_that_left_just_before_its_turn_never_reaches_python(
    start_httpd: Start, folder: Path
) -> None:
    """Between two looks for the client a thread becomes free."""
    server = start_httpd([*lines(folder, "threads=1"), "LogLevel wsgi:info"])
    for turn in range(10):
        prefix = f"turn{turn}-"
        with (
            held(server, folder, 2, prefix=prefix) as (first, leaving),
            Memories(server) as memories,
        ):
            wait_until(lambda rows=memories: rows.waiting() == 1, "the second one waits")
            leaving.close()
            (folder / f"{prefix}0.end").touch()
            assert first.read_response().status == 200
            wait_until(lambda rows=memories: rows.waiting() == 0, "its thread is told")
    server.stop()
    assert requests_told(server, "the client left while the request waited")[1] == 10
    assert not list(folder.glob("*-1.runs"))


def test_full_queues_of_workers_are_tried_again_for_connect_timeout(
    start_httpd: Start, folder: Path
) -> None:
    """RELIABILITY C 12. A worker that accepts nothing fills its queue: 503, and all is well as soon
    as it does."""
    fake = lying.fake_worker(folder)
    (folder / "app.wsgi").write_text("")
    server = start_httpd(
        [
            "WSGIDaemonProcess late threads=5 listen-backlog=1 connect-timeout=300ms home=/ "
            f'python="{fake}"',
            f'WSGIScriptAlias / "{folder}/app.wsgi" process-group=late '
            "application-group=%{GLOBAL}",
            *conf.granted(folder),
        ]
    )
    server.log.expect("GL0506.*listen-backlog=, were full for connect-timeout=")
    server.log.allow(
        "GL0503.*'late'|GL0506.*no connection to a worker"
    )  # what still had room in it
    refused = get(server, "/?lie=none")
    assert (refused.status, refused.header("Retry-After")) == (503, "1")
    (folder / "faults" / "files" / "late").touch()
    wait_until(lambda: get(server, "/?lie=none").body == b"hello", "it is served", 20)


def test_a_worker_that_says_no_hello_delays_nobody_while_another_is_idle(
    start_httpd: Start, folder: Path
) -> None:
    """connect-timeout is 15 s, and this client has less patience. Once known it is asked last."""
    fake = lying.fake_worker(folder)
    (folder / "app.wsgi").write_text("")
    server = start_httpd(
        [
            f'WSGIDaemonProcess half processes=2 threads=5 home=/ python="{fake}"',
            f'WSGIScriptAlias / "{folder}/app.wsgi" process-group=half '
            "application-group=%{GLOBAL}",
            *conf.granted(folder),
        ]
    )
    server.log.allow("GL0503.*'half'")
    wait_until(lambda: len(server.workers()) == 2, "both have been started", 20)
    for _ in range(40):
        assert get(server, "/?lie=none").body == b"hello"
    assert len(re.findall("GL0503.*'half'", server.log.text())) <= 1


def limit_files(child: int, most: int) -> None:
    """As the child's own user, who alone may without CAP_SYS_RESOURCE."""
    user = {"user": conf.USER, "group": conf.USER, "extra_groups": []}
    command = ["prlimit", "--pid", str(child), f"--nofile={most}:"]
    subprocess.run(command, check=True, **(user if os.geteuid() == 0 else {}))  # type: ignore[call-overload]


@pytest.mark.looks_inside
def test_a_child_without_descriptors_refuses_and_recovers(start_httpd: Start, folder: Path) -> None:
    """RELIABILITY C 13: EMFILE where a connection to a worker would be made."""
    server = start_httpd(lines(folder, "threads=1"))
    server.log.expect("GL0503.*LimitNOFILE")
    server.log.allow("GL0506.*no connection to a worker")
    with ExitStack() as stack:
        # httpd closes a connection behind a 503, and can accept none while it is short of files.
        clients = [stack.enter_context(connected(server.address)) for _ in range(4)]

        def ask(client: Connection, target: str) -> Response:
            client.send(request("GET", target))
            return client.read_response()

        for client in clients:
            assert ask(client, "/static/page.txt").body == b"static"
        (child,) = set(lying.children(server)) - {server.pid}
        # httpd closes what it sent after the client has it: such a number would be free again.
        wait_until(
            lambda: not any(file.endswith("page.txt") for file in census.files_open(child)),
            "it holds no page",
        )
        held_already = {int(path.name) for path in Path(f"/proc/{child}/fd").iterdir()}
        limit_files(child, min(set(range(len(held_already) + 1)) - held_already))
        for client in clients[:3]:
            refused = ask(client, "/other")
            assert (refused.status, refused.header("Retry-After")) == (503, "1")
        limit_files(child, 512)
        assert ask(clients[3], "/other").status == 200


def test_a_clock_that_jumps_ends_no_waiting(start_httpd: Start, folder: Path) -> None:
    """RELIABILITY C 22: NTP, suspend, an administrator."""
    shim = folder / "jumping_clock.so"
    source = Path(__file__).with_name("jumping_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    preload = " ".join([os.environ.get("LD_PRELOAD", ""), str(shim)]).strip()
    environ = {"LD_PRELOAD": preload, "PYGLUE_TEST_JUMP": str(folder / "jump")}
    server = start_httpd(lines(folder, "threads=1"), environ=environ)

    def serve_others() -> None:
        for _ in range(20):
            assert get(server, "/other").status == 200

    with held(server, folder, 2) as (first, waiting):
        serve_others()  # the second one has come to wait meanwhile
        (folder / "jump").touch()
        serve_others()  # and has looked at the clock
        for number in (0, 1):
            (folder / f"{number}.end").touch()
        assert first.read_response().status == 200
        assert waiting.read_response().status == 200


def test_stop_does_not_wait_for_what_waits(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines(folder, "processes=1 threads=1 python=/bin/false"))
    server.log.allow("GL05|PG1|AH00045")  # but not AH00046, a child that httpd has to kill
    with connected(server.address) as connection:
        connection.send(request("GET", "/waits?0"))
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root is the chain of files checked")
def test_supervisor_that_cannot_be_started_fails_requests_at_once(
    start_httpd: Start, folder: Path
) -> None:
    """The package lies where others than root can write: root executes nothing of it."""
    product = conf.prefix()
    copy = folder / "env"
    shutil.copytree(product, copy, symlinks=True)
    package = next(copy.glob("lib/python*/site-packages/pyglue"))
    package.chmod(0o777)
    server = Httpd(lines(folder, "threads=1"))
    text = (server.root / "httpd.conf").read_text()
    (server.root / "httpd.conf").write_text(text.replace(str(product), str(copy)))
    try:
        server.start()
        assert get(server, "/waits?0").status == 500
        server.log.wait_for("GL0602.*writable by others")
        server.log.wait_for("no supervisor can be started")
    finally:
        server.stop()
        server.remove()


HANGS = """\
import os, time
while not os.path.exists(__file__ + ".go"):
    time.sleep(0.05)
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"loaded"]
"""


def test_overload_while_all_workers_start_is_a_503_and_is_over_with_it(
    start_httpd: Start, folder: Path
) -> None:
    """RELIABILITY C 12: nothing hangs, and what comes later is served."""
    (folder / "app.py").write_text(HANGS)
    server = start_httpd(
        [
            "WSGIDaemonProcess own threads=2 queue-timeout=1 listen-backlog=3",
            f'WSGIScriptAlias /app "{folder}/app.py" process-group=own '
            "application-group=%{GLOBAL}",
            *conf.granted(folder),
        ]
    )
    server.log.expect("GL0506.*queue-timeout=")
    server.log.allow("GL0506.*listen-backlog=")
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(server.address)) for _ in range(6)]
        for one in waiting:
            one.send(request("GET", "/app"))
        answers = [one.read_response() for one in waiting]
    assert {(one.status, one.header("Retry-After")) for one in answers} == {(503, "1")}
    (folder / "app.py.go").touch()
    wait_until(lambda: get(server, "/app").body == b"loaded", "it is served", 20)
