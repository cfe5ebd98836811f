# SPDX-License-Identifier: Apache-2.0
"""`pyglue install-engine --python PATH`: builds the engine for another CPython.

The C sources lie in the package, so that neither a checkout nor httpd's headers nor a network are
needed, only a compiler and that Python's headers. An engine belongs to an ABI, and so serves every
environment of that Python. As root only a Python that root alone can change is asked or built from:
what is installed runs in the workers of all who use that ABI."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyglue.cli.reach import open_to_all
from pyglue.cli.site import PACKAGE, program
from pyglue.cli.trust import distrusted
from pyglue.errors import PyglueError

OLDEST = (3, 10)
SOURCES = ("bridge", "worker", "engine")
FLAGS = (
    "-shared",
    "-fPIC",
    "-std=gnu11",
    "-O2",
    "-g",
    "-pthread",
    "-fvisibility=hidden",
    "-D_GNU_SOURCE",
)
ASK = """\
import json, sys, sysconfig
value = sysconfig.get_config_var
print(json.dumps({
    "implementation": sys.implementation.name, "version": list(sys.version_info[:3]),
    "tag": value("SOABI"), "suffix": value("EXT_SUFFIX"),
    "include": sorted({sysconfig.get_path("include"), sysconfig.get_path("platinclude")}),
}))
"""


@dataclass(frozen=True)
class Target:
    """A Python as it describes itself."""

    python: Path
    version: tuple[int, ...]
    tag: str
    suffix: str
    include: tuple[Path, ...]

    @property
    def name(self) -> str:
        return "Python " + ".".join(map(str, self.version))

    @property
    def engine(self) -> Path:
        return PACKAGE / "engines" / self.tag / f"_engine{self.suffix}"


def add(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "install-engine",
        help="build the engine for another Python",
        description="Build the engine for another CPython, 3.10 or later, so that workers can run "
        "on it. Needs a C compiler and that Python's headers.",
    )
    parser.add_argument(
        "--python", required=True, metavar="PATH", help="that Python, such as python3.13"
    )
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    target = ask(program(chosen.python))
    build(target)
    print(f"engine for {target.name} ({target.tag}): {target.engine}")
    return 0


def ask(python: Path) -> Target:
    require_trust(python)
    try:
        told = subprocess.run(
            [python, "-I", "-S", "-B", "-c", ASK], capture_output=True, text=True, check=True
        )
        facts = json.loads(told.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        status = getattr(error, "returncode", None)  # its command would be the whole question
        why = f"exit status {status}" if status else error
        raise PyglueError(f"--python {python}: not a Python that runs here ({why}).") from None
    if facts["implementation"] != "cpython" or tuple(facts["version"][:2]) < OLDEST:
        raise PyglueError(f"--python {python}: CPython 3.10 or later is needed.")
    target = Target(
        python,
        tuple(facts["version"]),
        facts["tag"],
        facts["suffix"],
        tuple(Path(p) for p in facts["include"]),
    )
    if not any((folder / "Python.h").exists() for folder in target.include):
        raise PyglueError(
            f"Python.h of {target.name} is not in {target.include[0]}. Install its headers: "
            f"apt-get install python{target.version[0]}.{target.version[1]}-dev (Debian, Ubuntu), "
            "dnf install python3-devel (Fedora, RHEL)."
        )
    for folder in target.include:
        require_trust(folder)
    return target


def require_trust(path: Path) -> None:
    if not path.exists():
        raise PyglueError(f"{path} does not exist.")
    changeable = distrusted(path) if os.geteuid() == 0 else None
    if changeable:
        raise PyglueError(
            f"{path}: others than root can change {changeable}, and root neither runs nor builds "
            "from such a file. Its owner can install an engine into his own environment instead: "
            "ENVIRONMENT/bin/pip install mod-pyglue --config-settings=setup-args=-Dmodule=false."
        )


def build(target: Target) -> None:
    """Compiles beside the goal and renames: a worker always finds a whole engine."""
    try:
        with open_to_all():
            target.engine.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.engine.parent) as folder:
            made = Path(folder) / target.engine.name
            compile_engine(target, made)
            made.chmod(0o755)
            made.replace(target.engine)
    except OSError as error:
        raise PyglueError(
            f"cannot write the engine to {target.engine}: {error.strerror or error}."
        ) from None


def compile_engine(target: Target, made: Path) -> None:
    compiler = shlex.split(os.environ.get("CC", "")) or [first_compiler()]
    sources = [str(file) for folder in SOURCES for file in sorted((PACKAGE / folder).glob("*.c"))]
    if not sources:
        raise PyglueError(f"the engine's C sources are not in {PACKAGE}: install mod-pyglue again.")
    include = [f"-I{folder}" for folder in [*(PACKAGE / name for name in SOURCES), *target.include]]
    ran = subprocess.run(
        [*compiler, *FLAGS, *include, *sources, "-o", str(made)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise PyglueError(f"the engine does not compile for {target.name}:\n{ran.stderr.strip()}")


def first_compiler() -> str:
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return found
    raise PyglueError(
        "no C compiler found. Install one: apt-get install gcc libc6-dev, or dnf install gcc."
    )
