# SPDX-License-Identifier: Apache-2.0
"""Which processes `pyglue reload` takes for workers, on a /proc of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyglue.cli.running import Machine, Worker

MINDS = "0000000000000200"  # SIGUSR1 has a handler
DEAF = "0000000000000000"
BOOT = "/opt/x/pyglue/worker/boot.py"
SUPERVISOR = ["/usr/bin/python3", "-I", "/opt/x/pyglue/supervisor/__main__.py"]


class Proc:
    """A httpd (100), its supervisor (101), and what is put below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put(101, 100, [*SUPERVISOR, "--parent", "100", "--epoch", "1"])

    def put(
        self,
        pid: int,
        parent: int,
        command: list[str],
        *,
        uids: str = "0 0 0 0",
        threads: tuple[str, ...] = ("python3",),
        caught: str = MINDS,
        environ: str = "",
    ) -> None:
        folder = self.root / str(pid)
        folder.mkdir()
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(a) + b"\0" for a in command))
        (folder / "status").write_text(
            f"Name:\tpython3\nPPid:\t{parent}\nUid:\t{uids}\nSigCgt:\t{caught}\n"
        )
        if environ:
            (folder / "environ").write_text(environ)
        for number, name in enumerate(threads):
            (folder / "task" / str(pid + number)).mkdir(parents=True)
            (folder / "task" / str(pid + number) / "comm").write_text(name + "\n")

    def worker(self, pid: int, *, parent: int = 101, uid: int = 1001, state: str = "ready") -> None:
        self.put(
            pid,
            parent,
            ["/usr/bin/python3", BOOT, "shop"],
            uids=f"{uid} {uid} {uid} {uid}",
            threads=("python3", f"wsgi:{state}"),
            caught=DEAF if state == "starting" else MINDS,
        )


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def found(proc: Proc) -> list[Worker]:
    return Machine(proc.root).workers()


@pytest.mark.parametrize("state", ["starting", "ready", "unloaded", "leaving"])
def test_worker_is_known_with_its_group_and_state(proc: Proc, state: str) -> None:
    proc.worker(200, state=state)
    assert found(proc) == [Worker(200, 1001, "shop", state, 101, 100)]


def test_worker_that_cannot_name_its_thread_is_ready_when_it_minds_the_signal(proc: Proc) -> None:
    proc.put(
        200, 101, ["p", BOOT, "shop"], uids="7 7 7 7", threads=("p", "wsgi:starting"), caught=MINDS
    )
    assert [w.state for w in found(proc)] == ["ready"]


def test_group_of_a_renamed_worker_is_read_from_its_environment(proc: Proc) -> None:
    named = {"uids": "7 7 7 7", "threads": ("p", "wsgi:ready")}
    proc.put(200, 101, ["(my name)"], environ="A=1\0PYGLUE_GROUP=shop\0B=2\0", **named)  # type: ignore[arg-type]
    proc.put(201, 101, ["(my name)"], **named)  # type: ignore[arg-type]
    assert [w.group for w in found(proc)] == ["shop", ""]


def test_what_a_worker_has_left_behind_is_none(proc: Proc) -> None:
    """The supervisor adopts it. A fork has the command line of the worker, but not its threads."""
    same = ["/usr/bin/python3", BOOT, "shop"]
    proc.put(300, 101, same, uids="1001 1001 1001 1001")
    proc.put(301, 101, ["/bin/sleep", "9"], uids="1001 1001 1001 1001", environ="PYGLUE_GROUP=shop")
    assert found(proc) == []


def test_child_of_another_process_is_none(proc: Proc) -> None:
    proc.put(150, 1, ["/bin/sh", "-c", "x"])
    proc.worker(200, parent=150)
    assert found(proc) == []


@pytest.mark.parametrize(
    ("supervisor", "worker", "is_sound"),
    [
        ("0 0 0 0", "1001 1001 1001 1001", True),
        ("1001 1001 1001 1001", "1001 1001 1001 1001", True),
        ("1001 0 0 0", "1001 1001 1001 1001", False),  # a program of root's that a tenant started
        ("1001 1001 1001 1001", "1001 0 0 0", False),
        ("1001 1001 1001 1001", "1002 1002 1002 1002", False),
        ("0 0 0 0", "1001 0 0 0", False),
        ("0 0 0 0", "0 0 0 0", False),
    ],
)
def test_who_passes_for_a_supervisor_is_none(
    proc: Proc, supervisor: str, worker: str, is_sound: bool
) -> None:
    proc.put(102, 1, [*SUPERVISOR, "--parent", "1"], uids=supervisor)
    threads = ("p", "wsgi:ready")
    proc.put(200, 102, ["p", BOOT, "shop"], uids=worker, threads=threads)
    assert bool(found(proc)) is is_sound


@pytest.mark.parametrize("damage", ["status", "cmdline", "task"])
def test_process_that_ends_while_it_is_looked_at_is_left_out(proc: Proc, damage: str) -> None:
    proc.worker(200)
    proc.worker(201)
    os.rename(proc.root / "200" / damage, proc.root / "200" / "gone")
    assert 201 in [w.pid for w in found(proc) if w.group]
    assert 200 not in [w.pid for w in found(proc) if w.group]


def test_forged_supervisor_without_a_parent_hides_no_worker(proc: Proc) -> None:
    """Any user can start processes with such words, and root reads them."""
    proc.put(300, 1, [*SUPERVISOR, "--parent"], uids="1001 1001 1001 1001")
    proc.worker(301, parent=300)
    proc.worker(200)
    assert [worker.pid for worker in found(proc)] == [200]
