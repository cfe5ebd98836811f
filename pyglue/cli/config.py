# SPDX-License-Identifier: Apache-2.0
"""`pyglue config TARGET`: writes what `pyglue serve` would start, and prints its path."""

import argparse
from typing import Any

from pyglue.cli import site
from pyglue.cli.httpd import Httpd


def add(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "config",
        help="write the configuration, start nothing",
        description="Write the configuration that `pyglue serve` would start, and print its path.",
    )
    site.add_arguments(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    print(site.write(site.from_arguments(chosen), Httpd.find()))
    return 0
