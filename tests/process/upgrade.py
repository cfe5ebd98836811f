# SPDX-License-Identifier: Apache-2.0
"""An installation of its own that a test can replace by another version while httpd runs.

Another version is the same code under another number, as files of a new release come: each is
renamed into its place. One of another layout is compiled, as no number in it alone would do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from harness import conf
from harness.httpd import Httpd

import pyglue

ROOT = Path(__file__).parents[2]
OURS = pyglue.__version__
OTHER = OURS[:-1] + ("9" if OURS[-1] != "9" else "8")  # of the same length, in a compiled file too
NUMBERED = ("mod_pyglue.so", "__init__.py")


class Installation:
    """In a folder that only its owner can write, as root's supervisor asks for."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "env"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.prefix], check=True)
        original = next(conf.prefix().glob("lib/python*/site-packages/pyglue"))
        self.package = self.prefix / original.relative_to(conf.prefix())
        shutil.copytree(original, self.package)

    def configure(self, server: Httpd) -> None:
        """httpd.conf is written; it shall load this installation instead of the tests'."""
        path = server.root / "httpd.conf"
        path.write_text(path.read_text().replace(str(conf.prefix()), str(self.prefix)))

    def put(self, name: str, data: bytes) -> None:
        """As an installer does: processes that have the old file open or mapped keep it."""
        path = self.package / name
        new = path.with_name(path.name + ".new")
        new.write_bytes(data)
        new.chmod(path.stat().st_mode)
        new.replace(path)

    def install(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.put(name, data)

    def other_version(self) -> dict[str, bytes]:
        """The files of a version that reads and speaks this one."""
        found = {name: (self.package / name).read_bytes() for name in NUMBERED}
        assert all(OURS.encode() in data for data in found.values())
        return {name: data.replace(OURS.encode(), OTHER.encode()) for name, data in found.items()}

    def other_layout(self, scratch: Path) -> dict[str, bytes]:
        """The files of a version whose memories have another layout."""
        for room in ("apache_module", "pyglue"):
            shutil.copytree(ROOT / room, scratch / room)
        change(scratch / "pyglue/bridge/placement.h", "WORKER_SLOTS 512", "WORKER_SLOTS 520")
        change(
            scratch / "apache_module/glue_supervisor.c", "} state_t;", "char more[64]; } state_t;"
        )
        pages = next(self.package.glob("_pages.*.so")).name
        python = [f"-I{sysconfig.get_paths()['include']}"]
        return {
            **self.other_version(),
            "mod_pyglue.so": compiled(scratch, "apache_module", httpd_flags()),
            pages: compiled(scratch, "pyglue/supervisor", python),
        }


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def compiled(scratch: Path, room: str, flags: list[str]) -> bytes:
    target = scratch / f"{Path(room).name}.so"
    sources = [*(scratch / room).glob("*.c"), *(scratch / "pyglue/bridge").glob("*.c")]
    command = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-fvisibility=hidden",
               f'-DGLUE_VERSION="{OTHER}"', f"-I{scratch}/pyglue/bridge",
               *flags, *map(str, sources), "-o", str(target)]  # fmt: skip
    subprocess.run(command, check=True)
    return target.read_bytes()


def httpd_flags() -> list[str]:
    def ask(name: str) -> str:
        return subprocess.check_output(["apxs", "-q", name], text=True).strip()

    folders = ("INCLUDEDIR", "APR_INCLUDEDIR", "APU_INCLUDEDIR")
    return [*ask("EXTRA_CPPFLAGS").split(), *(f"-I{ask(name)}" for name in folders)]
