"""hg clone, push and pull over hgweb."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest
from conftest import give

pytestmark = pytest.mark.clients

ALICE = ("--config", "ui.username=alice")


def test_hg_clones_pushes_and_pulls(
    serve: Callable[[str], str], run: Callable[..., str], folder: pathlib.Path
) -> None:
    run("hg", "init", "repository")
    settings = "[web]\nallow_push = *\npush_ssl = false\n[server]\nbundle1 = true\n"
    (folder / "repository" / ".hg" / "hgrc").write_text(settings)
    give(folder / "repository")
    address = serve("hgweb.wsgi")

    run("hg", "clone", address, "first")
    # More than one buffer of every kind on the way: 3 MiB that do not compress.
    (folder / "first" / "big").write_bytes(os.urandom(3 << 20))
    (folder / "first" / "small").write_text("hello\n")
    run("hg", "commit", "-A", "-m", "both", *ALICE, "-R", "first")
    run("hg", "push", "-R", "first", address)
    run("hg", "clone", address, "second")
    assert (folder / "second" / "big").read_bytes() == (folder / "first" / "big").read_bytes()

    (folder / "second" / "small").write_text("hello again\n")
    run("hg", "commit", "-m", "again", *ALICE, "-R", "second")
    run("hg", "push", "-R", "second", address)
    run("hg", "pull", "-u", "-R", "first", address)
    assert (folder / "first" / "small").read_text() == "hello again\n"
    assert "2 changesets" in run("hg", "verify", "-R", "first")
