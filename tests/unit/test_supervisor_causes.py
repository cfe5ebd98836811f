# SPDX-License-Identifier: Apache-2.0
"""The words for a worker's death: its cause, and what it ran."""

from __future__ import annotations

import signal

import pytest

from pyglue.supervisor import causes
from pyglue.supervisor.causes import Memory, Running, cause_of, named

CORE = 0x80


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (3 << 8, "exited with status 3"),
        (120 << 8, "exited with status 120: Python could not write its last output"),
        (126 << 8, "exited with status 126: its Python could not be executed"),
        (127 << 8, "exited with status 127: its Python, or a library"),
        ((128 + 11) << 8, "exited with status 139: what a shell says of SIGSEGV"),
        (200 << 8, "exited with status 200"),
        (signal.SIGKILL, "was killed by SIGKILL"),
        (signal.SIGSEGV, "was killed by SIGSEGV: a fault in native code, or a stack that over"),
        (signal.SIGABRT | CORE, "was killed by SIGABRT (core dumped): native code, or Python"),
        (signal.SIGXCPU, "was killed by SIGXCPU: its limit of CPU time is used up"),
        (signal.SIGXFSZ, "was killed by SIGXFSZ: it wrote a file beyond its limit of file size"),
        (signal.SIGHUP, "was killed by SIGHUP"),
        (40, "was killed by signal 40"),
    ],
)
def test_status_is_told_in_words(status: int, words: str) -> None:
    told = cause_of(status)
    assert told.startswith(words)
    assert ":" in words or told == words


def test_the_ending_that_a_worker_noted_is_the_reason_of_its_status() -> None:
    told = "exited with status 1: startup-timeout had passed, and no script was loaded"
    assert cause_of(1 << 8, ending=1) == told
    assert cause_of(1 << 8, ending=77) == "exited with status 1"
    assert cause_of(signal.SIGKILL, ending=1) == "was killed by SIGKILL"


def test_of_one_that_is_traced_only_its_tracer_and_its_own_word_are_told() -> None:
    told = causes.cause_of_traced(4711)
    assert told == "ended, but how cannot be told: process 4711 traces it and keeps it"
    assert "another PID namespace traces it" in causes.cause_of_traced(0)
    assert causes.cause_of_traced(4711, ending=1).startswith(f"{told}; before, startup-timeout")


def test_the_kernels_shortage_of_memory_is_asked_for_sigkill_alone() -> None:
    short = cause_of(signal.SIGKILL, 0, lambda: causes.SHORT_MACHINE)
    assert short == "was killed by SIGKILL, likely by the kernel, which ran out of memory"
    assert "memory" not in cause_of(signal.SIGSEGV, 0, lambda: causes.SHORT_MACHINE)


def test_memory_was_short_for_some_seconds_after_the_kernels_count_rose() -> None:
    counts = [5, 5, 6, 6, 6]
    memory = Memory(lambda: counts.pop(0))
    assert not memory.was_short(100.0)
    memory.look(101.0)
    assert memory.was_short(105.0)
    assert not memory.was_short(101.1 + causes.OOM_SECONDS)


def test_a_kill_in_a_groups_own_cgroup_is_no_shortage_of_the_machine() -> None:
    kills, in_cgroups = [5], [2]
    memory = Memory(lambda: kills[0], lambda: in_cgroups[0])
    kills[0], in_cgroups[0] = 7, 4
    assert not memory.was_short(100.0)
    kills[0], in_cgroups[0] = 9, 5
    assert memory.was_short(101.0)


def test_the_count_of_this_machine_can_be_read() -> None:
    assert causes.oom_kills() >= 0


def test_running_requests_are_named_the_longest_first() -> None:
    told = causes.running(
        [(7, 99_000, b"aBc", b"GET /late"), (8, 90_000, b"", b"POST /early")], 100.0, 50.0
    )
    assert [one.number for one in told] == [8, 7]
    assert named(told) == ". It ran: POST /early (for 10.0 s), GET /late (id aBc, for 1.0 s)"


@pytest.mark.parametrize("start_ms", [0, 200_000, 1 << 63])
def test_a_time_that_cannot_be_is_not_told(start_ms: int) -> None:
    told = causes.running([(7, start_ms, b"", b"GET /")], 100.0, 50.0)
    assert named(told) == ". It ran: GET /"


def test_a_request_without_a_text_is_told_by_its_number() -> None:
    """Of a worker of an older version."""
    assert named([Running(7, 1.0)]) == ". It ran: request 7 (for 1.0 s)"


def test_more_requests_than_fit_are_counted() -> None:
    told = named([Running(i, None, b"", b"GET /%d" % i) for i in range(1, 14)])
    assert told.endswith("GET /10, and 3 more")


def test_nothing_that_ran_is_nothing_said() -> None:
    assert named([]) == ""


def test_texts_of_a_stranger_stay_one_bounded_line() -> None:
    evil = b"\n[fake]\x1b[2J\x00\x9b\xe2\x80\xa8\xe2\x80\xae" * 40  # new line, turned text
    told = named([Running(i, 1.0, evil[:44], evil[:160]) for i in range(1000)])
    assert told.isprintable()
    assert len(told) < 5000
