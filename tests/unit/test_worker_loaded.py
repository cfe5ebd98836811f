# SPDX-License-Identifier: Apache-2.0
"""The memory in which a group's workers write down what they have loaded."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyglue.supervisor.process import make_memory
from pyglue.worker.loaded import Loaded, Script

SIZE = 4096


@pytest.fixture
def memory() -> Iterator[int]:
    fd = make_memory("test", SIZE)
    yield fd
    os.close(fd)


def script(path: Path, group: str = "", name: str = "application") -> Script:
    return {
        "script": os.fsencode(path).decode("latin-1"),
        "application_group": group,
        "callable": name,
        "reloading": True,
    }


def test_what_one_worker_wrote_down_the_next_one_reads(memory: int, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.py", "b \u00e9\n.py")]
    for file in files:
        file.touch()
    scripts = [script(file, f"group {i}") for i, file in enumerate(files)]
    assert Loaded(memory).add(scripts[:1])
    assert Loaded(memory).add(scripts)
    assert Loaded(memory).read() == scripts


def test_a_script_that_was_removed_is_not_missed(memory: int, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.touch()
    Loaded(memory).add([script(file)])
    file.unlink()
    assert Loaded(memory).read() == []


def test_what_does_not_fit_is_left_out_and_the_size_stays(memory: int, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.touch()
    many = [script(file, f"group {i}") for i in range(1000)]
    assert Loaded(memory).add(many)
    read = Loaded(memory).read()
    assert 10 < len(read) < 1000 and read == many[: len(read)]
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 2 * SIZE)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'["/", "", "application"]',
        b'["/", "", 7, true]',
        b'["/", "", "application", 1]',
        b'["/\\u0000", "", "application", true]',
        b'["/\\u20ac", "", "application", true]',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_nonsense_is_passed_over(line: bytes, tmp_path: Path) -> None:
    """A tenant can write all of it, and harms his own workers alone."""
    file = tmp_path / "a.py"
    file.touch()
    fd = make_memory("test", 1 << 18)
    try:
        os.pwrite(fd, line + b"\n", 0)
        assert Loaded(fd).add([script(file)])
        assert Loaded(fd).read() == [script(file)]
    finally:
        os.close(fd)


def test_whoever_finds_another_writing_tries_again_later(memory: int, tmp_path: Path) -> None:
    hold = "import fcntl; fcntl.lockf({}, fcntl.LOCK_EX); print(flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold.format(memory)],
        pass_fds=(memory,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert not Loaded(memory).add([script(tmp_path)])
    holder.communicate(b"\n")
    assert Loaded(memory).add([script(tmp_path)])
    fcntl.lockf(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
