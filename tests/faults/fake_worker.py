# SPDX-License-Identifier: Apache-2.0
"""A worker that speaks the wire and lies: started as the `python=` of a process group.

The supervisor takes it for a worker; which lie it tells stands in the request as lie=NAME."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import random
import re
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.wire import Flag, Frame, Head, Outcome, Peer, Type, end, hello, request, snapshot

CONTROL, LISTENER, MESSAGES = 3, 4, 6
DRAIN = struct.pack("=I", 1)
KEPT: list[socket.socket] = []  # ends that nobody reads
DEAF = threading.Event()
FILES = Path(__file__).resolve().parent / "files"
Lie = Callable[[Peer, int], None]

WORKER = b"%d" % os.getpid()
OK = bytes(Head(200, b"OK", ((b"Content-Length", b"5"), (b"X-Worker", WORKER)), 5))
PLAIN = bytes(Head(200, b"OK"))


def head(number: int, payload: bytes = OK) -> Frame:
    return Frame(Type.HEAD, number, payload)


def interim(number: int, status: int = 103, name: bytes = b"Link", length: int = -1) -> Frame:
    fields = ((name, b"</x-evil>"),)
    return Frame(Type.INTERIM, number, bytes(Head(status, b"Early Hints", fields, length)))


def hinting(count: int, **fields: object) -> Lie:
    """So many, and a whole response."""

    def lie(peer: Peer, number: int) -> None:
        peer.send(*[interim(number, **fields) for _ in range(count)])  # type: ignore[arg-type]
        honest(peer, number)

    return lie


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


def with_descriptors(peer: Peer, data: bytes, *fds: int) -> None:
    """Sends bytes that carry descriptors, and closes them here."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        peer.socket.sendmsg([data], rights)
    finally:
        for fd in set(fds):
            os.close(fd)


def passing(make: Callable[[], int], count: int = 1, offset: int = 0) -> Lie:
    """The last five bytes of the response come by so many descriptors."""

    def lie(peer: Peer, number: int) -> None:
        file = Frame(Type.FILE, number, struct.pack("=QQ", offset, 5), Flag.FILE_DESCRIPTOR)
        peer.send(head(number), file)
        with_descriptors(peer, b"\0", *([make()] * count if count else []))
        peer.send(end(number, Outcome.COMPLETE))

    return lie


def opened(path: str, flags: int) -> Callable[[], int]:
    return lambda: os.open(path, flags)


def regular() -> int:
    """An open file of five bytes, in the folder that tests made for files."""
    fd, path = tempfile.mkstemp(dir=FILES)
    os.write(fd, b"hello")
    os.unlink(path)
    return fd


def leased() -> int:
    """Whoever opens it waits until the lease is given back, which never happens."""
    fd, path = tempfile.mkstemp(dir=FILES)
    os.write(fd, b"hello")
    os.close(fd)
    os.chmod(path, 0o644)
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    return fd


def fifo() -> int:
    path = tempfile.mktemp(dir=FILES)
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    return fd


def memory() -> int:
    fd = os.memfd_create("file")
    os.write(fd, b"hello")
    return fd


def named_regular(flags: int) -> Callable[[], int]:
    def make() -> int:
        fd, path = tempfile.mkstemp(dir=FILES)
        os.write(fd, b"hello")
        os.close(fd)
        fd = os.open(path, flags)
        os.unlink(path)
        return fd

    return make


def unannounced(peer: Peer, number: int) -> None:
    """A descriptor rides on the frame of the head."""
    with_descriptors(peer, bytes(head(number)), regular())
    peer.send(Frame(Type.BODY, number, b"hello"), end(number, Outcome.COMPLETE))


def lingering() -> int:
    """A TCP socket whose last close waits for a minute, as nobody reads what was sent on it."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    KEPT.append(listener.accept()[0])
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(bytes(65536))
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    return sender.detach()


def with_lingering(peer: Peer, number: int) -> None:
    """It rides on the frame of the head."""
    with_descriptors(peer, bytes(head(number)), lingering())
    peer.send(Frame(Type.BODY, number, b"hello"), end(number, Outcome.COMPLETE))


def lingering_behind(peer: Peer, number: int) -> None:
    """It comes when all was said, and no request reads it."""
    honest(peer, number)
    with_descriptors(peer, bytes(Frame(Type.GOODBYE)), lingering())


def wrong_and_watching(peer: Peer, number: int) -> None:
    peer.send(head(number), head(number))
    if peer.is_closed():
        os.write(2, b"saw its connection closed\n")


def slowly(data: bytes, pause: float) -> Lie:
    """Never ends: a byte now and then, until the other side has had enough."""

    def lie(peer: Peer, number: int) -> None:
        for byte in data * 1000:
            peer.socket.sendall(bytes([byte]))
            time.sleep(pause)

    return lie


def log(number: int, text: bytes, level: int = 3) -> Frame:
    return Frame(Type.LOG, number, struct.pack("=I", level) + text)


def flood(peer: Peer, number: int) -> None:
    for block in range(50):
        lines = b"".join(b"flood %d\n" % (100 * block + i) for i in range(100))
        peer.send(log(number, lines))
    honest(peer, number)


def long_line(peer: Peer, number: int) -> None:
    for _ in range(12):
        peer.send(log(number, b"long " + b"x" * 200_000))
    honest(peer, number)


def logging_instead(peer: Peer, number: int) -> None:
    """Words, again and again, but no head."""
    while True:
        peer.send(log(number, b"still at work", level=7))
        time.sleep(0.2)


def reading_instead(peer: Peer, number: int) -> None:
    """Asks for a body that has ended, again and again."""
    while True:
        peer.send(Frame(Type.READ, number, struct.pack("=I", 9)))
        assert peer.receive().type == Type.BODY
        time.sleep(0.2)


def until_gone(make: Callable[[int], Frame], *before: Callable[[int], Frame]) -> Lie:
    """The same frame again and again, and whatever is asked is answered by it, until GONE comes."""

    def lie(peer: Peer, number: int) -> None:
        peer.send(*(one(number) for one in before))
        os.write(2, b"begins to go on for ever\n")
        while True:
            peer.send(make(number))
            while select.select([peer.socket], [], [], 0.05)[0]:
                if peer.receive().type == Type.GONE:
                    os.write(2, b"was told that the client has gone\n")
                    peer.send(end(number, Outcome.CUT))
                    return

    return lie


def heedless(peer: Peer, number: int) -> None:
    """Goes on as fast as it can, though it was told that the client has gone."""
    peer.send(head(number))
    os.write(2, b"begins to go on for ever\n")
    try:
        while True:
            peer.send(log(number, bytes(65536), level=7))
    except OSError:
        os.write(2, b"saw its connection closed\n")


def next_answer_first(peer: Peer, number: int) -> None:
    honest(peer, number)
    honest(peer, number + 1)


def withdrawn(peer: Peer, number: int) -> None:
    """Says that its files changed, stays deaf to the command to leave, and answers on."""
    DEAF.set()
    message(4, 0, 0)
    honest(peer, number)


def pulled_wrongly(answer: Callable[[int, int], Frame]) -> Lie:
    """A file of five bytes; `answer` makes the frame for a pull of so many."""

    def lie(peer: Peer, number: int) -> None:
        peer.send(head(number), Frame(Type.FILE, number, struct.pack("=QQ", 0, 5)))
        pull = peer.receive()
        peer.send(answer(number, struct.unpack("=QII", pull.payload)[1]))
        peer.send(end(number, Outcome.COMPLETE))

    return lie


# The order of frames once more, apart from frame.c on purpose: how a state is reached, and what is
# allowed in it.
REACHED: dict[str, tuple[Callable[[int], Frame], ...]] = {
    "sent": (),
    "running": (lambda n: log(n, b"begun", 7),),
    "headed": (head,),
    "file": (head, lambda n: Frame(Type.FILE, n, struct.pack("=QQ", 0, 5))),
}
ANY = {"END", "LOG"}
ALLOWED = {
    "sent": {"READ", "HEAD", "REFUSE", *ANY},
    "running": {"READ", "HEAD", *ANY},
    # INTERIM, too, where the group has interim-responses=; here it has none.
    "headed": {"READ", "BODY", "FLUSH", "FILE", *ANY},
    "file": {"BODY", *ANY},
}
WELL_FORMED: dict[str, Callable[[int], Frame]] = {
    "READ": lambda n: Frame(Type.READ, n, struct.pack("=I", 9)),
    "HEAD": head,
    "BODY": lambda n: Frame(Type.BODY, n, b"hello"),
    "FLUSH": lambda n: Frame(Type.FLUSH, n),
    "FILE": lambda n: Frame(Type.FILE, n, struct.pack("=QQ", 0, 5)),
    "REFUSE": lambda n: Frame(Type.REFUSE, n, struct.pack("=I", 1)),
    "LOG": lambda n: log(n, b"x", 7),
    "INTERIM": lambda n: interim(n),
    "END": lambda n: end(n, Outcome.COMPLETE),
    "HELLO": lambda n: hello(1, bytes(32)),
    "GOODBYE": lambda n: Frame(Type.GOODBYE, 0, b"x"),
}


def out_of_order(state: str) -> dict[str, Lie]:
    return {
        f"{kind.lower()}-when-{state}": frames(*REACHED[state], make)
        for kind, make in WELL_FORMED.items()
        if kind not in ALLOWED[state]
    }


def random_frames(seed: int) -> Lie:
    """A walk through frames, mostly well-formed and often in order, some broken, then the end."""

    def lie(peer: Peer, number: int) -> None:
        chance = random.Random(seed)
        for _ in range(chance.randrange(1, 9)):
            data = bytearray(bytes(chance.choice(list(WELL_FORMED.values()))(number)))
            if chance.random() < 0.15:
                data[chance.randrange(len(data))] = chance.randrange(256)
            if chance.random() < 0.1:
                del data[chance.randrange(len(data)) :]
            peer.socket.sendall(data)
        peer.socket.shutdown(socket.SHUT_WR)
        peer.close()

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
    "half-a-frame-bytewise": slowly(b"\0\0\0\0\7" + b"\0" * 11, 0.3),
    "head-of-100-mib": raw(struct.pack("=IBBHQ", 100 << 20, Type.HEAD, 0, 0, 1)),
    "log-of-1-gib": raw(struct.pack("=IBBHQ", 1 << 30, Type.LOG, 0, 0, 1)),
    "status-0": with_head(status=0),
    "status-99": with_head(status=99),
    "status-100": with_head(status=100),
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
    "half-a-body": lambda peer, n: (
        peer.send(head(n)),
        silent_after(struct.pack("=IBBHQ", 5, Type.BODY, 0, 0, n) + b"he")(peer, n),
    )[1],
    "half-a-body-and-end": lambda peer, n: (
        peer.send(head(n)),
        closing_after(struct.pack("=IBBHQ", 5, Type.BODY, 0, 0, n) + b"he")(peer, n),
    )[1],
    "end-of-file-after-head": lambda peer, n: (peer.send(head(n)), peer.close())[1],
    "one-descriptor": passing(opened("/dev/null", os.O_RDONLY)),
    "many-descriptors": passing(opened("/dev/null", os.O_RDONLY), 253),
    "pull-answered-short": pulled_wrongly(lambda n, size: Frame(Type.BODY, n, b"x" * (size - 1))),
    "pull-answered-long": pulled_wrongly(lambda n, size: Frame(Type.BODY, n, b"x" * (size + 1))),
    "pull-answered-empty": pulled_wrongly(lambda n, size: Frame(Type.BODY, n)),
    "pull-answered-by-end": pulled_wrongly(lambda n, size: end(n, Outcome.COMPLETE)),
    "file-shortened": pulled_wrongly(lambda n, size: Frame(Type.BODY, n, b"", Flag.BODY_ERROR)),
    **out_of_order("headed"),
    **out_of_order("file"),
}
BEFORE_HEAD |= {**out_of_order("sent"), **out_of_order("running")}
# Only for a group that may pass descriptors.
PASSED: dict[str, Lie] = {
    "passed-fifo": passing(fifo),
    "passed-socket": passing(lambda: socket.socket(socket.AF_UNIX).detach()),
    "passed-directory": passing(opened("/", os.O_RDONLY | os.O_DIRECTORY)),
    "passed-zero": passing(opened("/dev/zero", os.O_RDONLY)),
    "passed-path": passing(named_regular(os.O_PATH)),
    "passed-write-only": passing(named_regular(os.O_WRONLY)),
    "passed-memory": passing(memory),
    "passed-proc": passing(opened("/proc/self/status", os.O_RDONLY)),
    "passed-short": passing(regular, offset=1),
    "passed-far": passing(regular, offset=1 << 62),
    "passed-two": passing(regular, 2),
    "passed-253": passing(regular, 253),
    "passed-none": passing(regular, 0),
}
GRANTED: dict[str, Lie] = {
    "passed-regular": passing(regular),
    "passed-leased": passing(leased),
    "passed-unannounced": unannounced,
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
OTHERS |= {
    "framing": with_head(
        headers=(
            (b"Transfer-Encoding", b"chunked"),
            (b"Connection", b"close, X-Kept"),
            (b"Upgrade", b"h2c"),
            (b"Keep-Alive", b"timeout=9"),
            (b"X-Kept", b"1"),
        )
    ),
    "flood": flood,
    "long-line": long_line,
    "logging-instead": logging_instead,
    "reading-instead": reading_instead,
    "logging-on": until_gone(lambda n: log(n, b"still at work", level=7), head),
    "reading-on": until_gone(lambda n: Frame(Type.READ, n, struct.pack("=I", 9)), head),
    "goodbye-on": until_gone(lambda n: Frame(Type.GOODBYE), head),
    "heedless": heedless,
    "lingering": with_lingering,
    "lingering-behind": lingering_behind,
    "wrong-and-watching": wrong_and_watching,
    "next-answer-first": next_answer_first,
    "withdrawn": withdrawn,
}


def after_much(*make: Callable[[int], Frame | bytes], first: bytes = PLAIN, count: int = 32) -> Lie:
    """Blocks that a client which does not read leaves to httpd, and what comes behind them."""

    def lie(peer: Peer, number: int) -> None:
        peer.send(head(number, first))
        for _ in range(count):
            peer.send(Frame(Type.BODY, number, b"x" * 65536))
        peer.socket.sendall(b"".join(bytes(one(number)) for one in make))
        os.write(2, b"all of request %d was taken\n" % number)

    return lie


def file_that_ends_at_once(peer: Peer, number: int) -> None:
    """And then answers nothing, whatever is asked on this connection."""
    after_much(
        lambda n: Frame(Type.FILE, n, struct.pack("=QQ", 0, 5)),
        lambda n: end(n, Outcome.COMPLETE),
    )(peer, number)
    while peer.socket.recv(65536):
        pass


def for_ever(peer: Peer, number: int) -> None:
    """How much is taken of a response that does not end, while nobody reads it."""
    peer.send(head(number, PLAIN))
    peer.socket.settimeout(1)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    frame = bytes(Frame(Type.BODY, number, b"x" * 65520))
    sent = 0
    try:
        while True:
            sent += peer.socket.send(frame[sent % len(frame) :])
    except OSError:
        os.write(2, b"so many bytes were taken: %d.\n" % sent)
        raise


# A client that is slow: what is wrong comes while nobody has asked for it yet.
AHEAD_CUT: dict[str, Lie] = {
    "much-then-head": after_much(head),
    "much-then-unknown-type": after_much(lambda n: struct.pack("=IBBHQ", 0, 99, 0, 0, n)),
    "much-then-too-large": after_much(lambda n: struct.pack("=IBBHQ", 262145, Type.BODY, 0, 0, n)),
    "much-then-empty-body": after_much(
        lambda n: Frame(Type.BODY, n), lambda n: end(n, Outcome.COMPLETE)
    ),
    "much-then-number-of-another": after_much(lambda n: Frame(Type.BODY, n + 1, b"x")),
    "much-then-half-a-header": after_much(lambda n: b"\0\0\0\0\7"),
    "much-then-half-a-frame": after_much(lambda n: struct.pack("=IBBHQ", 9, Type.BODY, 0, 0, n)),
    "much-then-failed": after_much(lambda n: end(n, Outcome.FAILED, 500)),
    "much-then-cut": after_much(lambda n: end(n, Outcome.CUT)),
    "much-then-read-and-end": after_much(
        lambda n: Frame(Type.READ, n, struct.pack("=I", 9)), lambda n: end(n, Outcome.COMPLETE)
    ),
    "much-then-refuse": after_much(lambda n: Frame(Type.REFUSE, n, struct.pack("=I", 1))),
    "much-then-file-that-ends": file_that_ends_at_once,
    "much-then-file": after_much(
        lambda n: Frame(Type.FILE, n, struct.pack("=QQ", 0, 5)),
        lambda n: Frame(Type.BODY, n, b"x" * 4),
        lambda n: end(n, Outcome.COMPLETE),
    ),
}
AHEAD_WHOLE: dict[str, Lie] = {
    "much-and-end": after_much(lambda n: end(n, Outcome.COMPLETE)),
    "much-and-goodbye": after_much(
        lambda n: Frame(Type.GOODBYE), lambda n: end(n, Outcome.COMPLETE)
    ),
    "much-and-more": after_much(
        lambda n: end(n, Outcome.COMPLETE), lambda n: Frame(Type.BODY, n, b"x")
    ),
    "much-and-next-answer": after_much(
        lambda n: end(n, Outcome.COMPLETE),
        lambda n: head(n + 1),
        lambda n: end(n + 1, Outcome.COMPLETE),
    ),
}
OTHERS |= {**AHEAD_CUT, **AHEAD_WHOLE, "for-ever": for_ever}
OTHERS["much-beyond-length"] = after_much(
    lambda n: end(n, Outcome.COMPLETE),
    first=bytes(Head(200, b"OK", ((b"Content-Length", b"1048576"),), 1 << 20)),
)

# For a group that allows two interim heads. Of "interim-thrice" two have left when it is a 502.
HINTS: dict[str, Lie] = {
    "interim-thrice": hinting(3),
    "interim-with-coding": hinting(1, name=b"Transfer-Encoding"),
    "interim-with-connection": hinting(1, name=b"connection"),
    "interim-with-length": hinting(1, name=b"Content-Length"),
    "interim-with-newline": hinting(1, name=b"Link: a\r\nX-Evil"),
    "interim-of-a-length": hinting(1, length=5),
    "interim-100": hinting(1, status=100),
    "interim-101": hinting(1, status=101),
    "interim-200": hinting(1, status=200),
    "interim-too-short": frames(lambda n: Frame(Type.INTERIM, n, b"x" * 17)),
    "interim-too-large": raw(struct.pack("=IBBHQ", 8193, Type.INTERIM, 0, 0, 1)),
    "interim-of-another": frames(lambda n: interim(n + 1)),
    "interim-then-refuse": frames(interim, lambda n: Frame(Type.REFUSE, n, struct.pack("=I", 1))),
}
OTHERS |= {"interim-once": hinting(1), "interim-twice": hinting(2)}

LIES = {**BEFORE_HEAD, **HINTS, **AFTER_HEAD, **PASSED, **GRANTED, **OTHERS}


def lie_called(name: str) -> Lie:
    return random_frames(int(name[5:])) if name.startswith("seed-") else LIES[name]


def serve(peer: Peer, worker: int) -> None:
    try:
        assert peer.receive().type == Type.HELLO
        peer.send(hello(worker, bytes(32), threads=5))
        while True:
            frame = peer.receive()
            found = re.search(rb"lie=([a-z0-9-]+)", frame.payload)
            if frame.type == Type.REQUEST and found:
                lie_called(found[1].decode())(peer, frame.number)
    except (OSError, EOFError):
        peer.close()


def message(kind: int, argument: int, value: int) -> None:
    os.write(MESSAGES, struct.pack("=IIQ", kind, argument, value))


def settings() -> tuple[int, str]:
    """The worker's number and its group: `mute` never says hello to httpd's children, `late`
    accepts no connection until a file of that name is there, nor does the first worker of
    `half`."""
    (length,) = struct.unpack("=I", os.read(CONTROL, 4))
    told = json.loads(os.read(CONTROL, length))
    return int(told["number"]), str(told["group"])


def end_with_supervisor() -> None:
    """A command, or end-of-file, ends a liar at once, unless it has gone deaf for the command to
    drain."""
    while os.read(CONTROL, 16)[:4] == DRAIN and DEAF.is_set():
        pass
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # "your lease is broken"
    worker, group = settings()
    listener = socket.socket(fileno=LISTENER)
    listener.setblocking(True)
    message(1, 1, worker)
    message(2, 1, 0)
    threading.Thread(target=end_with_supervisor, daemon=True).start()
    is_first = worker & 0xFFFFFFFF == 1
    while (group == "late" or (group == "half" and is_first)) and not (FILES / group).exists():
        time.sleep(0.01)
    while True:
        connection, _ = listener.accept()
        peer = Peer(connection, patience=60.0)
        if group == "mute":
            KEPT.append(connection)
            continue
        threading.Thread(target=serve, args=(peer, worker), daemon=True).start()


if __name__ == "__main__":
    main()
