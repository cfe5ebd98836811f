# SPDX-License-Identifier: Apache-2.0
"""request-buffering: clients that are slow to send hold no thread of Python's (RELIABILITY C 9)."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import census, conf
from harness.client import Connection, ask, chunked, connected, request, wait_until
from harness.httpd import Httpd, complaint

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]
MIB = 1 << 20


def started(start_httpd: Start, folder: Path, options: str, *lines: str, **more: Any) -> Httpd:
    """Some applications in a group of one thread. Spool files go to a folder of the test's."""
    folder.chmod(0o777)
    spool = folder / "spool"
    if not spool.exists():
        spool.mkdir()
        spool.chmod(0o1777)
    names = ("hashes_the_body", "ignores_the_body", "waits", "who")
    for name in names:
        shutil.copytree(APPS / name, folder / name)
    group = [f"WSGIDaemonProcess own threads=1 {options}", "WSGIProcessGroup own", "Timeout 60"]
    aliases = [f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py"' for name in names]
    text = [*group, *aliases, *conf.granted(folder), *lines]
    return start_httpd(text, environ={"TMPDIR": str(spool)}, **more)


def spool_files(server: Httpd, folder: Path) -> int:
    """How many httpd's children hold open; none has a name."""
    assert list((folder / "spool").iterdir()) == []
    opened = [name for pid in server.processes() for name in census.descriptors(pid)]
    return sum(name.startswith(f"{folder}/spool/") for name in opened)


@contextmanager
def half_sent(server: Httpd, body: bytes, count: int, **headers: str) -> Iterator[list[Connection]]:
    """So many uploads, of which the first half was sent."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server.address)) for _ in range(count)]
        for client in clients:
            head = request("POST", "/hashes_the_body", {"Content-Length": str(len(body))})
            client.send(head + body[: len(body) // 2])
        yield clients


def finish(clients: list[Connection], body: bytes) -> None:
    for client in clients:
        client.send(body[len(body) // 2 :])
    answers = {client.read_response().text for client in clients}
    assert answers == {hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize(("options", "size"), [("", 65536), ("request-buffering=2M", 2 * MIB)])
def test_slow_uploads_hold_no_thread(
    start_httpd: Start, folder: Path, options: str, size: int
) -> None:
    """As many as the group may have in httpd; it has one thread of Python's."""
    server = started(start_httpd, folder, options)
    body = os.urandom(size)
    with half_sent(server, body, 6) as clients:
        for _ in range(20):
            assert ask(server.address, "/who").status == 200
        finish(clients, body)


def test_two_hundred_slow_uploads_leave_four_threads_free(start_httpd: Start, folder: Path) -> None:
    limits = [f"{name} 400" for name in ("ThreadLimit", "ThreadsPerChild", "MaxRequestWorkers")]
    server = started(start_httpd, folder, "threads=4 listen-backlog=300", *limits)
    body = os.urandom(60_000)
    with half_sent(server, body, 200) as clients:
        for _ in range(20):
            assert ask(server.address, "/who").status == 200
        finish(clients, body)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (["own"], r"two thirds of its share .*child-threads="),
        (["own", "second"], "clients send, those of all groups"),
    ],
)
def test_more_slow_uploads_than_threads_leave_httpd_to_others(
    start_httpd: Start, folder: Path, groups: list[str], words: str
) -> None:
    """Six of its twelve threads wait for clients, whichever groups these mean, and no more, so that
    their groups' quick requests are served, too. What is refused is so at once, though its body has
    not come."""
    folder.chmod(0o777)
    for name in ("hashes_the_body", "who"):
        shutil.copytree(APPS / name, folder / name)
    (folder / "page.txt").write_text("static")
    uploads = f'"{folder}/hashes_the_body/wsgi.py" process-group='
    who = f'"{folder}/who/wsgi.py" process-group='
    server = start_httpd(
        [
            *(f"WSGIDaemonProcess {name} threads=1" for name in (*groups, "other")),
            *(f"WSGIScriptAlias /{name} {uploads}{name}" for name in groups),
            *(f"WSGIScriptAlias /who/{name} {who}{name}" for name in (*groups, "other")),
            f'Alias /static "{folder}"',
            "Timeout 60",
            *conf.granted(folder),
        ]
    )
    server.log.expect(f"GL0506.*{words}")
    body = os.urandom(60_000)
    with ExitStack() as stack:
        clients = []
        for number in range(40):
            clients.append(stack.enter_context(connected(server.address)))
            head = {"Content-Length": str(len(body))}
            target = f"/{groups[number % len(groups)]}"
            clients[-1].send(request("POST", target, head) + body[:1000])
        sockets = [client.socket for client in clients]
        wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) == 34, "34 are refused")
        refused = select.select(sockets, [], [], 0)[0]
        for _ in range(20):
            for name in (*groups, "other"):
                assert ask(server.address, f"/who/{name}").status == 200
            assert ask(server.address, "/static/page.txt").body == b"static"
        for client in clients:
            if client.socket in refused:
                assert client.read_response().status == 503
        for client in clients:
            if client.socket not in refused:
                client.send(body[1000:])
                assert client.read_response().text == hashlib.sha256(body).hexdigest()


def test_upload_beyond_the_limit_is_pulled(start_httpd: Start, folder: Path) -> None:
    """Its first part was read ahead: the application has it, and waits for the rest."""
    server = started(start_httpd, folder, "request-buffering=300K")
    for size in (65535, 65536, 65537, 300 * 1024, 300 * 1024 + 1, 3 * MIB):
        body = os.urandom(size)
        answer = ask(server.address, "/hashes_the_body", "POST", body=body)
        assert answer.text == hashlib.sha256(body).hexdigest(), size


def test_nothing_is_awaited_where_the_option_is_0(start_httpd: Start, folder: Path) -> None:
    """The application runs before the second half of the body has come."""
    server = started(start_httpd, folder, "request-buffering=0", f'SetEnv files "{folder}"')
    with connected(server.address) as client:
        client.send(request("POST", "/waits?a", {"Content-Length": "2"}) + b"a")
        wait_until((folder / "a.runs").exists, "it runs")
        (folder / "a.end").touch()
        client.send(b"b")
        assert client.read_response().body == b"done"


def test_more_than_a_buffer_lies_in_a_file_without_a_name(start_httpd: Start, folder: Path) -> None:
    server = started(start_httpd, folder, "request-buffering=8M")
    body = os.urandom(8 * MIB)
    with half_sent(server, body, 3) as clients:
        wait_until(lambda: spool_files(server, folder) == 3, "each has its file")
        finish(clients, body)
    wait_until(lambda: spool_files(server, folder) == 0, "all are closed")


def test_file_of_a_client_that_leaves_is_closed(start_httpd: Start, folder: Path) -> None:
    server = started(start_httpd, folder, "request-buffering=8M")
    server.log.allow("OSError|Traceback|  File|    ")
    with half_sent(server, os.urandom(8 * MIB), 3):
        wait_until(lambda: spool_files(server, folder) == 3, "each has its file")
    wait_until(lambda: spool_files(server, folder) == 0, "all are closed")
    assert ask(server.address, "/who").status == 200


@pytest.mark.parametrize(
    ("options", "size", "is_sent"),
    [("", 4, False), ("request-buffering=1M", 4, True), ("request-buffering=1M", 2 * MIB, False)],
)
def test_httpd_says_continue_for_a_body_that_it_was_asked_to_hold(
    start_httpd: Start, folder: Path, options: str, size: int, is_sent: bool
) -> None:
    """By default, and for what cannot be held whole, that is the application's choice."""
    server = started(start_httpd, folder, options)
    headers = {"Expect": "100-continue", "Content-Length": str(size)}
    with connected(server.address) as connection:
        connection.send(request("POST", "/ignores_the_body", headers))
        if is_sent:
            assert b" 100 " in connection.socket.recv(1000)
            connection.send(bytes(size))
        response = connection.read_response()
        assert (response.body, response.interim) == (b"ignored", [])


@pytest.mark.parametrize("options", ["", "request-buffering=1M"])
def test_chunked_body_is_read_ahead_if_the_group_asks_for_more_than_usual(
    start_httpd: Start, folder: Path, options: str
) -> None:
    server = started(start_httpd, folder, options)
    body = os.urandom(500_000)
    headers = {"Transfer-Encoding": "chunked"}
    parts = chunked(body[:250_000], body[250_000:])
    with connected(server.address) as client:
        client.send(request("POST", "/hashes_the_body", headers) + parts[:260_000])
        if options:
            assert ask(server.address, "/who").status == 200
        client.send(parts[260_000:])
        assert client.read_response().text == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("value", ["-1", "2G", "many", "1.5M"])
def test_wrong_size_is_refused(value: str) -> None:
    assert "request-buffering" in complaint([f"WSGIDaemonProcess own request-buffering={value}"])
