"""Fixtures: the clients' environment, and a script served by `pyglue serve` in either mode."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import environment
import pytest

HERE = pathlib.Path(__file__).parent
START = 60.0  # seconds for httpd and the application to answer, on a busy machine


@pytest.fixture(scope="session")
def clients() -> pathlib.Path:
    """The folder of the environment's programs."""
    return environment.make() / "bin"


@pytest.fixture(params=["embedded", "daemon"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder that httpd's user may enter and, where root serves, owns."""
    made = pathlib.Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def give(path: pathlib.Path) -> None:
    """Hand a tree to the user that runs applications when root serves."""
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam("www-data")
    for name in [path, *path.rglob("*")]:
        os.chown(name, user.pw_uid, user.pw_gid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pyglue() -> str:
    prefix = os.environ.get("PYGLUE_PREFIX", sys.prefix)
    return str(pathlib.Path(prefix) / "bin" / "pyglue")


def wait_until_it_answers(server: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START
    while True:
        assert server.poll() is None, server.communicate()[0]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server did not answer"


@pytest.fixture
def serve(mode: str, clients: pathlib.Path, folder: pathlib.Path) -> Iterator[Callable[[str], str]]:
    """Serve one of apps/ from `folder`; returns its address. Ctrl-C ends it at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> str:
        script = folder / name
        shutil.copy(HERE / "apps" / name, script)
        port = free_port()
        command = [pyglue(), "serve", str(script), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--mode", mode, "--python", str(clients / "python")]
        command += ["--server-root", str(folder / "server")]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(server)
        wait_until_it_answers(server, port)
        return f"http://127.0.0.1:{port}"

    yield start
    for server in started:
        server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=START)
        print(output)
        for log in (folder / "server").rglob("error*log"):
            print(log.read_text())


@pytest.fixture
def run(clients: pathlib.Path, folder: pathlib.Path) -> Callable[..., str]:
    """Run a program of the environment (or of the system); returns what it printed."""
    home = folder / "home"
    home.mkdir()
    env = {"PATH": f"{clients}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    # What the machine sets for pip (indexes, certificates) holds for its clients too.
    env |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}

    def run_command(*command: str, cwd: pathlib.Path = folder, **changes: str) -> str:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env | changes,
            text=True,
            timeout=600,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    return run_command
