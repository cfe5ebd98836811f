# SPDX-License-Identifier: Apache-2.0
"""Every system call of the step fails, or says yes and does nothing: nothing of the tenant's runs.

strace attaches to a launcher that is about to call the jail and injects into it and its child. A
run has "run" the tenant's program when its log shows that execve was tried: stricter than success.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jailed
import pytest
from harness.client import wait_until

from pyglue.supervisor import hierarchies

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.looks_inside,  # strace follows over the change of user
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]

DEADLINE = 20.0
PROGRAM = "/bin/true"  # inside the chroot, which is /usr, too
LAUNCH = {
    "argv": [PROGRAM],
    "executable": PROGRAM,
    "options": {"umask": 0o27, "home": "/share", "chroot": "/usr", "nice": 3,
                "rlimits": [[4, 0, 0], [7, 500, 600]]},
}  # fmt: skip
FAULTS = ["error=EPERM", "error=EAGAIN", "error=ENOMEM", "error=EINVAL", "retval=0"]

LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def held_capabilities() -> int:
    """Those in the bounding set, of which a container's root lacks some."""
    text = Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0]
    return int(text, 16).bit_count()


# How often prctl is called up to the end of the step `bounding`: twice for `dumpable`, then two
# questions a capability, a drop of each that is held, and the question that finds no more.
PRCTL = 2 + 2 * (LAST_CAPABILITY + 1) + held_capabilities() + 1

# "when" of a call that the supervisor's side makes too, or whose later uses prove something else.
CALLS = [
    "clone", "getpid", "setsid", "getsid", "statx", "fcntl", "fcntl:when=8+", "fcntl:when=9+",
    "dup3", "dup3:when=2", "dup3:when=3", "dup3:when=4", "rt_sigaction", "rt_sigaction:when=30",
    "rt_sigprocmask", "rt_sigprocmask:when=2", "prlimit64", "prlimit64:when=2",
    "prlimit64:when=3", "prlimit64:when=4", "setpriority", "getpriority", "chroot", "chdir",
    "chdir:when=2", "prctl", "prctl:when=3", "prctl:when=5", "prctl:when=6", "prctl:when=5+",
    f"prctl:when={PRCTL + 1}+", f"prctl:when={PRCTL + 3}+", f"prctl:when={PRCTL + 5}+",
    "setgroups", "getgroups", "setresgid", "getresgid", "setresuid", "getresuid",
    "setresuid:when=2+", "setresgid:when=2", "setuid", "capset", "capget", "umask",
    "umask:when=2", "umask:when=3", "execve", "close_range",
]  # fmt: skip

REFUSALS = {(call, fault) for call in ("setuid", "setresuid:when=2+", "setresgid:when=2")
            for fault in FAULTS[:-1]}  # fmt: skip
# Where the program may run, because the state that the step wants held all the same.
HARMLESS = {
    ("capset", "retval=0"): "the change of user had emptied all sets, and capget says so",
    **dict.fromkeys(REFUSALS, "the way back is to be refused, and for whatever reason it was"),
    **{("close_range", fault): "descriptors are closed one by one" for fault in FAULTS[:-1]},
}


def wait_for_tracer(launcher: subprocess.Popen[bytes], strace: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE
    status = Path(f"/proc/{launcher.pid}/status")
    while "TracerPid:\t0\n" in status.read_text():
        if strace.poll() is not None:
            assert strace.stderr is not None
            pytest.fail(f"strace cannot attach here: {strace.stderr.read().decode()}")
        assert time.monotonic() < deadline, "strace did not attach"
        os.sched_yield()


def run_with(fault: str | None, call: str, log: Path, launch: dict[str, object] = LAUNCH) -> str:
    """The log of a launch under that fault."""
    name, _, when = call.partition(":")
    inject = [f"--inject={name}:{fault}{':' + when if when else ''}"] if fault else []
    pipe = subprocess.PIPE
    launcher = subprocess.Popen(
        [sys.executable, jailed.__file__, json.dumps(launch), "wait"],
        stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == b"ready\n"
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", log, "-p", str(launcher.pid),
         f"--trace={name},execve,exit_group", *inject], stderr=pipe,
    )  # fmt: skip
    try:
        wait_for_tracer(launcher, strace)
        launcher.communicate(b"\n", timeout=DEADLINE)
        strace.communicate(timeout=DEADLINE)
    finally:
        for process in (launcher, strace):
            process.kill()
            process.wait()
    return log.read_text()


def test_without_a_fault_the_program_runs(tmp_path: Path) -> None:
    assert f'execve("{PROGRAM}"' in run_with(None, "chdir", tmp_path / "log")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_program_runs_only_in_the_state_that_was_wanted(
    call: str, fault: str, tmp_path: Path
) -> None:
    """RELIABILITY B1#1, TENANTS 3."""
    log = run_with(fault, call, tmp_path / "log")
    assert "INJECTED" in log, "the call that was to fail was never made"
    tried = re.findall(rf'execve\("{PROGRAM}".*', log)
    if call == "execve":
        assert all("INJECTED" in line for line in tried)
    elif (call, fault) in HARMLESS:
        assert tried, HARMLESS[call, fault]
    else:
        assert not tried


# Joining a cgroup.


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A folder of the kernel's, empty again at the end."""
    useful = [
        t for t in hierarchies.mounted() if t.version == 2 or t.controllers & {"pids", "memory"}
    ]
    if not useful or not os.access(useful[0].top, os.W_OK):
        pytest.skip("no cgroup can be made here")
    folder = useful[0].top / f"pyglue-injection-{os.getpid()}"
    folder.mkdir()
    yield folder
    wait_until(lambda: not (folder / "cgroup.procs").read_text(), "its processes are gone")
    folder.rmdir()


def in_cgroup(cgroup: Path) -> dict[str, object]:
    return {"argv": [PROGRAM], "executable": PROGRAM, "options": {"cgroups": [str(cgroup)]}}


def test_without_a_fault_the_program_runs_in_its_cgroup(cgroup: Path, tmp_path: Path) -> None:
    assert f'execve("{PROGRAM}"' in run_with(None, "lseek", tmp_path / "log", in_cgroup(cgroup))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["write:when=1", "lseek:when=1", "read:when=1"])
def test_program_runs_in_its_cgroup_or_not_at_all(
    call: str, fault: str, cgroup: Path, tmp_path: Path
) -> None:
    """The first of these calls in the child: others are of the launcher, or tell of the failure."""
    log = run_with(fault, call, tmp_path / "log", in_cgroup(cgroup))
    assert "INJECTED" in log
    assert not re.findall(rf'execve\("{PROGRAM}"', log)
