# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 15: calls on the wire that are interrupted or do less than was asked for, in
httpd's child, in the worker, and in both, change no answer."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import conf, site
from harness.client import CutError, chunked, connected, request
from harness.httpd import Httpd, new_root
from harness.load import Load

APPS = Path(__file__).parents[1] / "apps"
NAMES = ("echo", "echo_streaming", "logs", "numbered", "raises", "reads_by", "sends_a_file",
         "sends_before_it_reads", "zeros")  # fmt: skip
BODY = bytes(range(256)) * 512


@pytest.fixture(scope="module")
def shim() -> Iterator[Path]:
    folder = new_root()
    source = Path(__file__).with_name("short_calls.c")
    made = folder / "short_calls.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["child", "worker", "both"])
def server(request: pytest.FixtureRequest, shim: Path) -> Iterator[Httpd]:
    root = new_root()
    marks = root / "marks"
    marks.mkdir()
    marks.chmod(0o777)
    environ = {"PYGLUE_TEST_SHORT": str(marks / "child")}
    if request.param != "worker":
        environ["LD_PRELOAD"] = f"{os.environ.get('LD_PRELOAD', '')} {shim}".strip()
    own = ""
    if request.param != "child":
        own = f'python="{python_with(shim, root, marks)}"'
    started = site_of(root, own, environ).start()
    site.warm(started)
    started.interrupted = request.param  # type: ignore[attr-defined]
    yield started
    site.end(started)


def python_with(shim: Path, root: Path, marks: Path) -> Path:
    """A worker gets nothing of httpd's LD_PRELOAD."""
    made = root / "python"
    lines = [
        "#!/bin/sh",
        f'export PYGLUE_TEST_SHORT="{marks}/worker" PYGLUE_TEST_SHORT_EPOLL=1',
        f'export LD_PRELOAD="${{LD_PRELOAD:-}} {shim}"',
        f'exec "{conf.prefix()}/bin/python" "$@"',
    ]
    made.write_text("\n".join(lines) + "\n")
    made.chmod(0o755)
    return made


def site_of(root: Path, own: str, environ: dict[str, str]) -> Httpd:
    copied = site.copy_apps(APPS, root)
    (root / "files").mkdir()
    (root / "files").chmod(0o777)
    lines = [
        f"WSGIDaemonProcess tests threads=6 {own}",
        "WSGIProcessGroup tests",
        "WSGIApplicationGroup %{GLOBAL}",
        *(site.mount(name, copied) for name in (*NAMES, "environ")),
        *conf.granted(copied),
        f'SetEnv files "{root}/files"',
    ]
    return Httpd(lines, root=root, environ=environ)


def marked(server: Httpd) -> set[str]:
    return {path.name.split(".")[0] for path in (server.root / "marks").iterdir()}


def ask(server: Httpd, target: str, body: bytes = b"", **headers: str) -> bytes:
    method = "POST" if body or headers else "GET"
    with connected(server.address) as connection:
        connection.send(request(method, target, headers, body))
        response = connection.read_response()
        assert response.status == 200, (response.status, server.log.text())
        return response.body


def test_the_calls_are_interrupted(server: Httpd) -> None:
    """Else the tests below prove nothing."""
    ask(server, "/echo", BODY)
    wanted = {"child": {"child"}, "worker": {"worker"}, "both": {"child", "worker"}}
    assert marked(server) == wanted[server.interrupted]  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", ["/echo", "/echo_streaming"])
def test_an_upload_comes_back_whole(server: Httpd, target: str) -> None:
    assert hashlib.sha256(ask(server, target, BODY)).digest() == hashlib.sha256(BODY).digest()


def test_a_chunked_upload_comes_back_whole(server: Httpd) -> None:
    coded = {"Transfer-Encoding": "chunked"}
    with connected(server.address) as connection:
        connection.send(request("POST", "/echo_streaming", coded, chunked(BODY[:9], BODY[9:])))
        assert connection.read_response().body == BODY


@pytest.mark.parametrize("length", ["", "&length"])
def test_a_download_comes_whole(server: Httpd, length: str) -> None:
    assert ask(server, f"/zeros?300000{length}") == bytes(300_000)


def test_a_file_comes_whole_and_in_parts(server: Httpd) -> None:
    (server.root / "files" / "sent").write_bytes(BODY)
    assert ask(server, "/sends_a_file?sent") == BODY
    part = {"Range": "bytes=1000-70999"}
    with connected(server.address) as connection:
        connection.send(request("GET", f"/sends_a_file?sent&0&{len(BODY)}", part))
        assert connection.read_response().body == BODY[1000:71000]


def test_requests_on_a_kept_connection_keep_their_order(server: Httpd) -> None:
    with connected(server.address) as connection:
        for i in range(20):
            connection.send(request("GET", f"/numbered?{i}"))
            assert connection.read_response().text.split()[1] == str(i)


def test_many_at_once_get_their_own_answers(server: Httpd) -> None:
    with Load(server.address, "/numbered?{number}", clients=5) as load:
        load.wait_for_more(100)
    assert (load.tally().wrong, load.failures()) == (0, [])


def test_what_an_application_logs_is_logged(server: Httpd) -> None:
    for what in ("wsgi.errors", "sys.stderr", "sys.stdout"):
        server.log.expect(f"by {what}")
    assert ask(server, "/logs") == b"logged"
    server.log.check()


def test_a_response_that_fails_is_seen_as_cut(server: Httpd) -> None:
    server.log.expect_traceback("raised")
    with connected(server.address) as connection:
        connection.send(request("GET", "/raises?after"))
        with pytest.raises(CutError):
            connection.read_response()
    server.log.check()


def test_a_client_that_leaves_holds_no_thread(server: Httpd) -> None:
    for _ in range(8):
        with connected(server.address) as connection:
            connection.send(request("GET", "/zeros?3000000"))
            connection.read_head()
    server.log.allow("PG2001|GL0|PG3|OSError|Traceback|] +")
    assert ask(server, "/echo", BODY) == BODY
    server.log.check()
