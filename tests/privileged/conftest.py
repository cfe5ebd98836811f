# SPDX-License-Identifier: Apache-2.0
"""Fixtures of tests that need root: users who exist while the tests run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from sight import User


def identity(name: str, what: str) -> list[int]:
    said = subprocess.run(["id", what, name], check=True, text=True, stdout=subprocess.PIPE).stdout
    return sorted(map(int, said.split()))


@pytest.fixture(scope="session")
def member() -> Iterator[User]:
    """A system user who belongs to two more groups."""
    name = f"pyglue-{os.getpid()}"
    extra = [f"{name}-a", f"{name}-b"]
    for group in extra:
        subprocess.run(["groupadd", "--system", group], check=True)
    subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/",
                    "--groups", ",".join(extra), name], check=True)  # fmt: skip
    try:
        yield User(name, identity(name, "-u")[0], identity(name, "-g")[0], identity(name, "-G"))
    finally:
        subprocess.run(["userdel", name], check=True)
        for group in extra:
            subprocess.run(["groupdel", group], check=True)
