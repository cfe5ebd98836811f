# SPDX-License-Identifier: Apache-2.0
"""What a value of a plan may be, and how records are read from JSON.

A check takes a value and its place, and returns it or raises PlanError, which names the place. A
record is a dataclass whose fields are rows: `name: type = row(check)`. What the fields mean is
plan.py's affair.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

Check = Callable[[object, str], Any]
T = TypeVar("T")


class PlanError(Exception):
    """The plan is refused; the text says what is wrong, and where."""


# Rows and records.


def row(check: Check, *, absent: object = MISSING, for_worker: bool = False) -> Any:
    """A field. absent: what it means if a parent of another version leaves it out; without that it
    must be there. for_worker: the settings of a worker have it too, under the same name."""
    return field(default=absent, metadata={"check": check, "for_worker": for_worker})


def record(kind: type[T]) -> Check:
    """An object with the rows of this class. What it has beyond them is a newer parent's."""
    rows = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    needed = {name for name, f in rows.items() if f.default is MISSING}

    def check(value: object, where: str) -> T:
        if not isinstance(value, dict):
            raise PlanError(f"{where} is not an object")
        missing = sorted(needed - value.keys())
        if missing:
            raise PlanError(f"{where} lacks {', '.join(missing)}")
        return kind(
            **{
                name: f.metadata["check"](value[name], f"{where}.{name}")
                for name, f in rows.items()
                if name in value
            }
        )

    return check


def names_for_worker(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.metadata["for_worker"])


# Checks.


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{where} is not a text")
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raise PlanError(f"{where} has characters beyond latin-1") from None
    if b"\0" in raw:
        raise PlanError(f"{where} contains NUL")
    return os.fsdecode(raw)


def flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{where} is neither true nor false")
    return value


def digest(value: object, where: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{40}", value):
        raise PlanError(f"{where} is not 40 hexadecimal digits")
    return bytes.fromhex(value)


def whole(low: int, high: int) -> Check:
    def check(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise PlanError(f"{where} is not a whole number from {low} to {high}")
        return value

    return check


def seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e9:
        raise PlanError(f"{where} is not a number of seconds")
    return float(value)


def maybe(check: Check) -> Check:
    """Or null: not configured."""
    return lambda value, where: None if value is None else check(value, where)


def choice(*allowed: str) -> Check:
    def check(value: object, where: str) -> str:
        if value not in allowed:
            raise PlanError(f"{where} is not one of {', '.join(allowed)}")
        return str(value)

    return check


def path(value: object, where: str) -> str:
    checked = text(value, where)
    if not checked.startswith("/"):
        raise PlanError(f"{where} is not an absolute path")
    return checked


def no_way_up(value: object, where: str) -> str:
    checked = text(value, where)
    if ".." in checked.split("/"):
        raise PlanError(f"{where} leads up, by '..'")
    return checked


def list_of(check: Check) -> Check:
    def check_all(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise PlanError(f"{where} is not a list")
        return tuple(check(item, f"{where}[{i}]") for i, item in enumerate(value))

    return check_all


ID = whole(0, 0xFFFFFFFE)  # of a user or group; the last one means "leave it" to the kernel
SIZE = whole(0, 1 << 40)
INT = whole(0, 0x7FFFFFFF)
