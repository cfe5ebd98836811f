# SPDX-License-Identifier: Apache-2.0
"""Cgroups on folders that stand for the kernel's: which tree is chosen, and what is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyglue.supervisor import cgroup
from pyglue.supervisor.bounds import PAGE, Bounds, CgroupError, places
from pyglue.supervisor.cgroup import make
from pyglue.supervisor.cgroups import Cgroups
from pyglue.supervisor.hierarchies import DELEGATED, Tree, mounted, trees
from pyglue.supervisor.messages import Message

ALL = frozenset({"memory", "cpu", "pids"})
FILES = {
    "memory.max": "max", "cpu.max": "max 100000", "pids.max": "max", "cgroup.procs": "",
    "cgroup.kill": "", "cgroup.subtree_control": "", "cgroup.controllers": "memory cpu pids",
    "memory.events": "low 0\noom_kill 0\n", "memory.limit_in_bytes": "-1", "cpu.cfs_quota_us": "-1",
    "cpu.cfs_period_us": "100000", "memory.oom_control": "oom_kill_disable 0\noom_kill 3\n",
}  # fmt: skip
MAKE = Path.mkdir


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new folder has files at once, and goes with them."""

    def mkdir(self: Path, *args: Any, **more: Any) -> None:
        MAKE(self, *args, **more)
        for name, text in FILES.items():
            if not (self / name).exists():
                (self / name).write_text(text)

    def rmdir(self: Path) -> None:
        for name in FILES:
            (self / name).unlink(missing_ok=True)
        os.rmdir(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)


def tree(folder: Path, version: int, *controllers: str, own: str = "") -> Tree:
    folder.mkdir(exist_ok=True)
    (folder / own).mkdir(parents=True, exist_ok=True)
    return Tree(version, folder, folder / own, frozenset(controllers))


MOUNTS = """\
30 23 0:26 / /sys rw - sysfs sysfs rw
31 30 0:28 / {top}/two rw,relatime shared:4 - cgroup2 cgroup2 rw
33 31 0:30 /docker/1 {top}/a\\040b rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / {top}/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""
MEMBERSHIPS = "4:cpu,cpuacct:/docker/1/own\n2:name=systemd:/x\n0::/unit.service\n"


def test_mounted_trees_are_read_with_the_own_place_in_each(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    two, cpu, named = trees(MOUNTS.format(top=tmp_path), MEMBERSHIPS)
    assert (two.version, two.own) == (2, tmp_path / "two/unit.service")
    assert two.controllers == ALL
    assert (cpu.version, cpu.own) == (1, tmp_path / "a b/own")
    assert cpu.controllers == {"cpu", "cpuacct"}
    assert named.own == tmp_path / "systemd/x"


@pytest.mark.parametrize("name", [b"\xff", b"\x0c", b"\x85", "\u2028".encode(), "\u2003".encode()])
def test_name_of_a_tenants_mount_keeps_no_group_from_its_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    """FUSE: he chooses it. Python would not decode it, or take it for two lines or words."""
    (tmp_path / "two").mkdir()
    tenants = b"42 27 0:39 / /home/a/" + name + b" rw - fuse.x x rw\n"
    texts = {
        "/proc/self/mountinfo": tenants + MOUNTS.format(top=tmp_path).encode(),
        "/proc/self/cgroup": MEMBERSHIPS.encode(),
    }
    monkeypatch.setattr(Path, "read_bytes", lambda path: texts[str(path)])
    assert [tree.version for tree in mounted()] == [2, 1, 1]


def test_own_place_outside_of_what_is_shown_is_its_top(tmp_path: Path) -> None:
    (two,) = trees(f"31 30 0:28 / {tmp_path} rw - cgroup2 cgroup2 rw\n", "0::/../other\n")
    assert two.own == tmp_path


def test_version_2_sets_all_bounds_and_enables_what_they_need(tmp_path: Path) -> None:
    two = tree(tmp_path / "two", 2, *ALL)
    made = make(Bounds("/wsgi/deep", 100 << 20, 150, 40), "shop", [two])
    folder = tmp_path / "two/wsgi/deep/shop"
    assert [place for _, place in made.folders] == [folder]
    texts = {name: (folder / name).read_text() for name in ("memory.max", "cpu.max", "pids.max")}
    assert texts == {"memory.max": str(100 << 20), "cpu.max": "150000 100000", "pids.max": "40"}
    enabled = (folder.parent / "cgroup.subtree_control").read_text()
    assert enabled == "+cpu +memory +pids"
    assert made.has_kill
    made.kill()
    assert (folder / "cgroup.kill").read_text() == "1"
    assert made.remove()


def test_controllers_are_enabled_from_above_where_a_folder_has_not_got_them(tmp_path: Path) -> None:
    two = tree(tmp_path / "two", 2, *ALL)
    (two.top / "wsgi").mkdir()
    (two.top / "wsgi/cgroup.controllers").write_text("")
    make(Bounds("/wsgi", 0, 0, 40), "shop", [two])
    for folder in (two.top, two.top / "wsgi"):
        assert (folder / "cgroup.subtree_control").read_text() == "+pids"


def test_relative_path_begins_at_our_own(tmp_path: Path) -> None:
    two = tree(tmp_path / "two", 2, *ALL, own="unit.service")
    made = make(Bounds("wsgi", 0, 0, 40), "shop", [two])
    assert made.folders[0][1] == tmp_path / "two/unit.service/wsgi/shop"


@pytest.mark.parametrize("attribute", DELEGATED)
def test_what_was_delegated_to_the_service_is_our_own_where_httpd_is_kept_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    """DelegateSubgroup=: below what holds httpd itself nothing can be bounded."""
    unit = tmp_path / "unit.service"
    (unit / "httpd").mkdir(parents=True)
    marked = {(unit, attribute): b"1", (tmp_path, attribute): b"0"}

    def getxattr(path: Path, name: str) -> bytes:
        if (path, name) not in marked:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA), str(path))
        return marked[path, name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    mount = f"31 30 0:28 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    for membership in ("/unit.service/httpd", "/unit.service"):
        (found,) = trees(mount, f"0::{membership}\n")
        assert found.own == unit


@pytest.mark.parametrize("bounds", [Bounds("/w", 0, 0, 40), Bounds("/w", 0, 50, 0)])
def test_nothing_is_enabled_in_a_folder_that_holds_processes(
    tmp_path: Path, bounds: Bounds
) -> None:
    """Of cpu and pids the kernel would take it, and spoil what others have in there."""
    two = tree(tmp_path / "two", 2, *ALL)
    (two.top / "w").mkdir()
    (two.top / "w/cgroup.type").write_text("domain\n")
    (two.top / "w/cgroup.procs").write_text("77\n")
    with pytest.raises(CgroupError, match=r"/w holds processes.*Delegate=yes, DelegateSubgroup"):
        make(bounds, "shop", [two])
    assert (two.top / "w/cgroup.subtree_control").read_text() == ""
    assert not (two.top / "w/shop").exists()
    assert make(Bounds("/w", 0, 0, 0), "shop", [two]).has_kill, "without bounds it may hold them"


def test_each_bound_is_set_in_the_tree_of_its_controller(tmp_path: Path) -> None:
    """Both versions at once: version 2 without controllers is used for its kill alone."""
    mounts = [
        tree(tmp_path / "memory", 1, "memory"), tree(tmp_path / "cpu", 1, "cpu", "cpuacct"),
        tree(tmp_path / "two", 2), tree(tmp_path / "pids", 1, "pids"),
    ]  # fmt: skip
    made = make(Bounds("/w", 4097, 50, 0), "shop", mounts)
    assert {place.tree.top.name for place, _ in made.folders} == {"two", "memory", "cpu"}
    at = {place.tree.top.name: folder for place, folder in made.folders}
    assert (at["memory"] / "memory.limit_in_bytes").read_text() == str(PAGE)
    assert (at["cpu"] / "cpu.cfs_quota_us").read_text() == "50000"
    assert made.oom_kills() == 3
    assert made.has_kill


def test_kernel_that_counts_no_oom_kills_has_had_none(tmp_path: Path) -> None:
    """Linux before 4.13, and what stands for a kernel in some containers."""
    memory = tree(tmp_path / "memory", 1, "memory")
    made = make(Bounds("/w", 100 << 20, 0, 0), "shop", [memory])
    (memory.top / "w/shop/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert made.oom_kills() == 0


def test_controller_that_is_not_there_is_named(tmp_path: Path) -> None:
    mounts = [tree(tmp_path / "two", 2, "memory")]
    with pytest.raises(CgroupError, match=r"no cgroup controller 'pids'.*pids-max="):
        places(Bounds(None, 0, 0, 40), mounts)


def test_without_any_tree_there_is_no_cgroup() -> None:
    with pytest.raises(CgroupError, match="no cgroup file system"):
        places(Bounds("x", 0, 0, 0), [])


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: int) -> None:
    write: Callable[[Path, str], None] = cgroup._write

    def fail(file: Path, value: str) -> None:
        if file.name == name:
            raise OSError(error, os.strerror(error), str(file))
        write(file, value)

    monkeypatch.setattr(cgroup, "_write", fail)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("pids.max", errno.EACCES, r"pids.max cannot be used: Permission denied.*Delegate=yes"),
        ("cgroup.subtree_control", errno.EBUSY, r"/w holds processes.*DelegateSubgroup="),
        ("cgroup.subtree_control", errno.ENOENT, r"subtree_control cannot be used"),
    ],
)
def test_bound_that_cannot_be_set_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int, words: str
) -> None:
    two = tree(tmp_path / "two", 2, *ALL)
    failing(monkeypatch, name, error)
    with pytest.raises(CgroupError, match=words):
        make(Bounds("/w", 0, 0, 40), "shop", [two])
    assert not (two.top / "w").exists()


def test_bound_that_was_not_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel said yes, and reads back another value."""
    two = tree(tmp_path / "two", 2, *ALL)
    monkeypatch.setattr(cgroup, "_write", lambda file, value: None)
    with pytest.raises(CgroupError, match="did not take 40"):
        make(Bounds("/w", 0, 0, 40), "shop", [two])


def test_version_2_that_cannot_be_used_beside_version_1_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, pids = tree(tmp_path / "two", 2), tree(tmp_path / "pids", 1, "pids")
    mkdir = Path.mkdir

    def read_only(self: Path, *args: Any, **more: Any) -> None:
        if two.top in self.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        mkdir(self, *args, **more)

    monkeypatch.setattr(Path, "mkdir", read_only)
    made = make(Bounds("/w", 0, 0, 40), "shop", [two, pids])
    assert [place.tree.version for place, _ in made.folders] == [1]
    made.kill()
    assert (made.folders[0][1] / "pids.max").read_text() == "0", "nothing more can be made in it"


# Those of all groups.


@dataclass(frozen=True)
class Definition:
    """As much of a group as they ask for."""

    name: str = "shop/1"
    digest: bytes = b"d"
    cgroup: str | None = "/w"
    memory_max: int = 0
    cpu_max: int = 0
    pids_max: int = 40


class Said(list[str]):
    def __call__(self, message: Message, values: dict[str, object], digest: bytes) -> None:
        self.append(f"{message.id}: {message.text.format(**values)}")


@pytest.fixture
def two(tmp_path: Path) -> Tree:
    return tree(tmp_path / "two", 2, *ALL)


def registry(two: Tree, said: Said | None = None) -> Cgroups:
    return Cgroups(77, 3, Said() if said is None else said, lambda: [two])


def join(all_of_them: Cgroups, **options: Any) -> list[int]:
    """How many descriptors were given, which are closed here."""
    opened = all_of_them.open(Definition(**options))  # type: ignore[arg-type]
    for fd in opened:
        os.close(fd)
    return opened


def test_group_has_one_until_the_last_worker_of_its_definition_is_gone(two: Tree) -> None:
    said = Said()
    own = registry(two, said)
    assert len(join(own)) == len(join(own)) == 1
    (folder,) = two.top.glob("w/*/")
    assert folder.name.startswith("shop_1.77.3.")
    own.look(1.0, [Definition()])  # type: ignore[list-item]
    assert folder.exists()
    own.look(2.0, [])
    assert not folder.exists()
    assert [line[:6] for line in said] == ["PG1151"]
    assert "pids-max=40" in said[0]


def test_one_that_was_removed_by_others_is_made_again(two: Tree) -> None:
    own = registry(two)
    join(own)
    (folder,) = two.top.glob("w/*/")
    folder.rmdir()
    assert len(join(own)) == 1
    assert (folder / "pids.max").read_text() == "40"


def test_other_bounds_are_other_cgroups_at_the_same_time(two: Tree) -> None:
    own = registry(two)
    join(own)
    join(own, pids_max=50)
    assert len(list(two.top.glob("w/*/"))) == 2


def test_group_without_bounds_has_none_and_that_is_said_once(two: Tree) -> None:
    said = Said()
    own = registry(two, said)
    for _ in range(2):
        assert join(own, cgroup=None, pids_max=0) == []
    assert [line[:6] for line in said] == ["PG1152"]


def test_group_is_short_of_memory_after_a_kill_in_its_own_cgroup(two: Tree) -> None:
    own = registry(two)
    join(own, memory_max=1 << 20)
    join(own, memory_max=2 << 20)
    short = Definition(memory_max=1 << 20)
    (folder,) = (f for f in two.top.glob("w/*/") if (f / "memory.max").read_text() == f"{1 << 20}")
    assert not own.was_short(short, 5.0)  # type: ignore[arg-type]
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert own.was_short(short, 6.0)  # type: ignore[arg-type]
    assert not own.was_short(Definition(memory_max=2 << 20), 6.0)  # type: ignore[arg-type]


def test_kill_of_what_a_worker_had_started_is_told_and_that_of_a_worker_is_its_cause(
    two: Tree,
) -> None:
    said = Said()
    own = registry(two, said)
    join(own, memory_max=1 << 20)
    definition: Any = Definition(memory_max=1 << 20)
    (folder,) = two.top.glob("w/*/")
    (folder / "memory.events").write_text("oom_kill 1\n")
    own.look(1.0, [definition])
    assert own.was_short(definition, 1.1), "the worker that died is buried after the look"
    own.look(2.0, [definition])
    own.look(3.0, [definition])
    assert len(said) == 1
    (folder / "memory.events").write_text("oom_kill 3\n")
    own.look(4.0, [definition])
    own.look(5.0, [definition])
    own.look(6.0, [definition])
    assert [line[:6] for line in said] == ["PG1151", "PG1154"]
    assert "ended 2 processes" in said[1]


def test_end_removes_those_of_earlier_supervisors_of_this_httpd_alone(two: Tree) -> None:
    for name in ("shop.77.2.0123abcd", "shop.78.1.0123abcd", "somebodys"):
        (two.top / "w" / name).mkdir(parents=True)
    own = registry(two)
    join(own)
    own.kill()
    assert (two.top / "w/shop.77.2.0123abcd/cgroup.kill").read_text() == "1"
    assert (two.top / "w/shop.78.1.0123abcd/cgroup.kill").read_text() == ""
    assert own.remove(1.0) == []
    assert {path.name for path in two.top.glob("w/*/")} == {"shop.78.1.0123abcd", "somebodys"}


def test_nothing_is_started_when_the_cgroup_cannot_be_joined(
    two: Tree,
) -> None:
    own = registry(two)
    join(own)
    (folder,) = two.top.glob("w/*/")
    (folder / "cgroup.procs").unlink()
    started: list[object] = []
    recipe: Any = type("Recipe", (), {"definition": Definition()})
    with pytest.raises(CgroupError, match="cannot be joined"):
        own.around(lambda *given: (started.append(given), (0, 0, 0))[1])(recipe, [])
    assert not started
