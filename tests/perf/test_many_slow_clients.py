# SPDX-License-Identifier: Apache-2.0
"""How long quick requests to a group of two threads take while as many clients upload slowly, and
as many read nothing of their responses, and those to another group and for a static file: printed,
never asserted. What is asserted is who is answered, and that httpd is rid of what nobody reads.

    PYGLUE_CLIENTS=1000 PYGLUE_SECONDS=20 make test T='-s tests/perf/test_many_slow_clients.py'"""

from __future__ import annotations

import multiprocessing
import os
import resource
import select
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
from harness import census, conf
from harness.client import Connection, ask, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
NAMES = ("hashes_the_body", "sends_blocks", "who")
CLIENTS = int(os.environ.get("PYGLUE_CLIENTS", "60"))  # of each kind
SECONDS = float(os.environ.get("PYGLUE_SECONDS", "2"))
TURN = 1.0  # s between two pieces of an upload
PIECE = 256
UPLOAD = request("POST", "/hashes_the_body", body=bytes(60_000))
DOWNLOAD = request("GET", "/sends_blocks?8&length")  # 512 KiB
TARGETS = ("/who", "/other", "/static/page.txt")
PAUSE = 0.01  # s between two quick requests, and between two slow ones that come
FILES = 6 * CLIENTS + 2000  # descriptors: a connection, and a file of its response
Start = Callable[..., Httpd]


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = before[1] if before[1] != resource.RLIM_INFINITY else FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(FILES, before[0]), most), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def enough_threads() -> list[str]:
    """A thread of httpd's for each upload, as it needs one, and as many for what else there is. In
    one process, because the share of a group is counted there."""
    threads = CLIENTS * 2 + 25
    names = ("ThreadLimit", "ThreadsPerChild", "MaxRequestWorkers", "MaxSpareThreads")
    return ["ServerLimit 1", "StartServers 1", *(f"{name} {threads}" for name in names)]


def usual_threads() -> list[str]:
    """Fewer than uploads. The last line is not usual: a process takes connections that need no
    thread by the number of its idle ones, of which uploads leave a half."""
    return [
        "ServerLimit 16",
        "StartServers 16",
        "ThreadLimit 64",
        "ThreadsPerChild 25",
        "MaxRequestWorkers 400",
        "MaxSpareThreads 400",
        "AsyncRequestWorkerFactor 20",
    ]


def started(start_httpd: Start, folder: Path, limits: list[str]) -> Httpd:
    folder.chmod(0o777)
    (folder / "spool").mkdir()
    (folder / "spool").chmod(0o1777)
    (folder / "page.txt").write_text("static")
    for name in NAMES:
        shutil.copytree(APPS / name, folder / name)
    lines = [
        *limits,
        f"WSGIDaemonProcess own threads=2 listen-backlog={2 * CLIENTS + 100}",
        "WSGIDaemonProcess other threads=2",
        *(f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py" process-group=own' for name in NAMES),
        f'WSGIScriptAlias /other "{folder}/who/wsgi.py" process-group=other',
        f'Alias /static "{folder}"',
        f'SetEnv files "{folder}"',
        "SendBufferSize 16384",
        "Timeout 300",
        *conf.granted(folder),
    ]
    return start_httpd(lines, environ={"TMPDIR": str(folder / "spool")})


def live(address: tuple[str, int], pipe: Pipe) -> None:
    """The slow clients, in a process of their own: what is measured does not wait for them. First
    those that do not read, then, at a word, those that upload; each time it says that they are
    there, and at the end how many uploads were answered before they were whole."""
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            other = stack.enter_context(closing(Connection(address, 60, receive_buffer=4096)))
            other.send(DOWNLOAD)
            time.sleep(PAUSE)
        pipe.send("there")
        pipe.recv()
        uploads, poll = [], select.poll()
        for _ in range(CLIENTS):
            uploads.append(stack.enter_context(closing(Connection(address, 60))))
            uploads[-1].send(UPLOAD[:PIECE])
            poll.register(uploads[-1].socket, select.POLLIN)
            time.sleep(PAUSE)
        pipe.send("there")
        refused: set[int] = set()
        for start in range(PIECE, len(UPLOAD), PIECE):
            refused |= {number for number, _ in poll.poll(0)}
            for upload in uploads:
                if upload.socket.fileno() not in refused:
                    upload.send(UPLOAD[start : start + PIECE])
            if pipe.poll(TURN):
                break
        pipe.send(len(refused))


@contextmanager
def slow_clients(server: Httpd) -> Iterator[Pipe]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=live, args=(server.address, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        here.send("over")
        refused = here.recv()
        process.join(60)
        print(f"uploads that were refused: {refused} of {CLIENTS}")


def ask_quickly(server: Httpd, goes_on: Callable[[], bool]) -> dict[str, list[tuple[float, int]]]:
    """One after the other, each on a connection of its own: milliseconds and status."""
    asked: dict[str, list[tuple[float, int]]] = {target: [] for target in TARGETS}
    while goes_on():
        for target in TARGETS:
            begun = time.monotonic()
            status = ask(server.address, target).status
            asked[target].append((1000 * (time.monotonic() - begun), status))
            time.sleep(PAUSE)
    return asked


def show(when: str, asked: dict[str, list[tuple[float, int]]]) -> None:
    for target, answers in asked.items():
        times = sorted(taken for taken, _ in answers)
        figures = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
        right = sum(status == 200 for _, status in answers)
        cells = (when, target, len(times), right, *(f"{figure:.1f}" for figure in figures))
        print("|", " | ".join(map(str, cells)), "|")


def responses_held(server: Httpd, folder: Path) -> int:
    """Without a name, in files of httpd's."""
    opened = [name for pid in server.processes() for name in census.descriptors(pid)]
    return sum(name.startswith(f"{folder}/spool/") for name in opened)


@pytest.mark.looks_inside
@pytest.mark.timeout(300)
@pytest.mark.parametrize("limits", [enough_threads, usual_threads])
def test_quick_requests_beside_many_slow_clients(
    start_httpd: Start, folder: Path, limits: Callable[[], list[str]]
) -> None:
    server = started(start_httpd, folder, limits())
    server.log.allow("GL050|OSError|Traceback|  File|    |AH")
    assert {ask(server.address, target).status for target in TARGETS} == {200}
    print(f"\n{limits.__name__}: {', '.join(limits())}")
    with slow_clients(server) as pipe:
        show("those that do not read come", ask_quickly(server, lambda: not pipe.poll()))
        if limits is enough_threads:
            wait_until(lambda: responses_held(server, folder) == CLIENTS, "all are in files", 60)
        pipe.send(pipe.recv())
        show("uploads come", ask_quickly(server, lambda: not pipe.poll()))
        pipe.recv()
        end = time.monotonic() + SECONDS
        steady = ask_quickly(server, lambda: time.monotonic() < end)
        show("all are there", steady)
        print(f"responses in files: {responses_held(server, folder)} of {CLIENTS}")
    assert {status for answers in steady.values() for _, status in answers} == {200}
