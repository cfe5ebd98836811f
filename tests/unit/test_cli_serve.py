# SPDX-License-Identifier: Apache-2.0
"""`pyglue serve` as a process: it announces, serves, stops, and explains what keeps it from that.

The httpd here is a shell script or a few lines of Python, so that nothing but the command is shown;
tests/house/test_examples.py and docker/ run it on the real one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PYTHON = Path(os.environ.get("PYGLUE_PREFIX", sys.prefix)) / "bin" / "python"
SECONDS = 30.0

LISTENING = """\
    import os, re, signal, socket, sys
    if "-t" in sys.argv: sys.exit(0)
    text = open(sys.argv[sys.argv.index("-f") + 1]).read()
    host, port = re.search("^Listen (.*):(.*)$", text, re.M).groups()
    listening = socket.create_server((host, int(port)))
    print("this is httpd", file=sys.stderr, flush=True)
    signal.signal(signal.SIGUSR1, lambda *_: print("graceful", file=sys.stderr, flush=True))
    while True:
        listening.accept()[0].close()
"""
TALKING = LISTENING + "        print('word ' * 40_000, file=sys.stderr, flush=True)\n"
FAILING = """\
    import sys
    print("AH00526: Syntax error on line 1: Invalid command 'WSGIScriptAlias'", file=sys.stderr)
    sys.exit(1)
"""


@pytest.fixture
def httpd(tmp_path: Path) -> Callable[[str], Path]:
    """Makes an httpd of these lines, with the modules that a configuration names."""

    def make(lines: str) -> Path:
        root = tmp_path / "httpd-root"
        (root / "modules").mkdir(parents=True)
        for name in ("mpm_event", "authz_core", "alias", "mime", "unixd"):
            (root / "modules" / f"mod_{name}.so").touch()
        program = tmp_path / "httpd"
        described = f"""\
            import sys
            if "-V" in sys.argv: print(' -D HTTPD_ROOT="{root}"')
            if "-l" in sys.argv or "-V" in sys.argv: sys.exit(0)
        """
        text = textwrap.dedent(described) + textwrap.dedent(lines)
        program.write_text(f"#!{sys.executable}\n{text}")
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def serve(
    tmp_path: Path, httpd: Callable[[str], Path]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    (tmp_path / "app.wsgi").write_text("application = None\n")
    started: list[subprocess.Popen[str]] = []

    def start(lines: str, port: int, *options: str) -> subprocess.Popen[str]:
        command = [PYTHON, "-m", "pyglue", "serve", tmp_path / "app.wsgi", "--port", str(port)]
        user = ["--user", "root"] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [*command, *user, "--server-root", tmp_path / "server", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYGLUE_HTTPD": str(httpd(lines))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_address_is_printed_and_a_signal_stops_everything(
    serve: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    port = free_port()
    process = serve(LISTENING, port)
    assert process.stdout is not None
    assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert "this is httpd" in errors
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_changed_file_reloads_gracefully(
    serve: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = serve(LISTENING, free_port(), "--reload")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    (tmp_path / "models.py").write_text("x = 1\n")
    while process.stderr.readline() != "graceful\n":
        assert process.poll() is None


def test_log_that_nobody_reads_any_more_stops_nothing(
    serve: Callable[..., subprocess.Popen[str]],
) -> None:
    port = free_port()
    process = serve(TALKING, port)
    assert process.stdout is not None and process.stderr is not None
    process.stderr.close()
    assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            assert client.recv(1) == b""


def test_port_in_use_is_told_in_one_message(serve: Callable[..., subprocess.Popen[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serve(LISTENING, taken.getsockname()[1])
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "in use by another program. Choose another with --port." in errors
    assert "Traceback" not in errors


def test_refused_configuration_is_told_with_the_remedy(
    serve: Callable[..., subprocess.Popen[str]],
) -> None:
    process = serve(FAILING, free_port())
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "Invalid command 'WSGIScriptAlias'" in errors and "module-config" in errors


LATE = """\
    import os, sys, time
    if "-t" in sys.argv: sys.exit(0)
    if os.fork(): os._exit(1)
    time.sleep(0.2)
    sys.exit("Address already in use")
"""


@pytest.mark.parametrize(
    "ending",
    ["import sys\nif '-t' not in sys.argv: sys.exit('Address already in use')\n", LATE],
    ids=["at once", "late"],
)
def test_httpd_that_ends_by_itself_is_told_with_its_words(
    serve: Callable[..., subprocess.Popen[str]], ending: str
) -> None:
    process = serve(ending, free_port())
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "httpd ended with status 1" in errors and "choose another port" in errors
