# SPDX-License-Identifier: Apache-2.0
"""`python -m pyglue`: the command, where the console script is not on PATH."""

import sys

from pyglue.cli import main

if __name__ == "__main__":
    sys.exit(main())
