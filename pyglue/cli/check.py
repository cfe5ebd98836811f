# SPDX-License-Identifier: Apache-2.0
"""`pyglue check`: httpd's own syntax test, then every process group probed as its own user.

httpd opens nothing of a tenant's while it reads its configuration, so a missing script or a Python
without an engine shows only here. The plan comes from httpd (`-t -D DUMP_WSGI_PLAN`)."""

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyglue.cli.explain import explained
from pyglue.cli.httpd import Httpd
from pyglue.cli.listen import obstacles
from pyglue.cli.probe import probe
from pyglue.cli.reach import answered_as
from pyglue.errors import PyglueError
from pyglue.supervisor.checks import PlanError
from pyglue.supervisor.loop import Loop
from pyglue.supervisor.plan import GroupPlan, Plan, parse

DUMP = "DUMP_WSGI_PLAN"
# Of docs/reference/messages.md: those after which requests fail or go elsewhere.
COMPLAINT = r"\bGL(?:0102|0106|0107|0108):"
CONTROL = ("apachectl", "apache2ctl")


def add(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "check",
        help="check a configuration, and each group as its own user",
        description="Run httpd's own syntax test, then try each process group as its own user: "
        "its Python, its engine, its scripts.",
    )
    parser.add_argument(
        "-f", dest="file", metavar="FILE", help="httpd.conf (the system's, through apachectl)"
    )
    parser.add_argument(
        "-D", action="append", default=[], dest="defines", metavar="NAME", help="passed on to httpd"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long a group may take to load (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    found = read_plan(chosen)
    plan = found.plan
    for obstacle in found.in_the_way:
        print(f"Listen: {obstacle}")
    run_by_supervisor = dataclasses.replace(plan, groups=tuple(filter(is_named, plan.groups)))
    wrong = len(found.in_the_way) + found.complaints
    with contextlib.closing(Loop({})) as loop:
        for group in plan.groups:
            said = probe(run_by_supervisor, without_folders(group), loop, chosen.timeout)
            wrong += bool(said)
            what = f"process group {group.name}" if is_named(group) else "embedded mode"
            print(f"{what} (user {group.user}): {''.join(said) or 'fine'}")
    return 1 if wrong else 0


def is_named(group: GroupPlan) -> bool:
    """Embedded mode is a group without a name."""
    return group.name != ""


def without_folders(group: GroupPlan) -> GroupPlan:
    """An alias can lead to a folder of scripts: which of them are applications is not known."""
    if not group.scripts:
        return group
    root = group.chroot or ""  # within which they are named

    def files() -> bytes:
        return bytes(not os.path.isdir(f"{root}{script.script}") for script in group.scripts)

    is_file = answered_as(group.uid, group.gid, group.groups, files)
    scripts = tuple(script for script, wanted in zip(group.scripts, is_file, strict=True) if wanted)
    return dataclasses.replace(group, scripts=scripts)


@dataclasses.dataclass(frozen=True)
class Found:
    """What httpd told of a configuration."""

    plan: Plan
    in_the_way: list[str]  # what keeps it from listening
    complaints: int  # of the module, that are no error of httpd


def read_plan(chosen: argparse.Namespace) -> Found:
    """Asks httpd, which tests the syntax first."""
    defines = [part for name in [*chosen.defines, DUMP] for part in ("-D", name)]
    ran = subprocess.run([*tester(chosen.file), *defines], capture_output=True, check=False)
    words = ran.stderr.decode(errors="replace")
    if ran.returncode != 0:
        raise PyglueError(explained(words, Path(chosen.file or "the system's configuration")))
    sys.stderr.write(words)
    told, brace, rest = ran.stdout.partition(b"{")  # httpd may have said something before
    if not brace:
        raise PyglueError(
            "mod_pyglue is not part of this configuration: add the lines of `pyglue module-config`."
        )
    try:
        return Found(parse(brace + rest), obstacles(told), len(re.findall(COMPLAINT, words)))
    except PlanError as error:
        raise PyglueError(
            f"mod_pyglue.so and this command are of different versions: {error}."
        ) from None


def tester(file: str | None) -> list[str]:
    """The command that tests a configuration. The system's own knows /etc/apache2/envvars."""
    control = next(filter(None, map(shutil.which, CONTROL)), None)
    if file is None and control:
        return [control, "-t"]
    return [str(Httpd.find().program), "-t", *(["-f", str(Path(file).absolute())] if file else [])]
