"""Runs in the engine's process: takes commands from its standard input, answers on its output."""

import faulthandler
import importlib.util
import json
import os
import pickle
import signal
import sys
import threading
from typing import Any, ClassVar


def find_engine() -> tuple[str, str]:
    """File of the installed engine, and the folder of its package."""
    package = importlib.util.find_spec("pyglue")
    engine = importlib.util.find_spec("pyglue._engine")
    assert package and engine and package.origin and engine.origin
    return engine.origin, os.path.dirname(package.origin)


def load_host(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("_memhost", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_threads(host: Any, count: int, times: int, arguments: tuple[Any, ...]) -> list[Any]:
    """The same call in many threads at once; each ends its thread state."""
    answers: list[Any] = []

    def play() -> None:
        answers.extend(host.call(*arguments) for _ in range(times))
        host.thread_end()

    threads = [threading.Thread(target=play) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def together(host: Any, *calls: tuple[Any, ...]) -> list[Any]:
    """Different calls, each in a thread of its own; their answers in the same order."""
    answers: list[Any] = [None] * len(calls)

    def play(index: int) -> None:
        answers[index] = host.call(*calls[index])
        host.thread_end()

    threads = [threading.Thread(target=play, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class Begun:
    """A call on a thread of its own."""

    running: ClassVar[dict[int, "Begun"]] = {}

    def __init__(self, host: Any, arguments: tuple[Any, ...]) -> None:
        self.answer: Any = None
        self.thread = threading.Thread(target=self.play, args=(host, arguments))
        self.running[arguments[0]] = self
        self.thread.start()

    def play(self, host: Any, arguments: tuple[Any, ...]) -> None:
        self.answer = host.call(*arguments)
        host.thread_end()

    @classmethod
    def finish(cls, number: int) -> Any:
        begun = cls.running.pop(number)
        begun.thread.join()
        return begun.answer


def interrupted(host: Any, threads: int, times: int, arguments: tuple[Any, ...]) -> Any:
    """Many threads run requests of their own numbers, so many times each and until one was ended,
    while another interrupts what it can. (number, kind, status) of each; the numbers for which an
    exception was set; what met threads outside of a request."""
    answers: list[tuple[int, int, int]] = []
    leaks: list[str] = []
    current = dict.fromkeys(range(threads), 0)
    was_ended = threading.Event()

    def play(index: int) -> None:
        for turn in range(100 * times):
            if turn >= times and was_ended.is_set():
                break
            number = current[index] = turn * threads + index + 1
            try:
                _, kind, status, *_ = host.call(number, *arguments[1:])
                answers.append((number, kind, status))
                if kind != 0:
                    was_ended.set()
                for _ in range(100):  # where one that came late would come up
                    pass
            except BaseException as leak:
                leaks.append(repr(leak))
        host.thread_end()

    players = [threading.Thread(target=play, args=(index,)) for index in range(threads)]
    hits: list[int] = []
    for player in players:
        player.start()
    while any(player.is_alive() for player in players):
        hits += [number for number in list(current.values()) if host.interrupt(number)]
    for player in players:
        player.join()
    return answers, hits, leaks


def short_of_memory(host: Any, after: int, most: int, arguments: tuple[Any, ...]) -> Any:
    """One call in which allocations fail after so many: its answer, and how many failed."""
    host.shortage(after, most)
    try:
        answer = host.call(*arguments)
    finally:
        failed = host.shortage(-1, 0)
    return answer, failed


def obey(host: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "open":
        engine, package, settings = arguments
        found = find_engine() if engine is None else (engine, package)
        return host.open(*found, json.dumps(settings))
    if name == "begin":
        Begun(host, arguments)
        return None
    if name == "finish":
        return Begun.finish(*arguments)
    if name == "interrupted":
        return interrupted(host, *arguments)
    if name == "short_of_memory":
        return short_of_memory(host, *arguments)
    if name == "register":
        return faulthandler.register(signal.SIGRTMAX, open(arguments[0], "w"))
    if name == "threads":
        return in_threads(host, arguments[0], arguments[1], arguments[2:])
    if name == "together":
        return together(host, *arguments)
    return getattr(host, name)(*arguments)


def main() -> None:
    commands = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    host = load_host(sys.argv[1])
    while True:
        try:
            name, *arguments = pickle.load(commands)
        except EOFError:
            return
        try:
            answer = (True, obey(host, name, tuple(arguments)))
        except Exception as error:
            answer = (False, f"{error!r} {host.outside()}")
        pickle.dump(answer, answers)
        answers.flush()


main()
