# SPDX-License-Identifier: Apache-2.0
"""response-spool: clients that are slow to read hold no thread of Python's (RELIABILITY C 9)."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import census, conf, tls
from harness.client import Connection, CutError, ask, connected, request, wait_until
from harness.httpd import Httpd, complaint

APPS = Path(__file__).parents[1] / "apps"
NAMES = ("sends_a_file", "sends_blocks", "who")
Start = Callable[..., Httpd]
MIB = 1 << 20


def started(start_httpd: Start, folder: Path, options: str, *lines: str, **more: Any) -> Httpd:
    """Some applications in one group. Spool files go to a folder of the test's."""
    folder.chmod(0o777)
    (folder / "spool").mkdir()
    (folder / "spool").chmod(0o1777)
    for name in NAMES:
        shutil.copytree(APPS / name, folder / name)
    text = [
        f"WSGIDaemonProcess own {options}",
        "WSGIProcessGroup own",
        "WSGIApplicationGroup %{GLOBAL}",
        *(f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py"' for name in NAMES),
        f'SetEnv files "{folder}"',
        "SendBufferSize 16384",
        "Timeout 120",  # a client that does not read is dropped no sooner
        *conf.granted(folder),
        *lines,
    ]
    environ = {"TMPDIR": str(folder / "spool"), **more.pop("environ", {})}
    return start_httpd(text, environ=environ, **more)


def blocks(count: int) -> bytes:
    """What `sends_blocks` answers."""
    return b"".join(b"%08d" % number * 8192 for number in range(count))


def slow(server: Httpd, target: str, part: str = "") -> Connection:
    """A client that asked, and takes no more than a few KiB before it reads."""
    client = Connection(server.address, 20, receive_buffer=4096)
    client.send(request("GET", target, {"Range": part} if part else {}))
    return client


@contextmanager
def slow_ones(server: Httpd, target: str, count: int) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        clients = [slow(server, target) for _ in range(count)]
        for client in clients:
            stack.callback(client.close)
        yield clients


def closed(folder: Path) -> int:
    """How many responses the application is rid of."""
    note = folder / "closed"
    return len(note.read_text().split()) if note.exists() else 0


def spool_files(server: Httpd, folder: Path) -> int:
    assert list((folder / "spool").iterdir()) == []
    opened = [name for pid in server.processes() for name in census.descriptors(pid)]
    return sum(name.startswith(f"{folder}/spool/") for name in opened)


@pytest.mark.parametrize(
    ("mpm", "query"), [("event", "16"), ("worker", "16&length"), ("prefork", "16")]
)
def test_slow_readers_hold_no_thread(
    start_httpd: Start, folder: Path, mpm: str, query: str
) -> None:
    """Six responses of 1 MiB, one thread: it is free while none of them was read."""
    server = started(start_httpd, folder, "threads=1", mpm=mpm)
    server.log.allow("AH00161")  # of prefork's few children most serve slow clients
    with slow_ones(server, f"/sends_blocks?{query}", 6) as clients:
        wait_until(lambda: closed(folder) == 6, "the application is rid of all")
        for _ in range(20):
            assert ask(server.address, "/who").status == 200
        assert {client.read_response().body for client in clients} == {blocks(16)}
    wait_until(lambda: spool_files(server, folder) == 0, "all are closed")


def test_two_hundred_slow_readers_leave_four_threads_free(start_httpd: Start, folder: Path) -> None:
    limits = [f"{name} 300" for name in ("ThreadLimit", "ThreadsPerChild", "MaxRequestWorkers")]
    server = started(start_httpd, folder, "threads=4 listen-backlog=300", *limits)
    with slow_ones(server, "/sends_blocks?16", 200) as clients:
        wait_until(lambda: closed(folder) == 200, "the application is rid of all", 60)
        assert ask(server.address, "/who").status == 200
        assert {client.read_response().body for client in clients} == {blocks(16)}


@pytest.mark.looks_inside
@pytest.mark.parametrize(
    ("target", "way"),
    [
        ("/sends_blocks?32&length", ""),
        ("/sends_blocks?32", "chunked"),
        ("/sends_a_file?data", ""),
        ("/sends_a_file?data", "part"),
        ("/sends_a_file?noise", "deflate"),
        ("/sends_blocks?32", "tls"),
    ],
)
def test_clients_that_read_nothing_hold_no_thread_of_httpd(
    start_httpd: Start, folder: Path, target: str, way: str
) -> None:
    """More of them than httpd has threads. Each response is in a file when httpd is rid of it, and
    is whole when it is read after all."""
    noise = os.urandom(2 << 20)  # does not become smaller
    (folder / "data").write_bytes(blocks(32))
    (folder / "noise").write_bytes(noise)
    modules = {"deflate": ("filter", "deflate"), "tls": tls.MODULES}.get(way, ())
    lines = ["SetOutputFilter DEFLATE"] if way == "deflate" else []
    lines += tls.lines(folder) if way == "tls" else []
    headers = {"part": {"Range": "bytes=1-2000000"}, "deflate": {"Accept-Encoding": "gzip"}}
    expected = noise if "noise" in target else blocks(32)
    server = started(start_httpd, folder, "threads=1 child-threads=100", *lines, modules=modules)
    server.log.allow(r"\[ssl:warn\]|AH00484")  # all threads are busy for a moment

    def connect(target: str, fields: dict[str, str]) -> Connection:
        client = Connection(server.address, 20, receive_buffer=4096)
        if way == "tls":
            tls.encrypt(client)
        client.send(request("GET", target, fields))
        return client

    def wait_for_files(count: int) -> None:
        wait_until(lambda: spool_files(server, folder) == count, f"there are {count} files", 60)

    def ask_others() -> None:
        with closing(connect("/who", {})) as other:
            assert other.read_response().status == 200

    ask_others()  # the child is up
    with ExitStack() as stack:
        clients = []
        for number in range(16):
            clients.append(connect(target, headers.get(way, {})))
            stack.callback(clients[-1].close)
            wait_for_files(number + 1)
        for _ in range(20):
            ask_others()
        for client in clients[:12]:
            body = client.read_response().body
            body = zlib.decompress(body, 31) if way == "deflate" else body
            assert body == (expected[1:2000001] if way == "part" else expected)
    wait_for_files(0)


@pytest.mark.parametrize("options", ["response-spool=1M", "response-spool=100K", ""])
def test_response_passes_through_the_spool_whole(
    start_httpd: Start, folder: Path, options: str
) -> None:
    """32 MiB, which a slow client begins to read when the spool is full."""
    server = started(start_httpd, folder, f"threads=1 {options}")
    with slow_ones(server, "/sends_blocks?512&length", 1) as (client,):
        head = client.read_head()
        if options != "response-spool=100K":
            wait_until(lambda: spool_files(server, folder) == 1, "there is a file")
        assert client.read_body(head).body == blocks(512)
    assert ask(server.address, "/who").status == 200


def test_without_a_spool_a_slow_reader_holds_its_thread(start_httpd: Start, folder: Path) -> None:
    server = started(start_httpd, folder, "threads=1 response-spool=0 listen-backlog=0")
    server.log.expect("GL0506.*listen-backlog")
    wait_until(lambda: ask(server.address, "/who").status == 200, "the worker is there")
    with slow_ones(server, "/sends_blocks?64", 1) as (client,):
        head = client.read_head()
        assert head.status == 200
        assert ask(server.address, "/who").status == 503
        assert client.read_body(head).body == blocks(64)


def test_client_that_leaves_ends_it_all(start_httpd: Start, folder: Path) -> None:
    """Both run: one that still waited would never reach the application."""
    server = started(start_httpd, folder, "threads=2 response-spool=4M")
    with slow_ones(server, "/sends_blocks?16", 2):
        wait_until(lambda: closed(folder) == 2, "both have ended")
    with slow_ones(server, "/sends_blocks?100000", 2):
        wait_until(lambda: spool_files(server, folder) == 2, "both run, and have a file")
    wait_until(lambda: spool_files(server, folder) == 0, "all are closed")
    wait_until(lambda: closed(folder) == 4, "the application knows")
    assert ask(server.address, "/who").status == 200


@pytest.mark.parametrize(
    ("part", "option", "line"),
    [
        ("", "", ""),
        ("bytes=100000-2000000", "", ""),
        ("", "pass-descriptors=on", "WSGIEnableSendfile On"),
    ],
)
def test_slow_readers_of_files_hold_no_thread(
    start_httpd: Start, folder: Path, part: str, option: str, line: str
) -> None:
    """A file that httpd pulls, a part of it, and one that it was passed."""
    server = started(start_httpd, folder, f"threads=1 {option}", line)
    data = os.urandom(3 * MIB)
    (folder / "data").write_bytes(data)
    with ExitStack() as stack:
        clients = [slow(server, "/sends_a_file?data", part) for _ in range(8)]
        for client in clients:
            stack.callback(client.close)
        heads = {client: client.read_head() for client in clients}
        for _ in range(20):
            assert ask(server.address, "/who").status == 200
        bodies = {client.read_body(head).body for client, head in heads.items()}
    assert bodies == {data[100_000:2_000_001] if part else data}


def test_graceful_restart_cuts_no_slow_reader(start_httpd: Start, folder: Path) -> None:
    """One has taken nothing, another so much that httpd needs no thread for the rest."""
    server = started(start_httpd, folder, "threads=1")
    with slow_ones(server, "/sends_blocks?32&length", 2) as (first, second):
        heads = [client.read_head() for client in (first, second)]
        wait_until(lambda: closed(folder) == 2, "both have ended")
        part = second.read_exactly(300_000)
        server.graceful()
        wait_until(lambda: ask(server.address, "/who").status == 200, "the next child serves")
        assert first.read_body(heads[0]).body == blocks(32)
        assert part + second.read_exactly((2 << 20) - len(part)) == blocks(32)


RAISES = """\
def application(environ, start_response):
    start_response("200 OK", [])
    for number in range(16):
        yield b"%08d" % number * 8192
    open(environ["files"] + "/closed", "w").write("closed")
    raise ValueError("raised at the end")
"""


def test_response_that_fails_while_its_client_is_slow_is_seen_as_cut(
    start_httpd: Start, folder: Path
) -> None:
    (folder / "raises.py").write_text(RAISES)
    server = started(
        start_httpd, folder, "threads=1", f'WSGIScriptAlias /raises "{folder}/raises.py"'
    )
    server.log.expect_traceback("ValueError: raised at the end")
    with slow_ones(server, "/raises", 1) as (client,):
        wait_until(lambda: closed(folder) == 1, "it fails")
        assert ask(server.address, "/who").status == 200
        with pytest.raises(CutError) as cut:
            client.read_response()
    assert cut.value.response.body == blocks(16)


def test_client_that_a_filter_makes_slow_holds_no_thread(start_httpd: Start, folder: Path) -> None:
    """mod_ratelimit sleeps where it is called."""
    limit = ["<Location /sends_blocks>", "SetOutputFilter RATE_LIMIT", "SetEnv rate-limit 256"]
    server = started(
        start_httpd, folder, "threads=1", *limit, "</Location>", modules=("ratelimit",)
    )
    with connected(server.address) as client:
        client.send(request("GET", "/sends_blocks?8"))
        wait_until(lambda: closed(folder) == 1, "the application is rid of it")
        assert ask(server.address, "/who").status == 200
        assert client.read_response().body == blocks(8)


def test_slow_reader_of_http2_holds_no_thread(start_httpd: Start, folder: Path) -> None:
    """It is stopped by a pipe that nobody reads."""
    server = started(
        start_httpd, folder, "threads=1 response-spool=64M", "Protocols h2c", modules=("http2",)
    )
    url = f"{server.url}/sends_blocks?512"
    command = ["curl", "-s", "--http2-prior-knowledge", "--max-time", "60", url]
    plain = {"PATH": os.environ["PATH"]}  # curl is not what sanitizers watch
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=plain) as client:
        assert client.stdout
        first = client.stdout.read(65536)
        wait_until(lambda: closed(folder) == 1, "the application is rid of it")
        again = subprocess.run(
            [*command[:-1], f"{server.url}/who"], stdout=subprocess.PIPE, env=plain, check=True
        )
        assert b"pid" in again.stdout
        assert first + client.stdout.read() == blocks(512)
    assert client.returncode == 0


def test_where_no_file_can_be_made_the_spool_is_its_memory(
    start_httpd: Start, folder: Path
) -> None:
    """RELIABILITY C 16: httpd's user lost the folder."""
    server = started(start_httpd, folder, "threads=1")
    server.log.expect("GL0520.*body of a response.*TMPDIR")
    assert ask(server.address, "/who").status == 200
    (folder / "spool").chmod(0o500)
    with slow_ones(server, "/sends_blocks?512&length", 1) as (client,):
        client.read_head()
        pieces: list[bytes] = []
        wait_until(
            lambda: pieces.append(client.read_exactly(1024)) or "GL0520" in server.log.text(),
            "the log tells, while the client reads slowly",
        )
        pieces.append(client.read_exactly((512 << 16) - sum(map(len, pieces))))
        assert b"".join(pieces) == blocks(512)
    assert ask(server.address, "/who").status == 200


def test_file_system_that_knows_no_unnamed_files_will_do(start_httpd: Start, folder: Path) -> None:
    shim = folder / "no_tmpfile.so"
    source = Path(__file__).parents[1] / "faults" / "no_tmpfile.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    preload = " ".join([os.environ.get("LD_PRELOAD", ""), str(shim)]).strip()
    server = started(start_httpd, folder, "threads=1", environ={"LD_PRELOAD": preload})
    with slow_ones(server, "/sends_blocks?64", 1) as (client,):
        wait_until(lambda: closed(folder) == 1, "the application is rid of it")
        wait_until(lambda: spool_files(server, folder) > 0, "there is a file, without a name")
        assert client.read_response().body == blocks(64)


@pytest.mark.parametrize("value", ["-1", "2G", "some"])
def test_wrong_size_is_refused(value: str) -> None:
    assert "response-spool" in complaint([f"WSGIDaemonProcess own response-spool={value}"])
