# SPDX-License-Identifier: Apache-2.0
"""Every configuration in httpd-conf/ is started as an administrator would use it, and serves."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "httpd-conf").glob("*.conf"))
BIN = Path(os.environ.get("PYGLUE_PREFIX", sys.prefix)) / "bin"
STATED_FOLDER = "/srv/hello"  # where the examples say that the application lies
URLS = {"daemon.conf": ["/shop", "/blog"], "migrating.conf": ["/", "/static/a.txt"]}
SECONDS = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that httpd's user may enter, with the application and a static file."""
    with tempfile.TemporaryDirectory() as made:
        site = Path(made) / "hello"
        (site / "static").mkdir(parents=True)
        (site / "static" / "a.txt").write_text("Hello from a file\n")
        shutil.copy(ROOT / "httpd-conf" / "hello.wsgi", site)
        for path in (Path(made), *Path(made).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield Path(made)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main_configuration(folder: Path, port: int, example: Path) -> Path:
    """What `pyglue config` makes of an httpd, with the example in place of its application."""
    made = subprocess.run(
        [
            *(BIN / "pyglue", "config", folder / "hello" / "hello.wsgi"),
            *("--port", str(port), "--server-root", folder / "server"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    whole = Path(made.stdout.strip())
    above, _, _ = whole.read_text().partition("# The application:")
    lines = subprocess.check_output([BIN / "pyglue", "module-config"], text=True).splitlines()
    assert lines[0] in above
    text = example.read_text().replace(STATED_FOLDER, str(folder / "hello"))
    whole.write_text(f'{above}ErrorLog "{folder}/error.log"\n{lines[1]}\n{text}')
    return whole


@contextlib.contextmanager
def running(configuration: Path) -> Iterator[None]:
    version = subprocess.check_output([BIN / "pyglue", "--version"], text=True)
    program = version.splitlines()[1].rpartition("(")[2].rstrip(")")
    process = subprocess.Popen([program, "-f", configuration, "-D", "FOREGROUND"])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)


def fetch(address: str) -> str:
    """The page, as soon as httpd accepts connections."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=SECONDS) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            assert time.monotonic() < deadline, f"{address} cannot be reached"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.name)
def test_example_starts_and_serves(example: Path, folder: Path) -> None:
    port = free_port()
    with running(main_configuration(folder, port, example)):
        for url in URLS.get(example.name, ["/"]):
            assert fetch(f"http://127.0.0.1:{port}{url}").startswith("Hello from")
    log = (folder / "error.log").read_text()
    wrong = [line for line in log.splitlines() if ":error]" in line or ":warn]" in line]
    assert not wrong
