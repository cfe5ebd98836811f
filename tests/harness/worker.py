# SPDX-License-Identifier: Apache-2.0
"""A worker without Python: pyglue/worker over the fake engine of tests/c, on a socket of its own.

It is compiled here. What the engine does with a request is the name of its callable."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import wire
from .client import wait_until
from .wire import Frame, Peer

ROOT = Path(__file__).parents[2]
NUMBER = 0x1234567890
KEY = b"k" * wire.KEY_SIZE
RECORD_SIZE = 24 + 1024 * 16  # of version 1
RECORD_TEXTS = 8 + 1024 * 208  # what version 2 has behind it
MAXIMUM, LEFT = 128, 129
PATIENCE = 10.0
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compile_worker(target: Path, *options: str) -> Path:
    sources = [
        ROOT / "tests/c/worker_fake_engine.c",
        *sorted(ROOT.glob("pyglue/worker/*.c")),
        *sorted(ROOT.glob("pyglue/bridge/*.c")),
    ]
    include = [f"-I{ROOT / 'pyglue' / folder}" for folder in ("bridge", "worker")]
    subprocess.run(
        ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread", *options, *include,
         *map(str, sources), "-o", str(target)],
        check=True,
    )  # fmt: skip
    return target


class Worker:
    """The program, its socket and its record."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        threads: int = 2,
        peer_uid: int = os.getuid(),
        request_max: int = 1 << 20,
        socket_timeout_ms: int = 5000,
        pass_descriptors: bool = False,
        maximum_requests: int = 0,
        record_size: int = RECORD_SIZE + RECORD_TEXTS,
        under: tuple[str, ...] = (),
    ) -> None:
        self.path = str(folder / "socket")
        self.record = os.memfd_create("record")
        os.ftruncate(self.record, record_size)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(100)
        arguments = (
            threads, peer_uid, request_max, socket_timeout_ms, int(pass_descriptors),
            maximum_requests, self.record,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [*under, str(program), *map(str, arguments)], stdin=listener,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(self.record,),
        )  # fmt: skip
        listener.close()
        self.wait_for_event(0)

    def wait_for_event(self, event: int) -> None:
        assert self.process.stdout is not None
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            assert ready, f"event {event} did not come"
            line = self.process.stdout.readline()
            assert line, self.errors()
            if int(line) == event:
                return

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def connect(self) -> Peer:
        peer = Peer.connect(self.path)
        assert peer.greet(NUMBER, KEY) > 0
        return peer

    def running(self) -> set[int]:
        """Numbers in the record."""
        raw = os.pread(self.record, RECORD_SIZE, 0)
        return {number for number, _ in struct.iter_unpack("=QQ", raw[24:]) if number}

    def wait_until_runs(self, numbers: set[int]) -> None:
        """Returns when these requests, and no others, are in the record."""
        wait_until(lambda: self.running() == numbers, f"requests {numbers} run")

    def drain(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.wait_for_event(signal.SIGTERM)

    def close(self) -> str:
        """Ends it in good order, and returns what it wrote to descriptor 2."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=PATIENCE)
        os.close(self.record)
        assert self.process.returncode == 0, errors.decode()
        assert "Sanitizer" not in errors.decode()
        return errors.decode()


Start = Callable[..., Worker]


def request(
    number: int, behaviour: str, body: bytes = b"", *, script: str = "", ends: bool = True,
    flags: int = 0,
) -> Frame:  # fmt: skip
    block = wire.snapshot(
        number, {"REQUEST_METHOD": "GET"}, callable=behaviour, script=script, flags=flags
    )
    return wire.request(number, block, body, ends=ends)
