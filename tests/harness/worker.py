# SPDX-License-Identifier: Apache-2.0
"""A worker without Python: pyglue/worker over the fake engine of tests/c, on a socket of its own.

It is compiled here. What the engine does with a request is the name of its callable."""

from __future__ import annotations

import contextlib
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
DEFAULTS = {
    "threads": 2, "peer_uid": os.getuid(), "request_max": 1 << 20, "socket_timeout_ms": 5000,
}  # fmt: skip
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
        self, program: Path, folder: Path, *, under: tuple[str, ...] = (),
        record_size: int = RECORD_SIZE + RECORD_TEXTS, has_full_pipe: bool = False,
        **settings: int,
    ) -> None:  # fmt: skip
        self.path = str(folder / "socket")
        self.record = os.memfd_create("record")
        os.ftruncate(self.record, record_size)
        self.messages, messages = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(BlockingIOError):
            while has_full_pipe:
                os.write(messages, bytes(16))
        self.words = folder / "words"  # what it wrote to descriptor 2
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(100)
        settings = {**DEFAULTS, **settings, "record": self.record, "messages": messages}
        words = [f"{name}={int(number)}" for name, number in settings.items()]
        with self.words.open("w") as file:
            self.process = subprocess.Popen(
                [*under, str(program), *words], stdin=listener, stdout=subprocess.PIPE,
                stderr=file, pass_fds=(self.record, messages),
            )  # fmt: skip
        os.close(messages)
        listener.close()
        self.wait_for_event(0)

    def wait_for_message(self) -> tuple[int, int]:
        """Kind and argument of what it tells the supervisor."""
        ready, _, _ = select.select([self.messages], [], [], PATIENCE)
        assert ready, f"no message came: {self.errors()}"
        kind, argument, _ = struct.unpack("=IIQ", os.read(self.messages, 16))
        return kind, argument

    def take_messages(self) -> bytes:
        """Those that are there; of a worker that has ended all that are left."""
        return os.read(self.messages, 1 << 20)

    def wait_for_words(self, words: str) -> None:
        wait_until(lambda: words in self.errors(), f"the worker says {words}")

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
        return self.words.read_text()

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

    def close(self, code: int = 0) -> str:
        """Ends it in good order, or has it end by itself with this code, and returns what it wrote
        to descriptor 2."""
        if self.process.poll() is None and code == 0:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)
        os.close(self.record)
        os.close(self.messages)
        assert self.process.returncode == code, self.errors()
        assert "Sanitizer" not in self.errors()
        return self.errors()


Start = Callable[..., Worker]


def request(
    number: int, behaviour: str, body: bytes = b"", *, script: str = "", ends: bool = True,
    flags: int = 0,
) -> Frame:  # fmt: skip
    block = wire.snapshot(
        number, {"REQUEST_METHOD": "GET"}, callable=behaviour, script=script, flags=flags
    )
    return wire.request(number, block, body, ends=ends)
