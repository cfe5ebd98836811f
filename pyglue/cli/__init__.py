# SPDX-License-Identifier: Apache-2.0
"""The command `pyglue`: arguments and dispatch.

Each subcommand is a module of this folder that offers `add(subcommands)`. What it raises as
PyglueError is the user's to mend, and is told in one message."""

import argparse
import platform
import sys
from collections.abc import Sequence

from pyglue import __version__
from pyglue.cli import check, config, install_engine, module_config, reload, serve
from pyglue.cli.httpd import Httpd
from pyglue.errors import PyglueError

SUBCOMMANDS = (serve, config, module_config, install_engine, check, reload)


class Version(argparse.Action):
    """`--version`: pyglue, httpd and Python, because a report of a fault needs all three."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            server = Httpd.find().version()
        except PyglueError as error:
            server = f"no httpd ({error})"
        print(f"pyglue {__version__}")
        print(server)
        print(f"Python {platform.python_version()} ({sys.executable})")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="pyglue", description="Serve Python WSGI applications from Apache httpd."
    )
    top.add_argument("--version", nargs=0, action=Version, help="name pyglue, httpd and Python")
    subcommands = top.add_subparsers(metavar="COMMAND", required=True)
    for subcommand in SUBCOMMANDS:
        subcommand.add(subcommands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit status: 0 fine, 1 told on stderr, 2 wrong arguments."""
    chosen = parser().parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except PyglueError as error:
        print(f"pyglue: {error}", file=sys.stderr)
        return 1
    return status
