# SPDX-License-Identifier: Apache-2.0
"""Every relative link of the documentation leads to a file, and every make target named is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "",
    "docs",
    "apache_module",
    "pyglue",
    "tests",
    "docker",
    "changes",
    "httpd-conf",
    "examples",
)
PAGES = sorted(
    {file for folder in FOLDERS for file in (ROOT / folder).glob("**/*.md" if folder else "*.md")}
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
MAKE = re.compile(r"`make ((?:[a-z-]+ ?)+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_of_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for run in MAKE.findall(page.read_text()) for target in run.split()}
    assert not named - targets
