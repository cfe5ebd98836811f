# SPDX-License-Identifier: Apache-2.0
"""What a program finds itself to be behind the jail, and what the jail refuses or reports."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jailed
import pytest
from jailed import GID, PYTHON, UID, Launch

from pyglue import _jail

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """In root's own hands and open to all; not below /tmp, which others may write."""
    path = Path(tempfile.mkdtemp(dir="/opt"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def proc_status(**options: Any) -> dict[str, str]:
    """/proc/self/status of a program that changes no signal itself, unlike Python."""
    launch = Launch(("cat", "/proc/self/status"), "/bin/cat", options=options)
    outcome = launch.run()
    assert outcome.failed is None
    return dict(line.split(":\t", 1) for line in outcome.said.splitlines())


def test_steps_are_in_the_order_that_the_rules_ask_for() -> None:
    """TENANTS 3, rule 3."""
    assert _jail.steps() == [
        "child", "setsid", "descriptors", "signals", "limits", "nice", "cgroup", "chroot",
        "dumpable", "bounding", "setgroups", "setresgid", "setresuid", "undumpable", "return",
        "capabilities", "no_new_privs", "umask", "chdir", "execve",
    ]  # fmt: skip


def test_user_group_and_groups_are_exactly_the_configured_ones() -> None:
    look = Launch(options={"groups": [61240, GID, 61238, GID]}).run().look
    assert look["uids"] == [UID] * 3
    assert look["gids"] == [GID] * 3
    assert look["groups"] == [GID, 61238, 61240]


def test_no_supplementary_groups_means_none() -> None:
    assert Launch(options={"groups": []}).run().look["groups"] == []


def test_as_many_groups_as_the_kernel_holds_are_set() -> None:
    groups = list(range(100_000, 100_000 + os.sysconf("SC_NGROUPS_MAX")))
    assert Launch(options={"groups": groups}).run().look["groups"] == groups


def test_more_groups_than_the_kernel_holds_are_reported() -> None:
    groups = list(range(100_000, 100_001 + os.sysconf("SC_NGROUPS_MAX")))
    assert Launch(options={"groups": groups}).run().failed == ("setgroups", errno.EINVAL)


def test_root_cannot_be_regained() -> None:
    assert Launch().run().look["stays"]


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_no_capability_is_left(no_new_privs: bool) -> None:
    status = proc_status(no_new_privs=no_new_privs)
    sets = ["CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if no_new_privs else [])]
    assert [int(status[name], 16) for name in sets] == [0] * len(sets)


def test_no_new_privs_is_set() -> None:
    assert proc_status()["NoNewPrivs"] == "1"


def test_without_no_new_privs_setuid_programs_keep_working() -> None:
    status = proc_status(no_new_privs=False)
    assert status["NoNewPrivs"] == "0"
    assert int(status["CapBnd"], 16) == int(own_status("CapBnd"), 16)


def own_status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":\t")[1] for line in lines if line.startswith(name + ":"))


def test_descriptors_of_the_supervisor_do_not_reach_the_program() -> None:
    """RELIABILITY B1#5: fifty that are not close-on-exec."""
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    for fd in opened:
        os.set_inheritable(fd, True)
    try:
        assert Launch().run().look["fds"] == [0, 1, 2]
    finally:
        for fd in opened:
            os.close(fd)


def test_descriptors_arrive_at_their_numbers_even_when_they_cross() -> None:
    """Sources that lie where others are to go: each must be the one that was named."""
    ends = [os.pipe() for _ in range(4)]
    reads = [read for read, _ in ends]
    order = [reads[3], reads[0], reads[2], reads[1]]
    said, say = os.pipe()
    for (_, write), text in zip(ends, (b"a", b"b", b"c", b"d"), strict=True):
        os.write(write, text)
        os.close(write)
    null = os.open("/dev/null", os.O_RDONLY)
    code = "import os; os.write(1, b''.join(os.read(fd, 1) for fd in (3, 4, 5, 6)))"
    launch = Launch((jailed.PYTHON, "-I", "-S", "-c", code))
    pid, pidfd, report = launch.spawn([null, say, say, *order])
    for fd in (null, say, pidfd, *reads):
        os.close(fd)
    deadline = time.monotonic() + jailed.DEADLINE
    assert jailed.read_all(report, deadline) == b""
    assert jailed.read_all(said, deadline) == b"dacb"
    os.waitpid(pid, 0)


def test_environment_is_exactly_as_given() -> None:
    look = Launch(env=["A=1", "B=", "C=x=y"]).run().look
    assert [text for text in look["environ"] if not text.startswith("LC_CTYPE=")] == [
        "A=1", "B=", "C=x=y",
    ]  # fmt: skip


def test_signals_are_default_and_none_is_blocked() -> None:
    """Python, as which the supervisor runs, ignores SIGPIPE, and what is ignored survives exec."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        status = proc_status()
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_signal_mask_of_the_supervisor_is_as_before() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    Launch().run()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_umask_is_as_configured(umask: int) -> None:
    assert Launch(options={"umask": umask}).run().look["umask"] == umask


def test_umask_that_is_not_configured_stays() -> None:
    before = os.umask(0o037)
    try:
        assert Launch().run().look["umask"] == 0o037
    finally:
        os.umask(before)


def test_home_is_entered_as_the_user(folder: Path) -> None:
    os.chown(folder, UID, GID)
    folder.chmod(0o700)
    assert Launch(options={"home": folder}).run().look["cwd"] == str(folder)


def test_home_that_only_root_may_enter_is_reported(folder: Path) -> None:
    folder.chmod(0o700)
    assert Launch(options={"home": folder}).run().failed == ("chdir", errno.EACCES)


def test_home_that_is_missing_is_reported(folder: Path) -> None:
    outcome = Launch(options={"home": folder / "none"}).run()
    assert outcome.failed == ("chdir", errno.ENOENT)
    assert outcome.status == _jail.EXIT_STATUS


@pytest.mark.parametrize("name", ["none", "none/below", "file", "file/below", "closed"])
def test_home_that_nobody_asked_for_may_be_missing(folder: Path, name: str) -> None:
    (folder / "file").touch()
    (folder / "closed").mkdir(mode=0o700)
    options = {"home": folder / name, "home_optional": True}
    assert Launch(options=options).run().look["cwd"] == "/"


def test_home_that_nobody_asked_for_is_entered_where_it_can_be(folder: Path) -> None:
    options = {"home": folder, "home_optional": True}
    folder.chmod(0o755)
    assert Launch(options=options).run().look["cwd"] == str(folder)


def test_without_home_the_root_is_the_current_folder() -> None:
    assert Launch().run().look["cwd"] == "/"


def test_missing_executable_is_reported(folder: Path) -> None:
    outcome = Launch(executable=str(folder / "python")).run()
    assert outcome.failed == ("execve", errno.ENOENT)


def test_another_executable_runs_under_its_own_name_where_the_first_is_missing(
    folder: Path,
) -> None:
    """/usr of Debian has a python3, and no python."""
    options = {"otherwise": PYTHON}
    tell = "import json, sys; print(json.dumps({'title': sys.orig_argv[0]}))"
    missing = str(folder / "python")
    launch = Launch(argv=(missing, "-c", tell), executable=missing, options=options)
    assert launch.run().look == {"title": PYTHON}


@pytest.mark.parametrize(("mode", "error"), [(0o700, errno.EACCES), (None, errno.ENOENT)])
def test_another_executable_runs_only_where_the_first_is_missing(
    folder: Path, mode: int | None, error: int
) -> None:
    program = folder / "python"
    if mode is not None:
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    otherwise = PYTHON if mode is not None else f"{folder}/python3"
    launch = Launch(executable=str(program), options={"otherwise": otherwise})
    assert launch.run().failed == ("execve", error)


def test_executable_that_only_root_may_run_is_reported(folder: Path) -> None:
    program = folder / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    assert Launch(executable=str(program)).run().failed == ("execve", errno.EACCES)


def test_limits_and_nice_are_as_configured() -> None:
    limits = [(resource.RLIMIT_NOFILE, 100, 200), (resource.RLIMIT_CORE, 0, 0)]
    look = Launch(options={"rlimits": limits, "nice": 5}).run().look
    assert look["files"] == [100, 200]
    assert look["core"] == [0, 0]
    assert look["nice"] == 5


def test_unlimited_is_a_limit_too() -> None:
    unlimited = (resource.RLIMIT_CORE, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert Launch(options={"rlimits": [unlimited]}).run().look["core"] == [-1, -1]


def test_soft_limit_above_the_hard_one_is_reported() -> None:
    outcome = Launch(options={"rlimits": [(resource.RLIMIT_CORE, 2, 1)]}).run()
    assert outcome.failed == ("limits", errno.EINVAL)


def test_limit_above_the_hard_one_is_reported_to_an_ordinary_user() -> None:
    """It fails closed: nothing runs without the limit that was asked for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = [resource.RLIMIT_NOFILE, hard, hard + 1]
    assert as_nobody(options={"rlimits": [limit]})["failed"] == ["limits", errno.EPERM]


def test_higher_priority_is_reported_to_an_ordinary_user() -> None:
    assert as_nobody(options={"nice": -1})["failed"] == ["nice", errno.EACCES]


def test_user_with_too_many_processes_is_not_started_as_root() -> None:
    """CVE-2014-0240: kernels say EAGAIN at the change of user, or at execve."""
    limit = (resource.RLIMIT_NPROC, 0, 0)
    waiting = subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=UID)
    outcome = Launch(options={"rlimits": [limit]}).run()
    waiting.communicate()
    assert outcome.failed in [("setresuid", errno.EAGAIN), ("execve", errno.EAGAIN)]


def test_program_is_the_leader_of_its_own_session() -> None:
    assert Launch().run().look["sid"]


def test_chroot_is_entered(folder: Path) -> None:
    program = folder / "program"
    subprocess.run(
        ["gcc", "-static", "-o", program, "-x", "c", "-"],
        check=True,
        input=b"""
        #include <unistd.h>
        int main(void) { return access("/program", F_OK) == 0 && access("/etc", F_OK) != 0
                                    ? write(1, "in", 2) != 2 : 3; }""",
    )
    outcome = Launch(("program",), "/program", options={"chroot": folder}).run()
    assert (outcome.failed, outcome.said) == (None, "in")


def change_owner(folder: Path) -> Path:
    os.chown(folder, UID, GID)
    return folder


def let_all_write(folder: Path) -> Path:
    folder.chmod(0o777)
    return folder


def let_group_write(folder: Path) -> Path:
    folder.chmod(0o775)
    return folder


def link(folder: Path) -> Path:
    (folder / "link").symlink_to("/usr")
    return folder / "link"


def below_a_tenants_folder(folder: Path) -> Path:
    (folder / "root").mkdir(mode=0o755)
    return change_owner(folder) / "root"


@pytest.mark.parametrize(
    "spoil", [change_owner, let_all_write, let_group_write, link, below_a_tenants_folder]
)
def test_chroot_in_other_hands_than_roots_is_refused(folder: Path, spoil: Any) -> None:
    """sshd's rule, TENANTS 2, rule 9."""
    assert Launch(options={"chroot": spoil(folder)}).run().failed == ("chroot", errno.EPERM)


@pytest.mark.parametrize("spoilt", ["", "-", "deep/er"])
def test_chroot_that_does_not_exist_is_reported(folder: Path, spoilt: str) -> None:
    if spoilt:
        assert Launch(options={"chroot": folder / spoilt}).run().failed == ("chroot", errno.ENOENT)
    else:
        with pytest.raises(ValueError, match="absolute"):
            Launch(options={"chroot": "relative"}).run()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"uid": 0}, "uid must not be 0"),
        ({"gid": 0}, "gid must not be 0"),
        ({"privileged": False}, "privileged must be true"),
        ({"fds": [0, 1]}, "3 to 64"),
        ({"fds": [0] * 65}, "3 to 64"),
        ({"cgroup_procs": [0] * 5}, "at most 4"),
        ({"argv": []}, "argv"),
        ({"env": [b"A=\0"]}, "null byte"),
        ({"rlimits": [(4, -2, 0)]}, "limit"),
    ],
)
def test_plan_that_must_not_run_is_refused_before_the_fork(
    options: dict[str, Any], words: str
) -> None:
    arguments = {"argv": [b"x"], "executable": b"/bin/true", "env": [], "fds": [0, 1, 2],
                 "uid": UID, "gid": GID, "groups": [], "privileged": True}  # fmt: skip
    with pytest.raises(ValueError, match=words):
        _jail.spawn(**arguments | options)


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**64])
@pytest.mark.parametrize("name", ["uid", "gid", "groups"])
def test_number_that_means_leave_it_as_it_is_is_refused(name: str, number: int) -> None:
    """setresuid(-1, -1, -1) changes nothing and says yes."""
    with pytest.raises(OverflowError):
        Launch(options={name: [number] if name == "groups" else number}).run()


def test_closed_descriptor_is_refused_before_the_fork() -> None:
    closed = os.open("/dev/null", os.O_RDONLY)
    os.close(closed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Launch().spawn([0, 1, closed])


def test_launch_keeps_no_descriptor_but_the_two_it_returns() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    Launch().run()
    Launch(executable="/nonexistent").run()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_launch_returns_while_the_program_has_not_run_yet(folder: Path) -> None:
    """A home on a dead mount stops the child, never the supervisor: a FIFO stands for it."""
    os.mkfifo(folder / "program", 0o777)
    null = os.open("/dev/null", os.O_RDWR)
    script = folder / "script"
    script.write_text(f"#!{folder}/program\n")
    script.chmod(0o755)
    pid, pidfd, report = Launch(executable=str(script)).spawn([null, null, null])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for fd in (null, pidfd, report):
        os.close(fd)


@pytest.mark.parametrize("report", [b"", b"1234567", b"\xff" * 8, bytes([20, 0, 0, 0]) + bytes(4)])
def test_report_that_no_step_made_is_refused(report: bytes) -> None:
    with pytest.raises(ValueError, match=r"step|bytes"):
        _jail.describe(report)


def as_nobody(**settings: Any) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-", json.dumps({"privileged": False, **settings})],
        input=Path(jailed.__file__).read_text(),  # the checkout may be where only root may enter
        user=UID, group=GID, extra_groups=[], capture_output=True, text=True, timeout=60, cwd="/",
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_ordinary_user_starts_workers_as_himself() -> None:
    look = json.loads(as_nobody(options={"umask": 0o27, "home": "/tmp"})["said"])
    assert (look["uids"], look["gids"]) == ([UID] * 3, [GID] * 3)
    assert (look["fds"], look["cwd"], look["umask"]) == ([0, 1, 2], "/tmp", 0o27)
    assert look["NoNewPrivs"] == "1"


def test_ordinary_user_cannot_start_a_worker_as_another() -> None:
    assert as_nobody(privileged=True)["failed"][1] == errno.EPERM


def test_ordinary_user_cannot_use_chroot() -> None:
    assert as_nobody(options={"chroot": "/usr"})["failed"] == ["chroot", errno.EPERM]


def test_cgroup_file_that_does_not_list_the_program_is_reported(folder: Path) -> None:
    """A plain file takes the write as well; what it then tells is not this process."""
    fd = os.open(folder / "cgroup.procs", os.O_RDWR | os.O_CREAT)
    outcome = Launch(options={"cgroup_procs": [fd]}).run()
    os.close(fd)
    assert outcome.failed == ("cgroup", 0)
