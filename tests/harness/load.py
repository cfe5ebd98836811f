"""Clients that ask again and again while a test does something to the server.

Each answer is kept, so that a test says exactly which failures are allowed. Where the target has
a {number} each request gets one of its own, which its answer must contain: else it is wrong, as
one that was meant for another."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    is_wrong: bool = False

    @property
    def is_good(self) -> bool:
        return self.status == 200 and not self.is_cut and not self.is_wrong


@dataclass(frozen=True)
class Tally:
    """What became of all requests."""

    sent: int
    answered: int
    wrong: int
    failed: int


@contextmanager
def repeated(action: Callable[[], None], turn: float) -> Iterator[None]:
    """While the block runs a thread does this, again after each `turn` seconds."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(turn):
            action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class Load:
    """`clients` threads between `with` and its end. keep_alive False: a new connection for each
    request. resend: a request on a connection that had been idle and ends without a byte of an
    answer is sent again, as every browser does: httpd itself closes idle ones at a graceful
    restart."""

    def __init__(
        self,
        address: tuple[str, int],
        target: str,
        clients: int = 4,
        *,
        keep_alive: bool = True,
        resend: bool = False,
        deadline: float = 20.0,
    ) -> None:
        self.answers: list[Answer] = []
        self.resent = 0
        self._address = address
        self._deadline = deadline
        self._target = target
        self._numbers = itertools.count(1)
        self._resends = resend
        self._headers = {} if keep_alive else {"Connection": "close"}
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        self.begin()
        self.wait_for_more(2 * len(self._threads))
        return self

    def begin(self) -> None:
        """Waits for no answer: they may be slow."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """When the answers to all that was sent are there."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def wait_for_more(self, count: int, seconds: float = 20.0) -> None:
        """Returns when so many more answers have come."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted, f"{count} more answers", seconds)

    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.is_good]

    def tally(self) -> Tally:
        """Of a load that is over: each request that was sent has become an answer."""
        answers = self.answers
        wrong = sum(answer.is_wrong for answer in answers)
        good = sum(answer.is_good for answer in answers)
        return Tally(len(answers), good, wrong, len(answers) - good - wrong)

    def _ask(self) -> None:
        connection: Connection | None = None
        while not self._is_over.is_set():
            began, number = time.monotonic(), next(self._numbers)
            was_idle = connection is not None
            answer: Answer | None
            try:
                connection = connection or Connection(self._address, self._deadline)
                answer, stays = self._exchange(connection, number, began)
            except (OSError, EOFError) as error:
                answer, stays = Answer(0, time.monotonic() - began, repr(error)), False
                if was_idle and self._resends and is_closed_idle(connection, error):
                    self.resent += 1
                    answer = None
            if answer is not None:
                self.answers.append(answer)
            if connection is not None and not stays:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _exchange(self, connection: Connection, number: int, began: float) -> tuple[Answer, bool]:
        """The answer, and whether the connection is of further use."""
        expected = str(number) if "{number}" in self._target else ""
        target = self._target.replace("{number}", expected)
        is_cut = False
        try:
            connection.send(request("GET", target, self._headers))
            response = connection.read_response()
        except CutError as error:
            response, is_cut = error.response, True
        is_wrong = response.status == 200 and not is_cut and expected not in response.text.split()
        answer = Answer(
            response.status,
            time.monotonic() - began,
            response.text,
            is_cut,
            is_wrong and expected != "",
        )
        return answer, not is_cut and response.header("Connection") != "close"


def is_closed_idle(connection: Connection | None, error: Exception) -> bool:
    """It ended, or was reset, without a byte."""
    has_ended = isinstance(error, (EOFError, ConnectionError))
    return connection is not None and has_ended and not connection.pending
