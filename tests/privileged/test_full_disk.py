# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 16: the disk is full where slow clients' bodies would be kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import conf
from harness.client import Connection, ask, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
NAMES = ("hashes_the_body", "sends_blocks", "who")
Start = Callable[..., Httpd]
MIB = 1 << 20


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """1 MiB for spool files."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=1777", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def server(small_disk: Path, start_httpd: Start, folder: Path) -> Iterator[Httpd]:
    """Ended before its disk is taken away."""
    folder.chmod(0o777)
    for name in NAMES:
        shutil.copytree(APPS / name, folder / name)
    lines = [
        "WSGIDaemonProcess own threads=1 request-buffering=32M",
        "WSGIProcessGroup own",
        *(f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py"' for name in NAMES),
        f'SetEnv files "{folder}"',
        "SendBufferSize 16384",
        *conf.granted(folder),
    ]
    made = start_httpd(lines, environ={"TMPDIR": str(small_disk)})
    yield made
    made.stop()


def test_response_waits_for_its_client_as_if_there_were_no_spool(
    server: Httpd, folder: Path
) -> None:
    server.log.expect("GL0520.*body of a response.*No space left|No space left.*GL0520")
    client = Connection(server.address, 20, receive_buffer=4096)
    client.send(request("GET", "/sends_blocks?512&length"))
    head = client.read_head()
    wait_until(lambda: shutil.disk_usage(folder / "disk").free == 0, "the disk is full")
    assert not (folder / "closed").exists()
    expected = b"".join(b"%08d" % number * 8192 for number in range(512))
    assert client.read_body(head).body == expected
    client.close()
    assert ask(server.address, "/who").status == 200
    wait_until(lambda: shutil.disk_usage(folder / "disk").used == 0, "nothing is left on it")


def test_upload_is_pulled_as_if_it_were_not_read_ahead(server: Httpd, folder: Path) -> None:
    server.log.expect("GL0520.*body of a request")
    body = os.urandom(16 * MIB)
    for _ in range(2):
        answer = ask(server.address, "/hashes_the_body", "POST", body=body)
        assert answer.text == hashlib.sha256(body).hexdigest()
    assert server.log.text().count("GL0520") == 1, "told once a minute"
    wait_until(lambda: shutil.disk_usage(folder / "disk").used == 0, "nothing is left on it")
