# SPDX-License-Identifier: Apache-2.0
"""cgroup=, memory-max=, cpu-max=, pids-max=: bounds of a group as a whole, by the kernel.

What it has decides which files are looked at: version 2, version 1, or both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jailed
import neighbours
import pytest
from harness import census
from harness.client import ask, wait_until
from harness.httpd import Httpd
from harness.load import Load

from pyglue.supervisor import cgroup, hierarchies
from pyglue.supervisor.bounds import Bounds, CgroupError

UID = 61341  # a number that no user has, nor the next one
BASE = f"/pyglue-test-{os.getpid()}"
TREES = hierarchies.mounted()
NEEDED = {"memory", "cpu", "pids"}


def may_make() -> bool:
    """Bounds need all three controllers, and a place to make a folder in."""
    have = {name for tree in TREES for name in tree.controllers}
    return have >= NEEDED and all(os.access(t.top, os.W_OK) for t in TREES)


pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(
        os.geteuid() != 0 or not may_make(), reason="needs root, and cgroups that it may make"
    ),
]

Start = Callable[..., Httpd]
MOST = 4  # JAIL_CGROUPS_MAX
MEMORY, CPU, PIDS = str(300 << 20), "150000", "99"
BOUNDS = {
    "memory.max": MEMORY, "memory.limit_in_bytes": MEMORY, "pids.max": PIDS,
    "cpu.max": f"{CPU} 100000", "cpu.cfs_quota_us": CPU,
}  # fmt: skip


def folders(below: str = BASE) -> list[Path]:
    """All that is left or there."""
    return [path for tree in TREES for path in (tree.top / below.lstrip("/")).glob("*/")]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    left = [path for tree in TREES if (path := tree.top / BASE.lstrip("/")).exists()]
    for path in left:  # the next test is not to find it
        for below in (*path.glob("*/"), path):
            remove(below)
    assert left == []


def lines_of(folder: Path, options: str) -> list[str]:
    """One with bounds, and a neighbour without."""
    return neighbours.lines_of(folder, "bound", UID, options)


def told(server: Httpd, target: str) -> object:
    response = ask(server.address, target)
    assert response.status == 200, response
    return json.loads(response.body)


def memberships(pid: int) -> set[str]:
    return {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}


def test_a_group_lives_in_a_cgroup_with_its_bounds(folder: Path, start_httpd: Start) -> None:
    options = f"cgroup={BASE} memory-max=300M cpu-max=150% pids-max=99 processes=2"
    server = start_httpd(lines_of(folder, options))
    pid = told(server, "/bound?cpu=1")
    assert isinstance(pid, int)
    start = f"{BASE}/bound.{server.pid}.1."
    (own,) = {path for path in memberships(pid) if path.startswith(start)}
    set_to = {
        file.name: file.read_text().strip()
        for tree in TREES
        for file in (tree.top / own.lstrip("/")).glob("*")
        if file.name in BOUNDS
    }
    assert len(set_to) == 3
    assert all(value in BOUNDS[name] for name, value in set_to.items())
    assert all(str(pid) in (path / "cgroup.procs").read_text().split() for path in folders())
    line = server.log.wait_for("PG1151")
    assert "memory-max=314572800, cpu-max=150%, pids-max=99" in line
    assert "'neighbour'" in server.log.wait_for("PG1152")
    neighbour = told(server, "/neighbour?cpu=1")
    assert isinstance(neighbour, int)
    assert not any(path.startswith(BASE) for path in memberships(neighbour))


def test_workers_that_are_forked_by_a_preloader_are_in_it(folder: Path, start_httpd: Start) -> None:
    server = start_httpd(lines_of(folder, f"cgroup={BASE} pids-max=60 preload=On"))
    pid = told(server, "/bound?cpu=1")
    assert isinstance(pid, int)
    assert any(path.startswith(BASE) for path in memberships(pid))
    for path in folders():
        assert len((path / "cgroup.procs").read_text().split()) == 2, (
            "the preloader, and the worker"
        )


def test_other_bounds_are_another_cgroup_and_the_old_one_goes(
    folder: Path, start_httpd: Start
) -> None:
    """No bound is lowered below what old workers use while they still serve."""
    lines = lines_of(folder, f"cgroup={BASE} memory-max=300M")
    server = start_httpd(lines)
    assert told(server, "/bound?cpu=1")
    before = {path.name for path in folders()}
    server.configure([lines[0].replace("300M", "400M"), *lines[1:]])
    with Load(server.address, "/bound?cpu=1", clients=2, keep_alive=False) as load:
        server.graceful()
        wait_until(lambda: not before & {path.name for path in folders()}, "the old ones are gone")
    assert load.failures() == []
    assert len({path.name for path in folders()}) == 1


def test_a_worker_that_its_cgroup_has_no_memory_for_is_told(
    folder: Path, start_httpd: Start
) -> None:
    server = start_httpd(lines_of(folder, f"cgroup={BASE} memory-max=100M"))
    server.log.expect(r"PG1103.*was killed by SIGKILL \(its cgroup was out of memory\)")
    server.log.allow("GL0504")
    with Load(server.address, "/neighbour?cpu=1", clients=2) as load:
        assert ask(server.address, f"/bound?memory={400 << 20}").status == 502
        assert told(server, f"/bound?memory={1 << 20}") is True
    assert load.failures() == []
    # What else is killed just then had memory.
    neighbour = told(server, "/neighbour?cpu=1")
    assert isinstance(neighbour, int)
    os.kill(neighbour, signal.SIGKILL)
    server.log.expect(r"PG1103.*'neighbour'.*was killed by SIGKILL; ")
    server.log.wait_for(r"PG1103.*'neighbour'.*was killed by SIGKILL; ")


def test_a_child_of_the_application_for_which_there_is_no_memory_is_told(
    folder: Path, start_httpd: Start
) -> None:
    """The kernel ends the largest: the worker lives, and answers."""
    server = start_httpd(lines_of(folder, f"cgroup={BASE} memory-max=100M"))
    assert told(server, f"/bound?child={400 << 20}") == signal.SIGKILL
    server.log.expect("PG1154.*memory-max=104857600.* ended 1 processes")
    server.log.wait_for("PG1154")


def throttled() -> int:
    """Periods in which the group had to wait because its share was used up."""
    return sum(
        int(line.split()[1])
        for path in folders()
        if (path / "cpu.stat").exists()
        for line in (path / "cpu.stat").read_text().splitlines()
        if line.startswith("nr_throttled ")
    )


def test_a_group_gets_no_more_than_its_share_of_the_cpu(folder: Path, start_httpd: Start) -> None:
    """On a busy machine it takes a while until it gets that much."""
    server = start_httpd(lines_of(folder, f"cgroup={BASE} cpu-max=15%"))
    wait_until(lambda: told(server, "/bound?cpu=60") and throttled(), "it had to wait", 60)


def test_a_fork_bomb_ends_at_its_groups_bound(folder: Path, start_httpd: Start) -> None:
    """Of processes, whoever's they are: pids-max counts the group, process-limit the user."""
    server = start_httpd(lines_of(folder, f"cgroup={BASE} pids-max=40"))
    with Load(server.address, "/neighbour?cpu=1", clients=2) as load:
        assert told(server, "/bound?processes") is True, "the kernel refused more"
        load.wait_for_more(50)
        assert told(server, "/bound?cpu=1")
    assert load.failures() == []


def test_what_a_killed_supervisor_had_below_it_is_ended_by_the_cgroup(
    folder: Path, start_httpd: Start
) -> None:
    """It has left its worker's session and is no descendant of the next supervisor."""
    server = start_httpd(lines_of(folder, f"cgroup={BASE}"))
    server.log.allow("GL0603|PG1")
    stray = told(server, "/bound?stray")
    assert isinstance(stray, int)
    first = server.supervisor()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in census.children(server.pid), "it is gone")
    wait_until(lambda: len({path.name for path in folders()}) == 2, "the next one has its own", 20)
    assert ask(server.address, "/bound?cpu=1").status == 200
    assert census.is_alive(stray)
    server.stop()
    assert not census.is_alive(stray)
    for tree in TREES:  # made by the first one: the second did not know
        remove(tree.top / BASE.lstrip("/"))


def test_a_cgroup_that_cannot_be_had_disables_its_group(folder: Path, start_httpd: Start) -> None:
    """Nothing is started unbounded. The path leads through a file."""
    server = start_httpd(lines_of(folder, "cgroup=/cgroup.procs pids-max=40"))
    server.log.expect("PG1105.*cgroup.procs cannot be used: .*cgroup= names one in which")
    server.log.allow("GL0506|PG1105")
    assert ask(server.address, "/bound?cpu=1").status == 500
    assert ask(server.address, "/neighbour?cpu=1").status == 200


# The privileged step.


@contextlib.contextmanager
def own_folders() -> Iterator[list[Path]]:
    useful = [t for t in TREES if t.version == 2 or t.controllers & {"memory", "cpu", "pids"}]
    made = [tree.top / BASE.lstrip("/") for tree in useful[:MOST]]
    for path in made:
        path.mkdir()
    try:
        yield made
    finally:
        for path in made:
            wait_until(lambda path=path: remove(path), f"{path} is empty")


def remove(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def test_a_program_is_in_each_cgroup_that_was_given() -> None:
    with own_folders() as made:
        fds = [os.open(path / "cgroup.procs", os.O_RDWR) for path in made]
        launch = jailed.Launch(("cat", "/proc/self/cgroup"), "/bin/cat",
                               options={"cgroup_procs": fds})  # fmt: skip
        outcome = launch.run()
        for fd in fds:
            os.close(fd)
    assert outcome.failed is None
    assert outcome.said.count(f":{BASE}\n") == len(made)


def test_a_file_that_cannot_be_written_is_reported() -> None:
    with own_folders() as made:
        fd = os.open(made[0] / "cgroup.procs", os.O_RDONLY)
        outcome = jailed.Launch(options={"cgroup_procs": [fd]}).run()
        os.close(fd)
    assert outcome.failed is not None
    assert outcome.failed[0] == "cgroup"


# Version 2 with the controllers: the kernel has rules for folders that processes are in.

needs_version_2 = pytest.mark.skipif(
    not any(tree.version == 2 and tree.controllers >= NEEDED for tree in TREES),
    reason="the controllers of memory, cpu and pids are version 1's here",
)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """By a process that is in it."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            (folder / "cgroup.procs").write_text(str(sleeper.pid))
            yield
        finally:
            sleeper.kill()


@needs_version_2
@pytest.mark.parametrize("bounds", [(32 << 20, 0, 0), (0, 50, 0), (0, 0, 40)])
def test_nothing_is_enabled_in_a_cgroup_that_holds_processes(bounds: tuple[int, int, int]) -> None:
    """Of cpu and pids the kernel takes it; then nothing below can be joined, by others either."""
    with own_folders() as (base,), held(base):
        with pytest.raises(CgroupError, match=r"holds processes.*Delegate=yes"):
            cgroup.make(Bounds(BASE, *bounds), "shop", TREES)
        assert (base / "cgroup.subtree_control").read_text().split() == []
        made = cgroup.make(Bounds(BASE, 0, 0, 0), "shop", TREES)
        with held(made.folders[0][1]):
            made.kill()
        assert made.remove()


@pytest.fixture
def service() -> Iterator[Path]:
    """We are in a cgroup as systemd lays it out by Delegate=yes and DelegateSubgroup=httpd."""
    before = Path("/proc/self/cgroup").read_text().partition("0::/")[2].splitlines()[0]
    with own_folders() as (made,):
        os.setxattr(made, "trusted.delegate", b"1")
        (made / "httpd").mkdir()
        (made / "httpd/cgroup.procs").write_text("0")
        try:
            yield made
        finally:
            (made.parent / before / "cgroup.procs").write_text("0")
            (made / "httpd").rmdir()


@needs_version_2
def test_a_service_with_a_delegated_cgroup_has_its_groups_beside_httpd(
    service: Path, folder: Path, start_httpd: Start
) -> None:
    """No path is configured: the bounds alone."""
    server = start_httpd(lines_of(folder, "memory-max=300M pids-max=99"))
    pid = told(server, "/bound?cpu=1")
    assert isinstance(pid, int)
    (own,) = memberships(pid)
    assert own.startswith(f"{BASE}/bound.{server.pid}.1.")
    assert memberships(server.pid) == {f"{BASE}/httpd"}
    assert (service.parent / own.lstrip("/") / "pids.max").read_text() == "99\n"


# Version 1 alone: in a mount namespace of its own, from which version 2 was taken.

ALONE = """
import contextlib, os, signal, subprocess, sys, time
from pathlib import Path
from pyglue.supervisor import cgroup, hierarchies
from pyglue.supervisor.bounds import Bounds
for tree in [tree for tree in hierarchies.mounted() if tree.version == 2]:
    subprocess.run(["umount", tree.top], check=True)
bounds = Bounds({base!r}, 0, 0, 100)
made = cgroup.make(bounds, "alone", hierarchies.mounted())
assert not made.has_kill, made.folders
fds = made.open()
bomb = os.fork()
if bomb == 0:
    signal.alarm(60)
    for fd in fds:
        os.write(fd, b"0")
    while True:  # at most pids-max of them
        try:
            os.fork()
        except BlockingIOError:
            time.sleep(0.001)
while len(made.pids()) < 90:
    time.sleep(0.01)
made.kill()
deadline = time.monotonic() + 20
while not made.remove() and time.monotonic() < deadline:
    made.kill()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    time.sleep(0.01)
assert made.remove()
cgroup.remove_empty(made.above)
print("all ended")
"""


@pytest.mark.skipif(all(tree.version == 2 for tree in TREES), reason="there is no version 1 here")
def test_version_1_alone_ends_a_fork_bomb() -> None:
    """It has no cgroup.kill: nothing more can be made, then what is listed is killed."""
    said = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", ALONE.format(base=BASE)], text=True, timeout=60,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": os.environ["PATH"]},
        capture_output=True,
    )  # fmt: skip
    assert said.stdout == "all ended\n", said.stderr
