"""The memory host from a test's side: a process of its own, because the engine takes over
`sys.stderr`, `signal.signal` and more of the Python that it runs in."""

from __future__ import annotations

import glob
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import pythons

HERE = Path(__file__).parent
BRIDGE = HERE.parents[2] / "pyglue" / "bridge"
KINDS = ("complete", "failed", "cut")
FLAGS = {"https": 1, "reloading": 2, "sendfile": 4, "multithread": 8, "multiprocess": 16,
         "run_once": 32, "has_body": 64, "head": 128, "hints": 256, "4-hints": 4 * 256}  # fmt: skip
ERRORS = {"gone": -3, "state": -8, "body": -9, "head": -12}
GET = [(b"REQUEST_METHOD", b"GET"), (b"SERVER_NAME", b"test"), (b"SERVER_PORT", b"80"),
       (b"SERVER_PROTOCOL", b"HTTP/1.1"), (b"PATH_INFO", b"/")]  # fmt: skip


def default_python() -> str:
    """PYGLUE_ENGINE_PYTHON, for which an engine is built, or that which has mod_pyglue."""
    other = os.environ.get("PYGLUE_ENGINE_PYTHON")
    if other:
        return other
    prefix = os.environ.get("PYGLUE_PREFIX")
    return str(Path(prefix) / "bin" / "python") if prefix else sys.executable


def is_free_threaded() -> bool:
    """Whether that one has no GIL."""
    show = "import sysconfig; print(sysconfig.get_config_var('Py_GIL_DISABLED'))"
    return pythons.tell(Path(default_python()), show) == "1"


@dataclass
class Answer:
    """What came of one request."""

    result: int
    kind: str
    status: int
    held_gil: bool
    operations: list[tuple[str, int, int, bytes]]

    def of(self, name: str) -> list[tuple[str, int, int, bytes]]:
        return [operation for operation in self.operations if operation[0] == name]

    @property
    def order(self) -> str:
        """The names of the operations, one after the other."""
        return " ".join(operation[0] for operation in self.operations)

    @property
    def line(self) -> str:
        return self.head[0]

    @property
    def head(self) -> list[str]:
        return self.of("start")[0][3].decode("latin-1").splitlines()

    @property
    def headers(self) -> list[str]:
        return self.head[1:]

    @property
    def body(self) -> bytes:
        return b"".join(op[3] for op in self.operations if op[0] in ("write", "file"))

    @property
    def log(self) -> str:
        return "\n".join(operation[3].decode() for operation in self.of("log"))


class Machine:
    """A process in which the engine is open."""

    def __init__(
        self,
        module: Path,
        settings: dict[str, Any] | None = None,
        python: Path | None = None,
        engine: Path | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        """`python` is another one than that of the product, with an engine of its own."""
        self.process = subprocess.Popen(
            [python or default_python(), *options, "-X", "faulthandler", str(HERE / "player.py"),
             str(module)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
        )  # fmt: skip
        build = os.environ.get("PYGLUE_BUILD")
        if "PYGLUE_ENGINE_PYTHON" in os.environ and engine is None:
            engine = pythons.engine_of(Path(default_python()))
        if build and engine is None:
            engine = Path(glob.glob(f"{build}/pyglue/engine/_engine*.so")[0])
        package = str(engine.parents[2]) if engine else None
        if build:
            package = str(BRIDGE.parent)
        self.ask("open", engine and str(engine), package, settings or {})

    @staticmethod
    def build(folder: Path, python: Path | None = None) -> Path:
        """Compile the memory host for that Python."""
        show = "import sysconfig; print(sysconfig.get_paths()['include'])"
        include = subprocess.check_output(
            [python or default_python(), "-c", show], text=True
        ).strip()
        target = folder / "_memhost.so"
        sources = [HERE / "memhost.c", BRIDGE / "types.c", BRIDGE / "snapshot.c"]
        flags = ["-shared", "-fPIC", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra"]
        subprocess.check_call(
            ["cc", *flags, f"-I{BRIDGE}", f"-I{include}", *map(str, sources), "-o", str(target)]
        )
        return target

    def ask(self, *command: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        pickle.dump(command, self.process.stdin)
        self.process.stdin.flush()
        try:
            good, answer = pickle.load(self.process.stdout)
        except EOFError:
            self.process.stdin.close()
            self.process.stdout.close()
            raise AssertionError(f"the engine's process ended: {self.process.wait()}") from None
        if not good:
            raise AssertionError(answer)
        return answer

    def call(self, script: str, **request: Any) -> Answer:
        return self.answer(self.ask("call", *self.command(script, **request)))

    @staticmethod
    def command(script: str, callable: str = "application", group: str = "",
                process_group: str = "", pairs: list[tuple[bytes, bytes]] | None = None,
                flags: str = "", length: int | None = None, body: bytes = b"",
                piece: int = 1 << 20, body_error: str = "",
                fail: tuple[str, int, str] | None = None,
                number: int = 1) -> tuple[Any, ...]:  # fmt: skip
        """What the host's call is given. `fail`: (operation, how many succeed first, error).
        `length` -1: chunked."""
        has_body = bool(body) or length not in (None, 0)
        bits = sum(FLAGS[flag] for flag in flags.split()) | (FLAGS["has_body"] if has_body else 0)
        name, after, error = fail or (None, 0, "gone")
        return (number, script, callable, group, process_group, GET + (pairs or []), bits,
                len(body) if length is None else length, body, piece,
                ERRORS[body_error] if body_error else 0, name, after, ERRORS[error])  # fmt: skip

    @staticmethod
    def answer(said: Any) -> Answer:
        rv, kind, status, held, operations = said
        return Answer(rv, KINDS[kind], status, bool(held), operations)

    def begin(self, script: str, number: int, **request: Any) -> None:
        """Run it on a thread of its own. `finish` waits for it."""
        self.ask("begin", *self.command(script, number=number, **request))

    def finish(self, number: int) -> Answer:
        return self.answer(self.ask("finish", number))

    def outside(self) -> str:
        """Take what was logged outside of requests."""
        return "\n".join(record[3].decode() for record in self.ask("outside"))

    def abandon(self) -> None:
        """End the process without Python's finalisation, as workers do: what daemon threads keep
        alive would be fatal to it."""
        assert self.process.stdin and self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        if self.process.poll() is None:
            self.ask("close")
            self.process.stdin.close()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        assert code == 0, f"the engine's process ended with {code}"
