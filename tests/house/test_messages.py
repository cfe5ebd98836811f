# SPDX-License-Identifier: Apache-2.0
"""Every message id of the code has its row in docs/reference/messages.md, and each row its id."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "messages.md"
ENGINE = re.compile(r"\bENG_ID\((\d{4})\)")
HTTPD = re.compile(r"GLUE_ID\((\d{4})\)")
PYTHON = re.compile(r"\"(PG\d{4})\b")
WORKER = re.compile(r"\"(PG2\d{3}): ")
ROW = re.compile(r"^\| (GL\d{4}|PG\d{4}) \|", re.MULTILINE)


def ids_in_code() -> set[str]:
    httpd = {
        "GL" + number
        for file in (ROOT / "apache_module").glob("*.c")
        for number in HTTPD.findall(file.read_text())
    }
    engine = {
        "PG" + number
        for file in (ROOT / "pyglue").rglob("*.c")
        for number in ENGINE.findall(file.read_text())
    }
    python = {
        name
        for file in (ROOT / "pyglue").rglob("*.py")
        for name in PYTHON.findall(file.read_text())
    }
    worker = {
        name
        for file in (ROOT / "pyglue" / "worker").glob("*.c")
        for name in WORKER.findall(file.read_text())
    }
    return httpd | engine | python | worker


def test_each_message_id_is_explained_once() -> None:
    rows = Counter(ROW.findall(PAGE.read_text()))

    assert [name for name, count in rows.items() if count > 1] == []
    assert sorted(ids_in_code() - set(rows)) == [], "in the code, not on the page"
    assert sorted(set(rows) - ids_in_code()) == [], "on the page, not in the code"
