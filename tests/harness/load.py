"""Clients that ask again and again while a test does something to the server.

Each answer is kept, so that a test says exactly which failures are allowed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

from .client import Connection, CutError, request, wait_until


@dataclass(frozen=True)
class Answer:
    """status 0: the connection ended without an answer."""

    status: int
    seconds: float
    text: str = ""
    is_cut: bool = False

    @property
    def is_good(self) -> bool:
        return self.status == 200 and not self.is_cut


class Load:
    """`clients` threads between `with` and its end. keep_alive False: a new connection for each
    request, as httpd itself closes idle ones at a graceful restart."""

    def __init__(
        self,
        address: tuple[str, int],
        target: str,
        clients: int = 4,
        *,
        keep_alive: bool = True,
        deadline: float = 20.0,
    ) -> None:
        self.answers: list[Answer] = []
        self._address = address
        self._deadline = deadline
        self._keep_alive = keep_alive
        headers = {} if keep_alive else {"Connection": "close"}
        self._request = request("GET", target, headers)
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_more(2 * len(self._threads))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int, seconds: float = 20.0) -> None:
        """Returns when so many more answers have come."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted, f"{count} more answers", seconds)

    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.is_good]

    def _ask(self) -> None:
        connection: Connection | None = None
        while not self._is_over.is_set():
            began = time.monotonic()
            try:
                connection = connection or Connection(self._address, self._deadline)
                status, text, is_cut, stays = self._exchange(connection)
            except (OSError, EOFError) as error:
                status, text, is_cut, stays = 0, repr(error), False, False
            self.answers.append(Answer(status, time.monotonic() - began, text, is_cut))
            if connection is not None and not stays:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _exchange(self, connection: Connection) -> tuple[int, str, bool, bool]:
        """Status, text, whether it was cut, whether the connection is of further use."""
        try:
            connection.send(self._request)
            response = connection.read_response()
        except CutError as error:
            return error.response.status, error.response.text, True, False
        return response.status, response.text, False, response.header("Connection") != "close"
