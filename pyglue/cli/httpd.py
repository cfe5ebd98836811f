# SPDX-License-Identifier: Apache-2.0
"""The httpd of this machine: where it is, which modules it has, and how to run it.

Everything is asked of httpd itself when it is needed: a path noted at build time would be stale,
because wheels are cached and used elsewhere."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyglue.errors import PyglueError

PROGRAMS = ("apache2", "httpd")
PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/apache2/bin", "/opt/httpd/bin")
MODULE_FOLDERS = (
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib/httpd/modules",
    "/usr/lib/apache2",
)
MPMS = ("event", "worker", "prefork")
MISSING = (
    f"no httpd found on PATH or in {', '.join(PROGRAM_FOLDERS)}. Install it (apt-get install "
    "apache2-bin, dnf install httpd), or name it in the environment variable PYGLUE_HTTPD."
)


def output(command: Sequence[str | Path]) -> str:
    """What a program prints, both streams together, whatever its status."""
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return ran.stdout


@dataclass(frozen=True)
class Httpd:
    program: Path
    modules: Path

    @classmethod
    def find(cls) -> "Httpd":
        program = find_program()
        return cls(program, find_modules(program))

    def version(self) -> str:
        """As httpd names itself, such as "Apache/2.4.62 (Debian)"."""
        found = re.search(r"^Server version: (.*)$", output([self.program, "-v"]), re.MULTILINE)
        return f"{found.group(1)} ({self.program})" if found else f"unknown httpd ({self.program})"

    def built_in(self) -> frozenset[str]:
        """Names of the modules that are part of the program, as in `LoadModule`."""
        listed = re.findall(r"^\s+(?:mod_)?(\w+)\.c$", output([self.program, "-l"]), re.MULTILINE)
        return frozenset(f"mpm_{name}" if name in MPMS else name for name in listed)

    def load_lines(self, names: Iterable[str]) -> list[str]:
        """`LoadModule` lines for those of `names` that the program does not contain."""
        built_in = self.built_in()
        if any(f"mpm_{mpm}" in built_in for mpm in MPMS):
            built_in |= {f"mpm_{mpm}" for mpm in MPMS}
        return [self.load_line(name) for name in names if name not in built_in]

    def load_line(self, name: str) -> str:
        file = self.modules / f"mod_{name}.so"
        if not file.exists():
            raise PyglueError(f"httpd's module {file} does not exist: install it.")
        return f'LoadModule {name}_module "{file}"'

    def test(self, configuration: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """httpd's own syntax test; what it says is in stdout (what it dumps) and stderr."""
        command = [str(self.program), "-t", "-f", str(configuration), *more]
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )


def find_program() -> Path:
    named = os.environ.get("PYGLUE_HTTPD")
    if named:
        if not os.access(named, os.X_OK):
            raise PyglueError(f"PYGLUE_HTTPD: {named} is not an executable file.")
        return Path(named)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PROGRAM_FOLDERS])
    for name in PROGRAMS:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    raise PyglueError(MISSING)


def find_modules(program: Path) -> Path:
    """The folder of httpd's modules: below the program's own root, or a distribution's."""
    root = re.search(r'-D HTTPD_ROOT="(.*)"', output([program, "-V"]))
    folders = [Path(root.group(1)) / "modules"] if root else []
    folders += [Path(folder) for folder in MODULE_FOLDERS]
    for folder in folders:
        if any(folder.glob("mod_authz_core.so")):
            return folder
    looked = ", ".join(map(str, folders))
    raise PyglueError(f"no folder with the modules of {program} found; looked in {looked}.")
