# SPDX-License-Identifier: Apache-2.0
"""What httpd execs: `python -I -S -B PACKAGE/supervisor/__main__.py --parent PID --epoch N`.

Makes this package importable, and nothing else of the folder that it lies in, imports all modules
(nothing is loaded later: files may be replaced while we run), and hands over to server.py.
"""

import argparse
import importlib.util
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

CHANNEL, PAGES, ROWS = 3, 4, 5


def _import_package(folder: Path) -> None:
    """`pyglue`, from exactly this folder: site-packages beside it stays out of sys.path."""
    spec = importlib.util.spec_from_file_location(
        "pyglue", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["pyglue"] = package
    spec.loader.exec_module(package)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pyglue-supervisor")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    return parser.parse_args()


def _memories(memory: ModuleType) -> Any:
    """Pages and rows, if they are of this version."""
    try:
        pages, rows = memory.map(PAGES, True), memory.rows(ROWS)
        is_ours = pages.check() and rows.check()
    except ValueError:  # smaller than ours
        is_ours = False
    if not is_ours:
        sys.exit("PG1008: the shared memories are of another version of mod_pyglue; restart httpd")
    return pages, rows


def main() -> int:
    """Signals first: what comes before their handlers stand waits."""
    waiting = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    arguments = _arguments()
    _import_package(Path(__file__).resolve().parent.parent)
    from pyglue import _pages
    from pyglue.supervisor import jailed
    from pyglue.supervisor.server import Given, Supervisor

    pages, rows = _memories(_pages)
    supervisor = Supervisor(
        Given(
            parent=arguments.parent,
            epoch=arguments.epoch,
            channel=socket.socket(fileno=CHANNEL),
            pages=pages,
            rows=rows,
            memory=_pages,
            spawn=jailed.spawn,
            describe=jailed.describe,
        )
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting)
    status = supervisor.run()
    # All is done; a Python that ends no longer has handlers, and would seem to have been killed.
    signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    return status


if __name__ == "__main__":
    sys.exit(main())
