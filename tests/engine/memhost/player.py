"""Runs in the engine's process: takes commands from its standard input, answers on its output."""

import importlib.util
import json
import os
import pickle
import sys
import threading
from typing import Any


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


def obey(host: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "open":
        engine, package, settings = arguments
        found = find_engine() if engine is None else (engine, package)
        return host.open(*found, json.dumps(settings))
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
