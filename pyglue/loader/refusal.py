# SPDX-License-Identifier: Apache-2.0
"""Extension modules that do not run in a sub-interpreter: which one it is, and what to do.

`exc.c` asks for an import that failed. CPython's own refusal names the module; those of numpy,
Cython and PyO3 do not, and then the line that imports it is named."""

import linecache
import re
import traceback
from collections.abc import Iterator

from pyglue.compat import mod_wsgi
from pyglue.loader import interpreter

ID = "PG3034"  # of the message
REFUSALS = (
    re.compile(r"module (?P<module>\S+) does not support loading in subinterpreters"),
    re.compile(r"Interpreter change detected"),  # Cython
    re.compile(r"cannot load module more than once per process"),  # numpy
    re.compile(r"PyO3 modules (do not|may only)"),
)


def explain(error: BaseException) -> str | None:
    """One line for the error log; None: the import failed for another reason."""
    for cause in _chain(error):
        for refusal in REFUSALS:
            found = refusal.search(str(cause))
            if found:
                module = found.groupdict().get("module")
                what = f"'{module}'" if module else f"that {_place(cause)} imports"
                return (
                    f"{ID}: the extension module {what} does not run in the sub-interpreter of "
                    f"application group '{mod_wsgi.application_group}': {_remedy()}"
                )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "the script"
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    return f"line {frames[-1].lineno} of {frames[-1].filename} ({line})"


def _remedy() -> str:
    main = "let it run in the main interpreter by WSGIApplicationGroup %{GLOBAL}"
    if interpreter.is_spread():
        return f"{main}, and leave interpreters= out: use processes= instead"
    if interpreter.wants_own_gil(mod_wsgi.application_group):
        return f"{main}, or set WSGIPerInterpreterGIL Off if it runs where interpreters share one"
    return main
