# SPDX-License-Identifier: Apache-2.0
"""Every message id of the code has its row in docs/reference/messages.md, and each row its id."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pyglue.supervisor import messages
from pyglue.supervisor.messages import LEVEL_NAMES, Message

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "messages.md"
ENGINE = re.compile(r"\bENG_ID\((\d{4})\)")
# How an id is written, by the files in which it is.
WRITTEN = (
    ("GL", r"GLUE_ID\((\d{4})\)", "apache_module/*.c"),
    ("PG", r"ENG_ID\((\d{4})\)", "pyglue/engine/*.c"),
    ("PG", r"\"PG(\d{4})\b", "pyglue/**/*.c"),
    ("PG", r"\"PG(\d{4})\b", "pyglue/**/*.py"),
)
ROW = re.compile(r"^\| (GL\d{4}|PG\d{4}) \|", re.MULTILINE)


def ids_in_code() -> set[str]:
    return {
        letters + number
        for letters, pattern, files in WRITTEN
        for file in ROOT.glob(files)
        for number in re.findall(pattern, file.read_text())
    }


def test_each_message_id_is_explained_once() -> None:
    rows = Counter(ROW.findall(PAGE.read_text()))

    assert [name for name, count in rows.items() if count > 1] == []
    assert sorted(ids_in_code() - set(rows)) == [], "in the code, not on the page"
    assert sorted(set(rows) - ids_in_code()) == [], "on the page, not in the code"


def test_texts_and_levels_of_the_supervisor_are_those_of_the_page() -> None:
    page = PAGE.read_text()
    rows = [
        f"| {said.id} | {LEVEL_NAMES[said.level]} | {said.text} |"
        for said in vars(messages).values()
        if isinstance(said, Message)
    ]

    assert [row for row in rows if row not in page] == []
