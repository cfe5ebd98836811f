# SPDX-License-Identifier: Apache-2.0
"""Applications whose requests meet or gather, and what calls many at once."""

from pathlib import Path
from typing import Any

from .memhost.machine import Machine

HELLO = """
def application(environ, start_response):
    start_response('200 OK', [])
    return [{body}]
"""

# Two requests meet where both run at once. Neither lets its GIL go while it waits: reading memory
# does not, and the interval after which Python would do it by itself is longer than any test.
MEETS = """
import mmap, os, sys, time

def claim():
    for mine in range(2):
        try:
            os.close(os.open(f'{folder}/claim{{mine}}', os.O_CREAT | os.O_EXCL))
            return mine
        except FileExistsError:
            pass

def application(environ, start_response):
    sys.setswitchinterval(100000)
    mine = claim()
    with open('{folder}/flags', 'r+b') as file:
        flags = mmap.mmap(file.fileno(), 2)
    end = time.monotonic() + {patience}
    flags[mine] = 1
    has_met = False
    while not has_met and time.monotonic() < end:
        has_met = flags[1 - mine] == 1
    sys.setswitchinterval(0.005)
    start_response('200 OK', [])
    return [b'met' if has_met else b'alone']
"""

# Each waits until all are there, letting its GIL go, and tells the interpreter that it ran in.
GATHERS = """
import os, time
mark = os.urandom(8).hex()

def application(environ, start_response):
    open(f'{folder}/here-{{os.urandom(8).hex()}}', 'w').close()
    end = time.monotonic() + 30
    while len(os.listdir('{folder}')) < {count} and time.monotonic() < end:
        time.sleep(0.001)
    start_response('200 OK', [])
    return [mark.encode()]
"""


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def meeting(folder: Path, patience: float) -> str:
    """A script whose first two requests try to meet."""
    (folder / "flags").write_bytes(bytes(2))
    return write(folder / "a.wsgi", MEETS.format(folder=folder, patience=patience))


def call_of(script: str, group: str) -> tuple[Any, ...]:
    return Machine.command(script, group=group)


def bodies(answers: list[Any]) -> list[bytes]:
    return [operations[-1][3] for *_, operations in answers]
