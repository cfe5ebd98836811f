# SPDX-License-Identifier: Apache-2.0
"""Tries one process group: starts a worker as the supervisor does, and hears what it says.

The worker takes the privileged step before anything of the tenant's is touched, finds its engine,
loads the scripts that the plan names, and is ended without having served. It is started by the
supervisor's own code, so a probe cannot differ from a real start."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyglue import _pages
from pyglue.cli.reach import closed_to
from pyglue.supervisor import jailed
from pyglue.supervisor.launch import Recipe, connecting_uid, recipe, settings
from pyglue.supervisor.listeners import Directory, ListenError
from pyglue.supervisor.logs import escape
from pyglue.supervisor.loop import READ, Loop, now
from pyglue.supervisor.plan import GroupPlan, Plan
from pyglue.supervisor.process import Process, start
from pyglue.supervisor.worker import FAILURES, Message

NUMBER = 1  # one worker at a time
LINES = 40  # of its log that are shown


def probe(plan: Plan, group: GroupPlan, loop: Loop, timeout: float) -> list[str]:
    """What is wrong with the group: a sentence, then the worker's own words. Empty: nothing."""
    made = recipe(group, plan)
    try:
        with sockets(plan, group) as directory, worker(plan, made, directory) as process:
            return Hearing(process, made, loop).wait(timeout)
    except ListenError as error:
        return [str(error)]
    except (OSError, ValueError) as error:
        return [f"a worker cannot be started: {error}"]


@contextmanager
def sockets(plan: Plan, group: GroupPlan) -> Iterator[Directory]:
    """Where the plan has them; for httpd's children, which need none, in a folder of our own."""
    with TemporaryDirectory(prefix="pyglue-check-") as own:
        prefix = plan.httpd.socket_prefix if group.name else f"{own}/wsgi"
        directory = Directory(prefix, os.getpid(), NUMBER)
        try:
            yield directory
        finally:
            directory.remove()


@contextmanager
def worker(plan: Plan, made: Recipe, directory: Directory) -> Iterator[Process]:
    group = made.definition
    key = os.urandom(_pages.KEY_SIZE)
    listener = directory.listen(NUMBER, group.listen_backlog)
    try:
        if group.name:
            check_reach(Path(listener.path), plan)
        process = start(NUMBER, made, key, listener, _pages.size_record(), jailed.spawn)
    except BaseException:
        directory.remove_socket(listener)
        raise
    try:
        directory.give(listener, connecting_uid(group, plan))
        process.send(settings(group, plan, NUMBER, key))
        yield process
    finally:
        process.kill()
        process.bury(_pages.read_record, process.started)
        process.close()
        directory.remove_socket(listener)


def check_reach(socket: Path, plan: Plan) -> None:
    """httpd's children connect to the socket by its path."""
    folder = closed_to(plan.httpd.uid, plan.httpd.gid, socket)
    if folder is not None:
        raise ListenError(
            f"httpd's user (uid {plan.httpd.uid}) may not enter {folder}, so it cannot reach the "
            "sockets of workers. Set WSGISocketPrefix to a path in folders that it may enter"
        )


class Hearing:
    """What one worker says until the word that ends its start: ready, failed, or its death."""

    def __init__(self, process: Process, recipe: Recipe, loop: Loop) -> None:
        self.process = process
        self.recipe = recipe
        self.loop = loop
        self.said: deque[bytes] = deque(maxlen=LINES)
        self.verdict: str | None = None  # empty: it is ready

    def wait(self, timeout: float) -> list[str]:
        process, loop = self.process, self.loop
        loop.watch(process.log, READ, self.on_log)
        loop.watch(process.report, READ, self.on_report)
        loop.watch(process.messages, READ, self.on_messages)
        deadline = now() + timeout
        while self.verdict is None and now() < deadline:
            loop.turn(deadline - now())
        self.on_log()
        for fd in (process.log, process.report, process.messages):
            loop.unwatch(fd)
        if self.verdict is None:
            self.verdict = f"its worker was not ready within {timeout:.0f} seconds"
        return [self.verdict, *map(shown, self.said)] if self.verdict else []

    def on_log(self) -> None:
        lines = self.process.read_log(now())
        if lines is None:
            self.loop.unwatch(self.process.log)
        self.said += lines or []

    def on_report(self) -> None:
        if not self.process.read_report():
            self.loop.unwatch(self.process.report)
        failed = jailed.describe(self.process.reported, self.recipe)
        self.verdict = failed.cause if failed else self.verdict

    def on_messages(self) -> None:
        received = self.process.read_messages()
        if received is None:
            self.loop.unwatch(self.process.messages)
            self.verdict = self.verdict or (
                f"its worker ended at once: may this user run {self.recipe.executable}, "
                "and is it a Python?"
            )
        for kind, argument, _ in received or []:
            if kind == Message.READY:
                self.verdict = "" if argument else "a script does not load"
            elif kind == Message.FAILED:
                reason = FAILURES.get(argument, "its worker could not start")
                self.verdict = reason.format(python=self.recipe.executable)


def shown(line: bytes) -> str:
    """A stranger's text, on the terminal of whoever asked."""
    return "\n    " + escape(line)
