# SPDX-License-Identifier: Apache-2.0
"""The stacks of this interpreter's threads as text, for the log of a worker in which something runs
for too long. `interrupt.c` calls `describe`, on a thread of its own.

It must not wait for what a stuck thread may hold, so it takes no lock of `threading` or `logging`.
"""

import threading
import traceback
from collections.abc import Iterator
from types import FrameType

ID = "PG3020"
DEPTH = 60  # innermost calls of a stack; a recursion would fill the log
FRAMES = 200  # threads


def describe(
    application_group: str, part: int, frames: dict[int, FrameType], running: dict[int, str]
) -> str:
    """By the numbers of threads, where each is, and what it runs. `part`: of a group that is spread
    over several interpreters."""
    frames.pop(threading.get_ident(), None)
    # Taken before files are read for them, so that they are of one moment.
    stacks = {ident: _stack(frame) for ident, frame in list(frames.items())[:FRAMES]}
    frames.clear()
    which = f", interpreter {part}" if part else ""
    head = f"{ID}: stacks of all threads of application group '{application_group}'{which}:"
    return "\n".join([head, *_lines(stacks, running)])


def _stack(frame: FrameType) -> traceback.StackSummary:
    stack = traceback.StackSummary.extract(
        traceback.walk_stack(frame), limit=DEPTH, lookup_lines=False
    )
    stack.reverse()
    return stack


def _lines(stacks: dict[int, traceback.StackSummary], running: dict[int, str]) -> Iterator[str]:
    for ident in sorted(stacks, key=lambda ident: (ident not in running, ident)):
        what = f" runs {_escaped(running[ident])}" if ident in running else ""
        yield f"Thread 0x{ident:016x}{what}"
        for entry in stacks[ident].format():
            yield from entry.splitlines()
    for ident in sorted(running.keys() - stacks):
        # Between two steps of the application: it waits for its client.
        yield f"Thread 0x{ident:016x} runs {_escaped(running[ident])}"
        yield "  (no Python code: its response is sent, or it waits for the interpreter)"


def _escaped(text: str) -> str:
    """It is latin-1, from a client."""
    return text.encode("unicode_escape").decode()
