# SPDX-License-Identifier: Apache-2.0
"""httpd's parent that has no descriptor left for the memories of placement says so, keeps nothing
of what it began to make, and makes them at the next restart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness import census
from harness.httpd import Httpd
from process import shop
from process.shop import ask


def test_memories_that_cannot_be_made_are_told_and_made_later(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    shim, short = folder / "no_memories.so", folder / "short"
    source = Path(__file__).with_name("no_memories.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, source], check=True)
    preload = f"{os.environ.get('LD_PRELOAD', '')} {shim}".strip()
    environ = {"LD_PRELOAD": preload, "PYGLUE_TEST_SHORT": str(short)}
    server = start_httpd(["LogLevel warn"], root=folder, environ=environ)
    server.log.expect("Too many open files: GL0601: the memories of placement could not be made")
    server.log.allow("GL0506")
    short.touch()
    server.configure(shop.lines(folder))
    server.graceful()
    held = len(census.descriptors(server.pid))
    for _ in range(2):
        server.graceful()
    assert len(census.descriptors(server.pid)) == held
    assert "pyglue-pages" not in Path(f"/proc/{server.pid}/maps").read_text()
    assert ask(server, "/who").status == 500
    short.unlink()
    server.graceful()
    assert ask(server, "/who").status == 200
