# SPDX-License-Identifier: Apache-2.0
"""The event loop: descriptors, signals and time. Knows nothing of workers.

A selector and not asyncio: what root imports is read by root, and asyncio brings libssl and its
configuration with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping

Callback = Callable[[], None]
LONGEST = 1.0  # seconds of callbacks in one turn
READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


def now() -> float:
    """Seconds of CLOCK_MONOTONIC: clocks that jump move no deadline."""
    return time.monotonic()


class Loop:
    """Calls back when a descriptor is ready or a signal came."""

    def __init__(self, signals: Mapping[signal.Signals, Callback]) -> None:
        self._selector = selectors.DefaultSelector()
        self._signals = signals
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, lambda *_: None)
        self.watch(self._wake_read, READ, self._on_signal)

    def close(self) -> None:
        """No signal comes here any more. What is watched stays its owner's."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """No matter whether it was watched; -1 is none."""
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    def is_watched(self, fd: int) -> bool:
        return fd in self._selector.get_map()

    def again(self, number: signal.Signals) -> None:
        """As if the signal came once more: the next turn goes on with it."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of signals already
            os.write(self._wake_write, bytes([number]))

    def turn(self, timeout: float) -> None:
        """Waits, then calls back. A callback may end what others of this turn are about; where they
        have taken long what is due by the clock comes first, and the rest is found again."""
        ready = self._selector.select(max(timeout, 0.0))
        until = now() + LONGEST
        for key, _ in ready:
            if self._selector.get_map().get(key.fd) is key:
                key.data()
            if now() >= until:
                return

    def _on_signal(self) -> None:
        numbers = set(os.read(self._wake_read, 512))
        for number, callback in self._signals.items():
            if number in numbers:
                callback()
