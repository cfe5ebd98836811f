# SPDX-License-Identifier: Apache-2.0
"""A client of one stream of HTTP/2 (RFC 9113) that sends when it is told to: curl would send all.
Of a head it reads the status alone (RFC 7541)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM = ACK = 1
END_HEADERS = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INDEXED = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
DIGITS = {"00000": "0", "00001": "1", "00010": "2"} | {
    f"{code:06b}": str(digit) for digit, code in enumerate(range(0x19, 0x20), 3)
}


def literal(name: str, value: str) -> bytes:
    """A field that no table holds and no Huffman code shortens."""
    return b"\x00" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def status_of(block: bytes) -> int:
    """A head begins with its status, behind new sizes of the table if there are any."""
    while block[0] >> 5 == 1:
        size = 1
        if block[0] & 31 == 31:
            while block[size] & 128:
                size += 1
            size += 1
        block = block[size:]
    if block[0] & 128:
        return INDEXED[block[0] & 127]
    length, text = block[1] & 127, block[2:]
    if not block[1] & 128:
        return int(text[:length])
    bits, digits = "".join(f"{byte:08b}" for byte in text[:length]), ""
    while len(digits) < 3:
        size = 5 if bits[:5] in DIGITS else 6
        digits, bits = digits + DIGITS[bits[:size]], bits[size:]
    return int(digits)


class Stream:
    """One request, without TLS and by prior knowledge. Every wait has a deadline."""

    def __init__(self, address: tuple[str, int], deadline: float = 30) -> None:
        self.socket = socket.create_connection(address, deadline)
        self.is_ended = self.is_reset = False
        self._data = b""
        self._heads: list[int] = []
        self.socket.sendall(PREFACE)
        self._send(SETTINGS, 0, b"", stream=0)

    def _send(self, kind: int, flags: int, payload: bytes, stream: int = 1) -> None:
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        self.socket.sendall(head + payload)

    def begin(self, method: str, target: str, fields: Mapping[str, str]) -> None:
        """The head of a request with a body."""
        own = {":method": method, ":scheme": "http", ":path": target, ":authority": "tests.invalid"}
        named = {name.lower(): value for name, value in fields.items()}
        block = b"".join(literal(name, value) for name, value in (own | named).items())
        self._send(HEADERS, END_HEADERS, block)

    def send(self, data: bytes, is_last: bool = False) -> None:
        self._send(DATA, END_STREAM if is_last else 0, data)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _take_frame(self) -> None:
        head = self._exactly(9)
        kind, flags = head[3], head[4]
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        if kind == SETTINGS and not flags & ACK:
            self._send(SETTINGS, ACK, b"", stream=0)
        elif kind == HEADERS:
            self._heads.append(status_of(payload))
        elif kind == DATA:
            self._data += payload
        self.is_reset |= kind == RST_STREAM and payload != bytes(4)
        self.is_ended |= kind == RST_STREAM or (kind in (HEADERS, DATA) and bool(flags & 1))

    def read_status(self) -> int:
        """That of the next head, also an interim one."""
        while not self._heads:
            self._take_frame()
        return self._heads.pop(0)

    def read_data(self) -> bytes:
        """What has come of the body, b"" at its end."""
        while not self._data and not self.is_ended:
            self._take_frame()
        data, self._data = self._data, b""
        return data

    def close(self) -> None:
        self.socket.close()
