# SPDX-License-Identifier: Apache-2.0
"""`pyglue serve TARGET`: a private httpd for one application, in the foreground, until Ctrl-C.

httpd gets a session of its own: a terminal's Ctrl-C and, worse, its change of size (SIGWINCH is
httpd's graceful stop) must not reach it. What it logs comes through a pipe, because /dev/stderr
cannot be opened where it is a socket."""

import argparse
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import IO, Any

from pyglue.cli import site
from pyglue.cli.explain import explained
from pyglue.cli.httpd import Httpd
from pyglue.cli.listen import bind_error
from pyglue.cli.site import Site
from pyglue.cli.watch import Watch
from pyglue.errors import PyglueError

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LAST_WORDS_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # opened before any fork


def add(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "serve",
        help="serve one application in the foreground",
        description="Start a private httpd for one application, in the foreground. Ctrl-C stops it "
        "and all that it started.",
    )
    site.add_arguments(parser)
    parser.add_argument(
        "--reload", action="store_true", help="load the code again when a file changes"
    )
    parser.add_argument(
        "-D", action="append", default=[], dest="defines", metavar="NAME", help="passed on to httpd"
    )
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    wanted = site.from_arguments(chosen)
    httpd = Httpd.find()
    check_port(wanted)  # first: the files are those of the server that has it
    configuration = site.write(wanted, httpd)
    defines = [part for name in chosen.defines for part in ("-D", name)]
    tested = httpd.test(configuration, *defines)
    if tested.returncode != 0:
        raise PyglueError(explained(tested.stderr, configuration))
    command = [str(httpd.program), "-f", str(configuration), "-D", "FOREGROUND", *defines]
    return Server(wanted, command).run(Watch(wanted) if chosen.reload else None)


def check_port(wanted: Site) -> None:
    """Says in one sentence why the address cannot be had."""
    error = bind_error(wanted.host, wanted.port)
    if error is not None:
        raise PyglueError(f"cannot listen on {wanted.address}: {port_remedy(error, wanted)}")


def port_remedy(error: OSError, wanted: Site) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {wanted.port} is in use by another program. Choose another with --port."
    if error.errno == errno.EACCES:
        return f"only root may use port {wanted.port}. Choose one from 1024 up with --port."
    return f"{error.strerror or error}. Choose an address of this machine with --host."


class Server:
    """httpd as a child of this command: started, announced, stopped with all that it started."""

    def __init__(self, wanted: Site, command: list[str]) -> None:
        self.site = wanted
        self.command = command
        self.signals = 0
        self.said: list[str] = []  # the first lines of the log, for the case that it does not start

    def run(self, watch: Watch | None) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.note_signal)
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        assert process.stderr is not None  # PIPE was asked for
        relay = threading.Thread(target=self.relay, args=(process.stderr,), daemon=True)
        relay.start()
        try:
            if self.wait_until_it_serves(process):
                self.announce()
            return self.stay(process, relay, watch)
        finally:
            stop(process)
            relay.join(timeout=LAST_WORDS_SECONDS)

    def note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def relay(self, log: IO[bytes]) -> None:
        for line in log:
            if len(self.said) < 50:
                self.said.append(line.decode(errors="replace"))
            with suppress(OSError):  # nobody reads it any more: httpd must not wait for that
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()

    def wait_until_it_serves(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and not self.signals and time.monotonic() < deadline:
            try:
                socket.create_connection((self.site.host, self.site.port), timeout=1).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def announce(self) -> None:
        where = f"{self.site.mode} mode, configuration {self.site.configuration}"
        print(f"pyglue: serving {self.site.target} at {self.site.address}", flush=True)
        print(f"pyglue: {where}; Ctrl-C stops it", flush=True)

    def stay(
        self, process: subprocess.Popen[bytes], relay: threading.Thread, watch: Watch | None
    ) -> int:
        """Until a signal asks to stop or httpd ends by itself."""
        while not self.signals:
            try:
                status = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if watch and watch.changed():
                    process.send_signal(signal.SIGUSR1)  # graceful: no request is lost
                continue
            relay.join(timeout=LAST_WORDS_SECONDS)  # what it said last is on its way still
            said = explained("".join(self.said), self.site.configuration)
            raise PyglueError(f"httpd ended with status {status}. {said}")
        return 0


def die_with_parent() -> None:
    """In httpd's process before exec: it is told to stop if this command is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(
                f"pyglue: httpd did not stop within {STOP_SECONDS:.0f} seconds and is killed",
                file=sys.stderr,
            )
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
