# SPDX-License-Identifier: Apache-2.0
"""Who can reach a file, what is in the way, and what root may trust."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyglue.cli.reach import User, obstacle
from pyglue.cli.trust import distrusted

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def script() -> Iterator[Path]:
    """A script that all may read, in folders that all may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "site" / "app.wsgi"
        file.parent.mkdir(mode=0o755)
        file.touch()
        file.chmod(0o644)
        yield file


@needs_root
def test_folder_that_the_user_may_not_enter_is_named(script: Path) -> None:
    script.parent.chmod(0o700)
    said = obstacle(script, User.named("nobody", None))
    assert said is not None and str(script.parent) in said and "chmod o+x" in said


@needs_root
def test_file_that_the_user_may_not_read_is_named(script: Path) -> None:
    script.chmod(0o600)
    said = obstacle(script, User.named("nobody", None))
    assert said is not None and "chmod o+r" in said


@needs_root
def test_reachable_file_has_nothing_in_its_way(script: Path) -> None:
    assert obstacle(script, User.named("nobody", None)) is None


def test_file_of_ones_own_has_nothing_in_its_way(script: Path) -> None:
    assert obstacle(script, None) is None


def test_folder_is_no_script(script: Path) -> None:
    said = obstacle(script.parent, None)
    assert said is not None and "not a file" in said


def test_missing_part_of_the_path_is_named(script: Path) -> None:
    said = obstacle(script.parent / "none" / "app.wsgi", None)
    assert said == f"{script.parent / 'none'} does not exist"


@needs_root
def test_path_of_root_alone_is_trusted() -> None:
    assert distrusted(Path("/usr/bin/env")) is None


@needs_root
def test_folder_that_others_can_write_is_distrusted(script: Path) -> None:
    script.parent.chmod(0o777)
    assert distrusted(script) == str(script.parent)


def test_file_of_another_user_is_distrusted(script: Path) -> None:
    if os.geteuid() == 0:
        os.chown(script, 12345, 12345)
    assert distrusted(script) is not None
