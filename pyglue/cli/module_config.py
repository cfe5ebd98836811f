# SPDX-License-Identifier: Apache-2.0
"""`pyglue module-config`: the two lines that an existing httpd needs to know mod_pyglue."""

import argparse
import sys
from typing import Any

from pyglue.cli.site import built_module, quoted


def add(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "module-config",
        help="print the lines that an existing httpd needs",
        description="Print the two lines that make mod_pyglue known to any httpd.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    print(f'LoadModule wsgi_module "{quoted(built_module())}"')
    print(f'WSGIPythonHome "{quoted(sys.prefix)}"')
    return 0
