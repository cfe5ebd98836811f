# SPDX-License-Identifier: Apache-2.0
"""The wire of docs/wire.md in Python, for fake peers: a fake httpd child or a fake worker.

Written apart from pyglue/bridge/frame.c on purpose, so that the two check each other."""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

VERSION = 1
KEY_SIZE = 32
BODY_MAX = 262144
SNAPSHOT_VERSION = 1


class Type(IntEnum):
    HELLO = 1
    REQUEST = 2
    BODY = 3
    PULL = 4
    GONE = 5
    READ = 6
    HEAD = 7
    FILE = 8
    FLUSH = 9
    LOG = 10
    END = 11
    REFUSE = 12
    GOODBYE = 13
    LEAVE = 14
    INTERIM = 15


class Flag(IntFlag):
    NONE = 0
    BODY_END = 1
    BODY_ERROR = 2
    FILE_DESCRIPTOR = 4


class Request(IntFlag):
    """pyglue_request_flags."""

    HTTPS = 1
    RELOADING = 2
    SENDFILE = 4
    MULTITHREAD = 8
    MULTIPROCESS = 16
    RUN_ONCE = 32
    HAS_BODY = 64
    HEAD = 128
    INTERIM = 256  # times the number allowed


class Refused(IntEnum):
    BUSY = 1
    LEAVING = 2


class Outcome(IntEnum):
    COMPLETE = 0
    FAILED = 1
    CUT = 2


@dataclass(frozen=True)
class Frame:
    type: int
    number: int = 0
    payload: bytes = b""
    flags: int = 0

    def __bytes__(self) -> bytes:
        head = struct.pack("=IBBHQ", len(self.payload), self.type, self.flags, 0, self.number)
        return head + self.payload


@dataclass(frozen=True)
class Head:
    status: int
    reason: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_length: int = -1

    def __bytes__(self) -> bytes:
        fields = b"".join(
            struct.pack("=II", len(name), len(value)) + name + value for name, value in self.headers
        )
        start = struct.pack(
            "=iHHq", self.status, len(self.reason), len(self.headers), self.content_length
        )
        return start + self.reason + fields

    @classmethod
    def parse(cls, payload: bytes) -> Head:
        status, reason_size, count, length = struct.unpack_from("=iHHq", payload)
        at = 16 + reason_size
        headers = []
        for _ in range(count):
            name, value = struct.unpack_from("=II", payload, at)
            at += 8
            headers.append((payload[at : at + name], payload[at + name : at + name + value]))
            at += name + value
        assert at == len(payload)
        return cls(status, payload[16 : 16 + reason_size], tuple(headers), length)


def snapshot(
    number: int,
    pairs: dict[str, str] | None = None,
    *,
    script: str = "",
    process_group: str = "",
    application_group: str = "",
    callable: str = "application",
    handler: str = "wsgi-script",
    request_id: str = "",
    connection_id: str = "",
    flags: int = 0,
    content_length: int = 0,
) -> bytes:
    """A request block as pyglue_snapshot_build makes it."""
    pairs = pairs or {}
    fixed = (script, process_group, application_group, callable, handler, request_id, connection_id)
    at = 64 + 7 * 8 + 16 * len(pairs)
    slices, texts = b"", b""
    for text in (*fixed, *(text for pair in pairs.items() for text in pair)):
        data = text.encode("latin-1")
        slices += struct.pack("=II", at, len(data))
        texts += data + b"\0"
        at += len(data) + 1
    head = struct.pack(
        "=IIIIQqqq3ii",
        SNAPSHOT_VERSION, at, flags, len(pairs), number, content_length, 0, 0, 2, 4, 0, 0,
    )  # fmt: skip
    assert len(head) + len(slices) + len(texts) == at, (len(head), at)
    return head + slices + texts


def request(number: int, block: bytes, body: bytes = b"", *, ends: bool = True) -> Frame:
    payload = struct.pack("=II", len(block), len(body)) + block + body
    return Frame(Type.REQUEST, number, payload, Flag.BODY_END if ends else 0)


def hello(worker: int, key: bytes, threads: int = 0, version: int = VERSION) -> Frame:
    return Frame(Type.HELLO, 0, struct.pack("=IIQ", version, threads, worker) + key)


def pull(number: int, offset: int, length: int) -> Frame:
    return Frame(Type.PULL, number, struct.pack("=QII", offset, length, 0))


def end(number: int, outcome: Outcome, status: int = 0) -> Frame:
    return Frame(Type.END, number, struct.pack("=ii", outcome, status))


def peer_uid(connection: socket.socket) -> int:
    """SO_PEERCRED."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iii", raw)[1])


@dataclass
class Answer:
    """What a worker said to one request, put together."""

    head: Head | None = None
    interims: list[Head] = field(default_factory=list)
    body: bytes = b""
    logs: list[tuple[int, bytes]] = field(default_factory=list)
    outcome: Outcome | None = None
    status: int = 0
    refused: Refused | None = None
    frames: list[Frame] = field(default_factory=list)


class Peer:
    """One end of a connection. Every wait ends with an exception after `patience` seconds."""

    def __init__(self, connection: socket.socket, patience: float = 10.0) -> None:
        self.socket = connection
        self.socket.settimeout(patience)

    @classmethod
    def connect(cls, path: str | os.PathLike[str]) -> Peer:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(os.fspath(path))
        except OSError:
            connection.close()
            raise
        return cls(connection)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, *frames: Frame) -> None:
        self.socket.sendall(b"".join(bytes(frame) for frame in frames))

    def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            block = self.socket.recv(size - len(data))
            if not block:
                raise EOFError(f"end of file after {len(data)} of {size} bytes")
            data += block
        return bytes(data)

    def receive(self) -> Frame:
        length, kind, flags, zero, number = struct.unpack("=IBBHQ", self.exactly(16))
        assert zero == 0
        return Frame(Type(kind), number, self.exactly(length), flags)

    def is_closed(self) -> bool:
        """Waits for the other side to close, and says whether it did without another word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def receive_descriptor(self) -> int:
        """The one byte after FILE with FILE_DESCRIPTOR; the caller's to close."""
        fds = array.array("i")
        data, control, _, _ = self.socket.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
        assert data == b"\0" and len(control) == 1
        level, kind, payload = control[0]
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        fds.frombytes(payload[: fds.itemsize])
        return fds[0]

    def greet(self, worker: int, key: bytes) -> int:
        """Hello, as httpd's child says it. Returns the worker's threads."""
        self.send(hello(worker, key))
        answer = self.receive()
        version, threads, number, zeros = struct.unpack("=IIQ32s", answer.payload)
        assert answer.type == Type.HELLO
        assert (version, number, zeros) == (VERSION, worker, bytes(KEY_SIZE))
        return int(threads)

    def answer(self) -> Answer:
        """Frames up to END or REFUSE."""
        answer = Answer()
        while answer.outcome is None and answer.refused is None:
            frame = self.receive()
            answer.frames.append(frame)
            add(answer, frame)
        return answer

    def ask(self, sent: Frame) -> Answer:
        self.send(sent)
        return self.answer()


def add(answer: Answer, frame: Frame) -> None:
    """One frame of a worker into what is known of its answer."""
    if frame.type == Type.HEAD:
        answer.head = Head.parse(frame.payload)
    elif frame.type == Type.INTERIM:
        answer.interims.append(Head.parse(frame.payload))
    elif frame.type == Type.BODY:
        answer.body += frame.payload
    elif frame.type == Type.LOG:
        (level,) = struct.unpack_from("=I", frame.payload)
        answer.logs.append((level, frame.payload[4:]))
    elif frame.type == Type.END:
        outcome, answer.status = struct.unpack("=ii", frame.payload)
        answer.outcome = Outcome(outcome)
    elif frame.type == Type.REFUSE:
        answer.refused = Refused(struct.unpack("=I", frame.payload)[0])
