# SPDX-License-Identifier: Apache-2.0
"""Bodies of any size pass through httpd and worker in constant memory (RELIABILITY C 11).

256 MiB each; `PYGLUE_MIB=1024 make test T=tests/http/test_constant_memory.py` for more."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from harness import conf
from harness.client import connected, request
from harness.httpd import Httpd
from harness.load import repeated

APPS = Path(__file__).parents[1] / "apps"
NAMES = ("hashes_the_body", "sends_blocks")
Start = Callable[..., Httpd]
MIB = 1 << 20
COUNT = int(os.environ.get("PYGLUE_MIB", "256")) * 16  # blocks of 64 KiB
BLOCKS = [b"%08d" % number * 8192 for number in range(64)]


def started(start_httpd: Start, folder: Path, options: str) -> Httpd:
    folder.chmod(0o777)
    for name in NAMES:
        shutil.copytree(APPS / name, folder / name)
    return start_httpd(
        [
            f"WSGIDaemonProcess own {options}",
            "WSGIProcessGroup own",
            *(f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py"' for name in NAMES),
            f'SetEnv files "{folder}"',
            *conf.granted(folder),
        ],
    )


def resident(server: Httpd) -> dict[int, int]:
    """Bytes of each process."""
    found = {}
    for pid in server.processes():
        with suppress(OSError):  # it has ended
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found[pid] = int(re.search(r"^Rss: +(\d+) kB", text, re.MULTILINE)[1]) << 10  # type: ignore[index]
    return found


@contextmanager
def flat(server: Httpd) -> Iterator[None]:
    """While the block runs, no process that is there before grows by 4 MiB."""
    before = resident(server)
    most: dict[int, int] = {}

    def look() -> None:
        for pid, size in resident(server).items():
            most[pid] = max(size, most.get(pid, 0))

    with repeated(look, 0.02):
        yield
    grown = {pid: (most[pid] - size) / MIB for pid, size in before.items() if pid in most}
    assert grown and max(grown.values()) < 4, grown


def upload(server: Httpd, count: int, coding: str) -> None:
    """So many blocks, and the digest that comes back."""
    digest = hashlib.sha256()
    with connected(server.address) as client:
        chunked = coding == "chunked"
        head = {"Transfer-Encoding": coding} if chunked else {"Content-Length": str(count << 16)}
        client.send(request("POST", "/hashes_the_body", head))
        for number in range(count):
            block = BLOCKS[number % len(BLOCKS)]
            digest.update(block)
            client.send(b"10000\r\n%s\r\n" % block if chunked else block)
        client.send(b"0\r\n\r\n" if chunked else b"")
        assert client.read_response().text == digest.hexdigest()


def download(server: Httpd, count: int, coding: str) -> None:
    expected, found = hashlib.sha256(), hashlib.sha256()
    for number in range(count):
        expected.update(b"%08d" % number * 8192)
    with connected(server.address) as client:
        query = f"{count}&length" if coding == "length" else str(count)
        client.send(request("GET", f"/sends_blocks?{query}"))
        client.read_head()
        if coding == "length":
            for _ in range(count):
                found.update(client.read_exactly(65536))
        else:
            while chunk := client.read_chunk():
                found.update(chunk)
    assert found.hexdigest() == expected.hexdigest()


@pytest.mark.looks_inside
@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize(
    ("transfer", "options"),
    [
        (upload, ""),
        (upload, "request-buffering=1G"),
        (upload, "request-buffering=10M"),
        (download, ""),
        (download, "response-spool=1G"),
        (download, "response-spool=0"),
    ],
)
def test_large_body_in_constant_memory(
    start_httpd: Start,
    folder: Path,
    transfer: Callable[[Httpd, int, str], None],
    options: str,
    coding: str,
) -> None:
    server = started(start_httpd, folder, options)
    transfer(server, 64, coding)
    with flat(server):
        transfer(server, COUNT, coding)
