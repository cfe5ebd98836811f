# SPDX-License-Identifier: Apache-2.0
"""One real httpd: written, started, signalled, stopped, counted.

Each has a server root and a loopback address of its own, so instances run side by side."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import census, conf
from .client import wait_until
from .errorlog import ErrorLog

START = 30.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # opened before any fork
_hosts = itertools.count(os.getpid() % 250 * 200)


def own_address() -> tuple[str, int]:
    """An address of 127/8 that no other instance of this run has, and a port that is free there."""
    number = next(_hosts)
    host = f"127.{1 + number // 62500 % 250}.{1 + number // 250 % 250}.{1 + number % 250}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, int(probe.getsockname()[1])


def new_root() -> Path:
    """A server root that httpd's user may enter."""
    root = Path(tempfile.mkdtemp(prefix="pyglue-test-"))
    root.chmod(0o755)
    return root


def complaint(lines: Iterable[str]) -> str:
    """What `httpd -t` says of lines that it refuses."""
    server = Httpd(lines)
    try:
        done = server.test_configuration()
    finally:
        server.remove()
    assert done.returncode != 0, "it was accepted"
    return done.stdout


def _die_with_parent() -> None:
    """In httpd's process before exec: it stops if the tests are killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Httpd:
    """Written by its constructor, started by `start`. `stop` is idempotent."""

    def __init__(
        self,
        lines: Iterable[str],
        *,
        root: Path | None = None,
        mpm: str = "event",
        modules: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root or new_root()
        self.mpm = mpm
        self.modules = modules
        self.address = own_address()
        self.log = ErrorLog(self.root / "error.log")
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[str] | None = None
        self.configure(lines)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def configure(self, lines: Iterable[str]) -> None:
        """Write httpd.conf; a running instance reads it at its next restart."""
        listen = "{}:{}".format(*self.address)
        text = [*conf.base(self.root, listen, self.mpm, self.modules), *lines]
        (self.root / "httpd.conf").write_text("\n".join(text) + "\n", encoding="latin-1")

    def command(self, *more: str) -> list[str]:
        return [conf.program(), "-f", str(self.root / "httpd.conf"), *more]

    def test_configuration(self, *more: str) -> subprocess.CompletedProcess[str]:
        """`httpd -t`."""
        return subprocess.run(
            self.command("-t", *more),
            env=self._env(),
            text=True,
            timeout=START,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def start(self) -> Httpd:
        with (self.root / "console").open("w") as console:
            self._process = subprocess.Popen(
                self.command("-DFOREGROUND"),
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                text=True,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        wait_until(self._is_up, "httpd listens", START)
        return self

    def _is_up(self) -> bool:
        status = self._process.poll() if self._process else None
        assert status is None, f"httpd ended with {status}:\n{self.console()}{self.log.text()}"
        return census.is_listening(self.address)

    def _env(self) -> dict[str, str]:
        kept = {
            key: os.environ[key]
            for key in ("PATH", "ASAN_OPTIONS", "LD_PRELOAD")
            if key in os.environ
        }
        return {"LANG": "C.UTF-8", census.MARK: str(self.root), **kept, **self._environ}

    def console(self) -> str:
        """What httpd wrote before it had its error log."""
        path = self.root / "console"
        return path.read_text(errors="backslashreplace") if path.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def restart(self, how: signal.Signals) -> None:
        """Reload the configuration; returns when the new generation of children has started."""
        wait_until(self._times_resumed, "httpd has taken up its work: it minds signals", START)
        before = self._times_resumed()
        if how is not signal.SIGUSR1:
            self.log.children_end()
        self.signal(how)
        wait_until(lambda: self._times_resumed() > before, f"restart by {how.name}", START)

    def graceful(self) -> None:
        """The restart at which requests finish that run."""
        self.restart(signal.SIGUSR1)

    def _times_resumed(self) -> int:
        text = self.log.path.read_bytes() if self.log.path.exists() else b""
        return text.count(b"resuming normal operations")

    def stop(self) -> None:
        """Stop and count: no process, socket file or listening port may be left."""
        if self._process is None:
            return
        family = census.family(self.pid)
        self.log.children_end()
        self._process.terminate()
        try:
            self._process.wait(START)
            wait_until(lambda: not self._left(family), "all processes end", START)
            assert not census.sockets_below(self.root), "socket files are left"
            assert not census.is_listening(self.address), "the port is still open"
        finally:
            self._process = None
            for pid in self._left(family):
                os.kill(pid, signal.SIGKILL)

    def _left(self, family: Sequence[int]) -> list[int]:
        marked = list(census.processes(self.root))
        return [pid for pid in {*family, *marked} if census.is_alive(pid)]

    def remove(self) -> None:
        """Delete the server root."""
        shutil.rmtree(self.root, ignore_errors=True)

    def processes(self) -> list[int]:
        """All running processes of the instance: parent, children, supervisor, workers."""
        return self._left(census.family(self.pid))

    def workers(self) -> list[int]:
        """The worker processes, as the kernel lists them."""
        return [pid for pid in self.processes() if "worker/boot.py" in census.command(pid)]

    def supervisor(self) -> int:
        """The supervisor's pid. A worker that was forked and not exec'd yet bears its name too."""
        names = {pid: census.command(pid) for pid in census.children(self.pid)}
        found = [pid for pid, name in names.items() if "supervisor/__main__.py" in name]
        assert len(found) == 1, f"not one supervisor: {found}"
        return found[0]

    def wait_for_exit(self, pid: int) -> None:
        wait_until(lambda: not census.is_alive(pid), f"process {pid} ends", START)
