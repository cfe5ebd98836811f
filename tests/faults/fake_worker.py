# SPDX-License-Identifier: Apache-2.0
"""A worker that speaks the wire and lies: started as the `python=` of a process group.

The supervisor takes it for a worker; which lie it tells stands in the request as lie=NAME."""

from __future__ import annotations

import array
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.wire import Flag, Frame, Head, Outcome, Peer, Type, end, hello, request, snapshot

CONTROL, LISTENER, MESSAGES = 3, 4, 6
Lie = Callable[[Peer, int], None]

OK = bytes(Head(200, b"OK", ((b"Content-Length", b"5"),), 5))
PLAIN = bytes(Head(200, b"OK"))


def head(number: int, payload: bytes = OK) -> Frame:
    return Frame(Type.HEAD, number, payload)


def honest(peer: Peer, number: int) -> None:
    peer.send(head(number), Frame(Type.BODY, number, b"hello"), end(number, Outcome.COMPLETE))


def raw(data: bytes) -> Lie:
    return lambda peer, number: peer.socket.sendall(data)


def silent_after(data: bytes) -> Lie:
    """Half of something, and then the connection stays open without a word."""

    def lie(peer: Peer, number: int) -> None:
        peer.socket.sendall(data)
        peer.is_closed()

    return lie


def closing_after(data: bytes) -> Lie:
    def lie(peer: Peer, number: int) -> None:
        peer.socket.sendall(data)
        peer.close()

    return lie


def frames(*make: Callable[[int], Frame]) -> Lie:
    return lambda peer, number: peer.send(*(one(number) for one in make))


def with_head(**fields: object) -> Lie:
    payload = bytes(Head(**{"status": 200, **fields}))  # type: ignore[arg-type]
    return frames(lambda n: head(n, payload), lambda n: end(n, Outcome.COMPLETE))


def many_fields(count: int) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"X-%d" % i, b"v") for i in range(count))


def pass_descriptors(count: int) -> Lie:
    def lie(peer: Peer, number: int) -> None:
        file = Frame(Type.FILE, number, struct.pack("=QQ", 0, 5), Flag.FILE_DESCRIPTOR)
        fds = array.array("i", [os.open("/dev/null", os.O_RDONLY)] * count)
        peer.send(head(number), file)
        peer.socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        peer.send(end(number, Outcome.COMPLETE))

    return lie


def bytewise(peer: Peer, number: int) -> None:
    whole = bytes(head(number)) + bytes(Frame(Type.BODY, number, b"hello"))
    for byte in whole + bytes(end(number, Outcome.COMPLETE)):
        peer.socket.sendall(bytes([byte]))


BEFORE_HEAD: dict[str, Lie] = {
    "length-zero-type-zero": raw(bytes(16)),
    "length-greatest": raw(struct.pack("=IBBHQ", 0xFFFFFFFF, Type.BODY, 0, 0, 1)),
    "type-unknown": raw(struct.pack("=IBBHQ", 0, 99, 0, 0, 1)),
    "type-of-the-child": lambda peer, n: peer.send(request(n, snapshot(n))),
    "body-first": frames(lambda n: Frame(Type.BODY, n, b"x")),
    "file-first": frames(lambda n: Frame(Type.FILE, n, struct.pack("=QQ", 0, 1))),
    "flush-first": frames(lambda n: Frame(Type.FLUSH, n)),
    "complete-without-head": frames(lambda n: end(n, Outcome.COMPLETE)),
    "failed-with-200": frames(lambda n: end(n, Outcome.FAILED, 200)),
    "number-of-another": frames(lambda n: head(n + 1)),
    "credit-zero": frames(lambda n: Frame(Type.READ, n, struct.pack("=I", 0))),
    "hello-again": frames(lambda n: hello(1, bytes(32))),
    "refuse-after-credit": frames(
        lambda n: Frame(Type.READ, n, struct.pack("=I", 9)),
        lambda n: Frame(Type.REFUSE, n, struct.pack("=I", 1)),
    ),
    "head-too-short": frames(lambda n: head(n, b"x" * 16 + b"y")),
    "half-a-header": silent_after(b"\0\0\0\0\7"),
    "half-a-frame": silent_after(struct.pack("=IBBHQ", 100, Type.HELLO, 0, 0, 0)),
    "half-a-frame-and-end": closing_after(b"\0\0\0\0\7"),
    "status-0": with_head(status=0),
    "status-103": with_head(status=103),
    "status-1000": with_head(status=1000),
    "reason-with-newline": with_head(reason=b"OK\r\nX-Evil: 1"),
    "value-with-newline": with_head(headers=((b"X", b"a\r\nX-Evil: 1"),)),
    "value-with-nul": with_head(headers=((b"X", b"a\0b"),)),
    "name-with-space": with_head(headers=((b"X Y", b"a"),)),
    "fields-10000": with_head(headers=many_fields(10000)),
    "head-too-large": with_head(headers=tuple((b"X-%d" % i, b"v" * 30000) for i in range(20))),
    "two-lengths": with_head(headers=((b"Content-Length", b"5"), (b"Content-Length", b"6"))),
}
AFTER_HEAD: dict[str, Lie] = {
    "head-twice": frames(head, head),
    "body-beyond-length": frames(head, lambda n: Frame(Type.BODY, n, b"hello, and more")),
    "body-below-length": frames(
        head, lambda n: Frame(Type.BODY, n, b"hel"), lambda n: end(n, Outcome.COMPLETE)
    ),
    "empty-body": frames(head, lambda n: Frame(Type.BODY, n)),
    "body-too-large": frames(
        lambda n: head(n, PLAIN), lambda n: Frame(Type.BODY, n, b"x" * 262145)
    ),
    "failed-after-head": frames(head, lambda n: end(n, Outcome.FAILED, 500)),
    "file-of-another-length": frames(head, lambda n: Frame(Type.FILE, n, struct.pack("=QQ", 0, 9))),
    "one-descriptor": pass_descriptors(1),
    "many-descriptors": pass_descriptors(253),
}
OTHERS: dict[str, Lie] = {
    "none": honest,
    "one-byte-writes": bytewise,
    "body-after-end": lambda peer, n: (honest(peer, n), peer.send(Frame(Type.BODY, n, b"x")))[0],
    "refuse-forever": frames(lambda n: Frame(Type.REFUSE, n, struct.pack("=I", 1))),
    "never-answers": lambda peer, number: None,
    "log-emergency": lambda peer, n: (
        peer.send(Frame(Type.LOG, n, struct.pack("=I", 0) + b"line1\nFAKE \x1b[2J line2")),
        honest(peer, n),
    )[1],
    "location": frames(
        lambda n: head(n, bytes(Head(200, b"OK", ((b"Location", b"/secret"),)))),
        lambda n: end(n, Outcome.COMPLETE),
    ),
}
LIES = {**BEFORE_HEAD, **AFTER_HEAD, **OTHERS}


def serve(peer: Peer, worker: int) -> None:
    try:
        assert peer.receive().type == Type.HELLO
        peer.send(hello(worker, bytes(32), threads=5))
        while True:
            frame = peer.receive()
            found = re.search(rb"lie=([a-z0-9-]+)", frame.payload)
            if frame.type == Type.REQUEST and found:
                LIES[found[1].decode()](peer, frame.number)
    except (OSError, EOFError):
        peer.close()


def message(kind: int, argument: int, value: int) -> None:
    os.write(MESSAGES, struct.pack("=IIQ", kind, argument, value))


def settings() -> int:
    """The worker's number."""
    (length,) = struct.unpack("=I", os.read(CONTROL, 4))
    return int(json.loads(os.read(CONTROL, length))["number"])


def end_with_supervisor() -> None:
    """Any command, or end-of-file, ends a liar at once."""
    os.read(CONTROL, 16)
    os._exit(0)


def main() -> None:
    worker = settings()
    listener = socket.socket(fileno=LISTENER)
    listener.setblocking(True)
    message(1, 1, worker)
    message(2, 1, 0)
    threading.Thread(target=end_with_supervisor, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        peer = Peer(connection, patience=60.0)
        threading.Thread(target=serve, args=(peer, worker), daemon=True).start()


if __name__ == "__main__":
    main()
