# SPDX-License-Identifier: Apache-2.0
"""A client that sends and shows bytes as they are: what `requests` tidies up is what is tested."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

DEADLINE = 10.0
T = TypeVar("T")


class CutError(Exception):
    """The connection ended before the response was complete."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"cut after {len(response.body)} bytes of body")
        self.response = response


@dataclass
class Response:
    """One response; header fields in their order, repeated ones apart."""

    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")


def request(
    method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """The bytes of a well-formed request; Content-Length is added for a body."""
    fields = {"Host": "tests.invalid", **(headers or {})}
    if body and "Transfer-Encoding" not in fields:
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def chunked(*blocks: bytes) -> bytes:
    """A complete chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"


class Connection:
    """One connection. Every wait has a deadline. With a small receive buffer the server soon waits
    for a client that does not read."""

    def __init__(
        self, address: tuple[str, int], deadline: float = DEADLINE, receive_buffer: int = 0
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(deadline)
        self.socket.connect(address)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    @property
    def pending(self) -> bytes:
        """What has come of an answer that is not whole yet."""
        return self._rest

    def is_closed(self) -> bool:
        """True when the server closes and sends nothing more."""
        try:
            return not self._rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def read_response(self, method: str = "GET") -> Response:
        """The next final response with its body; raises CutError when it is not complete."""
        return self.read_body(self.read_head(), method)

    def read_head(self) -> Response:
        """The next final response without its body; interim ones are noted in it."""
        interim = []
        while True:
            response = self.read_any_head()
            if response.status >= 200:
                response.interim = interim
                return response
            interim.append(response.status)

    def read_any_head(self) -> Response:
        """The next head, also an interim one."""
        return self._parse_head(self._until(b"\r\n\r\n"))

    def read_chunk(self) -> bytes:
        """The next chunk's data, b"" for the last one. Raises EOFError when there is none."""
        size = int(self._until(b"\r\n").split(b";")[0], 16)
        if size:
            return self._exactly(size + 2)[:-2]
        while self._until(b"\r\n"):
            pass
        return b""

    def read_exactly(self, size: int) -> bytes:
        """Bytes of a body with a length; EOFError when there are fewer."""
        return self._exactly(size)

    def read_all(self) -> bytes:
        """All until the server closes."""
        data, self._rest = self._rest, b""
        while piece := self.socket.recv(1 << 16):
            data += piece
        return data

    def read_body(self, response: Response, method: str = "GET") -> Response:
        """The body of a response of which the head was read."""
        if method == "HEAD" or response.status in (204, 304):
            return response
        length = response.header("Content-Length")
        coding = response.header("Transfer-Encoding")
        if coding:
            self._read_chunks(response)
        elif length is not None:
            self._read_length(response, int(length))
        else:
            response.body = self.read_all()
        return response

    def _read_chunks(self, response: Response) -> None:
        try:
            while chunk := self.read_chunk():
                response.body += chunk
        except (EOFError, ConnectionResetError, ValueError) as error:
            raise CutError(response) from error

    def _read_length(self, response: Response, length: int) -> None:
        try:
            response.body = self._exactly(length)
        except (EOFError, ConnectionResetError) as error:
            response.body = self._rest
            raise CutError(response) from error

    def _parse_head(self, head: bytes) -> Response:
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *reason = first.split(" ", 2)
        fields = [(key, value.strip()) for key, _, value in (line.partition(":") for line in lines)]
        return Response(version, int(status), "".join(reason), fields)

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise EOFError
            self._rest += piece
        data, _, self._rest = self._rest.partition(end)
        return data

    def _exactly(self, size: int) -> bytes:
        pieces, have = [self._rest], len(self._rest)
        while have < size:
            piece = self.socket.recv(1 << 16)
            if not piece:
                self._rest = b"".join(pieces)
                raise EOFError
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self._rest = data[size:]
        return data[:size]


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[Connection]:
    connection = Connection(address)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    address: tuple[str, int],
    target: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Response:
    """One request on a connection of its own, and its whole response."""
    with connected(address) as connection:
        connection.send(request(method, target, headers, body))
        return connection.read_response(method)


def facts(address: tuple[str, int], target: str = "/", **headers: str) -> dict[str, Any]:
    """The JSON that an application answers about itself."""
    response = ask(address, target, headers=headers)
    assert response.status == 200, response
    found: dict[str, Any] = json.loads(response.body)
    return found


def wait_until(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """What the condition gives, as soon as that is true; fail with `what` when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return found
