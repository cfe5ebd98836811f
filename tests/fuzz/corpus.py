# SPDX-License-Identifier: Apache-2.0
"""Writes the first files of each corpus: one well-formed input a shape, from docs/wire.md."""

import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TEXTS = 7  # script, groups, callable, handler and two ids
SNAPSHOT = "=IIIIQqqqiiii"


def frame(kind: int, length: int, flags: int = 0, number: int = 7) -> bytes:
    return struct.pack("=IBBHQ", length, kind, flags, 0, number)


def head(status: int, reason: bytes, *fields: tuple[bytes, bytes], length: int = -1) -> bytes:
    coded = [struct.pack("=II", len(name), len(value)) + name + value for name, value in fields]
    start = struct.pack("=iHHq", status, len(reason), len(fields), length)
    return start + reason + b"".join(coded)


def request(texts: list[bytes], body: bytes = b"") -> bytes:
    """Texts: TEXTS fixed ones, then key and value of each pair."""
    at = struct.calcsize(SNAPSHOT) + 8 * len(texts)
    slices = b""
    for text in texts:
        slices += struct.pack("=II", at, len(text))
        at += len(text) + 1
    pairs = (len(texts) - TEXTS) // 2
    start = struct.pack(SNAPSHOT, 1, at, 0, pairs, 7, len(body), 1, 2, 2, 4, 71, 0)
    block = start + slices + b"".join(text + b"\0" for text in texts)
    return struct.pack("=II", len(block), len(body)) + block + body


def record(version: int, slots: int, texts: list[bytes], how: bytes = b"\0") -> bytes:
    """How: an index of what was read, tests/fuzz/record.c. Each text is id and line of a slot."""
    start = struct.pack("=IIQQ", version, slots, 1, 0)
    start += b"".join(struct.pack("=QQ", 7, 1) for _ in texts)
    rest = struct.pack("=II", 1, 0)
    rest += b"".join(struct.pack("=HH44s160s", len(t), len(t), t, t) for t in texts)
    return how + start.ljust(len(rest), b"\0") + rest


FIXED = [b"/srv/app.wsgi", b"", b"", b"application", b"wsgi-script", b"id", b"id"]

INPUTS = {
    "frame": {
        "response": b"\0" + frame(7, 16) + frame(3, 5) + frame(11, 8),
        "pulled-body": b"\0" + frame(6, 4) + frame(10, 40) + frame(7, 64) + frame(11, 8),
        "file": b"\0" + frame(7, 16) + frame(8, 16, 4) + frame(3, 100) + frame(11, 8),
        "flushes": b"\0" + frame(7, 16) + frame(9, 0) + frame(3, 1) + frame(9, 0) + frame(11, 8),
        "refused": b"\0" + frame(12, 4),
        "hinted": b"\0" + frame(15, 40) + frame(6, 4) + frame(15, 16) + frame(7, 16) + frame(11, 8),
        "child": b"\1" + frame(1, 48, 0, 0) + frame(2, 200, 1) + frame(3, 5, 1) + frame(4, 16),
    },
    "head": {
        "bare": head(204, b""),
        "plain": head(200, b"OK", (b"Content-Type", b"text/plain"), length=5),
        "repeated": head(302, b"Found", (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b\xe4")),
        "empty-value": head(999, b"", (b"X", b"")),
        "split": head(200, b"OK", (b"X", b"a\r\nY: b")),
    },
    "interim": {
        "bare": head(103, b""),
        "link": head(103, b"Early Hints", (b"Link", b"</a.css>; rel=preload; as=style")),
        "coded": head(103, b"Early Hints", (b"Link", b"</a>"), (b"Transfer-Encoding", b"x")),
        "length": head(103, b"", (b"Content-Length", b"5")),
        "upgrade": head(101, b"Switching", (b"Upgrade", b"x")),
        "final": head(200, b"OK", length=5),
    },
    "snapshot": {
        "bare": request([b""] * TEXTS),
        "get": request([*FIXED, b"REQUEST_METHOD", b"GET", b"QUERY_STRING", b""]),
        "post": request([*FIXED, b"REQUEST_METHOD", b"POST"], b"name=value"),
        "query": request([*FIXED, b"REQUEST_METHOD", b"GET", b"REQUEST_URI", b"/a?b"]),
    },
    "record": {
        "running": record(2, 2, [b"GET /a", b"GET /b"]),
        "older": record(1, 2, [b"GET /a"], b"\1"),
        "too-long": record(2, 1024, [b"x" * 65535]),
        "too-many": record(2, 1025, [b"x"]),
        "short": record(2, 1, [b"x"], b"\2"),
    },
}


def main() -> None:
    for target, inputs in INPUTS.items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (CORPUS / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
