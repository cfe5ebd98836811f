# SPDX-License-Identifier: Apache-2.0
"""The text of a test's httpd.conf: what every instance needs, and what the test adds.

Knows where httpd, its modules and the installed product are; starts nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

MODULE_FOLDERS = (
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/local/apache2/modules",
)
PROGRAMS = ("apache2", "httpd")
BASE_MODULES = (
    *("authz_core", "authz_host", "authn_core", "authn_file", "auth_basic", "authz_user"),
    *("alias", "mime", "env", "setenvif", "headers", "rewrite", "dir"),
)
# One child with few threads: cheap to start, and a test knows which process served it.
MPM_LINES = {
    "event": ["StartServers 1", "ThreadsPerChild 12", "ThreadLimit 12", "MaxRequestWorkers 12"],
    "worker": ["StartServers 1", "ThreadsPerChild 12", "ThreadLimit 12", "MaxRequestWorkers 12"],
    "prefork": ["StartServers 4", "MinSpareServers 4", "MaxSpareServers 4", "MaxRequestWorkers 8"],
}
SPARE_THREADS = ["MinSpareThreads 1", "MaxSpareThreads 24"]
USER = "www-data"


def prefix() -> Path:
    """The environment into which the product was installed."""
    return Path(os.environ.get("PYGLUE_PREFIX", sys.prefix))


@cache
def program() -> str:
    """httpd itself."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    for name in PROGRAMS:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise AssertionError("no httpd found on PATH")


@cache
def modules() -> Path:
    for folder in map(Path, MODULE_FOLDERS):
        if (folder / "mod_authz_core.so").exists():
            return folder
    raise AssertionError(f"no modules of httpd in {', '.join(MODULE_FOLDERS)}")


@cache
def product() -> tuple[str, ...]:
    """The lines by which any httpd knows the product, as the product itself prints them."""
    command = [str(prefix() / "bin" / "pyglue"), "module-config"]
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return tuple(printed.splitlines())


def load(names: Iterable[str]) -> list[str]:
    """LoadModule lines; a module that is not there is part of httpd itself."""
    files = {name: modules() / f"mod_{name}.so" for name in names}
    return [f'LoadModule {name}_module "{file}"' for name, file in files.items() if file.exists()]


def base(root: Path, listen: str, mpm: str, more_modules: Iterable[str] = ()) -> list[str]:
    """All that is not the subject of a test. Access is granted below the server root only."""
    lines = [
        f'ServerRoot "{root}"',
        f'DefaultRuntimeDir "{root}"',
        f'PidFile "{root}/httpd.pid"',
        "ServerName tests.invalid",
        f"Listen {listen}",
        f'ErrorLog "{root}/error.log"',
        f'DocumentRoot "{root}"',
        "LogLevel warn",
        *load([f"mpm_{mpm}", *BASE_MODULES, *more_modules]),
        *product(),
        *MPM_LINES[mpm],
        *(SPARE_THREADS if mpm != "prefork" else []),
        "TypesConfig /dev/null",
        "Timeout 20",
        "KeepAliveTimeout 20",
        # Children end within this at stop, also when a client holds a connection open.
        "GracefulShutdownTimeout 5",
        f'WSGISocketPrefix "{root}/wsgi"',
    ]
    if os.geteuid() == 0:
        lines += [f"User {USER}", f"Group {USER}"]
    return [*lines, "<Directory />", "Require all denied", "AllowOverride None", "</Directory>"]


def granted(folder: Path, *lines: str) -> list[str]:
    """A folder that may be served, with further lines for it."""
    return [f'<Directory "{folder}">', "Require all granted", *lines, "</Directory>"]
