"""Counts system calls and GIL acquisitions of one warm request, in both modes.

`make perf-counts` runs it: httpd (event, one child) with hello behind one kept-alive connection,
strace attached to every process of it. Left out are futexes, which count hand-overs between threads
and vary, and the turn of httpd's parent once a second. A request's calls are those between its
first byte and the next request's; the median of all requests is compared with the budget, so that a
timer that fires in between does not matter.

A GIL acquisition is a call of one of the functions by which a thread attaches to Python, counted by
a debugger's breakpoints in the process that runs the application. Exits 1 above a budget.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

# As counted today, so that a call more is seen; docs/performance.md tells what each is for.
BUDGET = {"daemon": 14, "embedded": 9}
GIL_BUDGET = 1
ATTACHES = ("PyEval_RestoreThread", "PyEval_AcquireThread", "PyGILState_Ensure")
WARM = 30
REQUESTS = 50  # together below MaxKeepAliveRequests
START = 60.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CALL = re.compile(r"^(\d+)\s+(\d+\.\d+) (?:<\.\.\. )?(\w+)(.*)$")
PARENTS_TURN = {"wait4", "clock_nanosleep"}
IGNORED = {"futex", "restart_syscall", *PARENTS_TURN}

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
"""


def children(pid: int) -> list[int]:
    """All descendants of a process, itself first."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += children(int(child))
    return found


def connect(port: int, server: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + START
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=START)
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise


def exchange(client: socket.socket) -> None:
    client.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"Hello, world!"):
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError(f"the server closed the connection after {answer!r}")
        answer += piece


def trace(root: int, log: pathlib.Path, client: socket.socket) -> list[float]:
    """Attach to the whole tree, send the requests, return the time at which each began."""
    pids = [f"-p{pid}" for pid in children(root)]
    tracer = subprocess.Popen(
        ["strace", "-f", "-ttt", "-o", str(log), *pids], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    for _ in pids:  # one line "Process N attached" each
        tracer.stderr.readline()
    starts = []
    try:
        for _ in range(REQUESTS + 1):
            starts.append(time.time())
            exchange(client)
            # What the server does after its answer belongs to this request: let it come to rest.
            time.sleep(0.02)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    return starts


def count(log: pathlib.Path, starts: list[float]) -> tuple[float, collections.Counter[str]]:
    """The median number of calls a request, and the calls of a request that has just that many."""
    windows: list[collections.Counter[str]] = [collections.Counter() for _ in starts]
    index = 0
    for line in log.read_text().splitlines():
        call = CALL.match(line)
        if call is None or "resumed>" in line or call[3] in IGNORED:
            continue
        moment = float(call[2])
        while index + 1 < len(starts) and moment >= starts[index + 1]:
            index += 1
        if moment >= starts[0]:
            windows[index][call[3]] += 1
    totals = [window.total() for window in windows[:-1]]
    median = statistics.median_low(totals)
    calls = windows[totals.index(median)]
    if "writev" not in calls:
        sys.exit("strace saw no answer leave: may it look into all processes of httpd?")
    return median, calls


def application_process(server: int, mode: str) -> int:
    """Who runs the application: the worker, or httpd's only child."""
    if mode == "embedded":
        return children(server)[-1]
    commands = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(server)}
    return next(pid for pid, command in commands.items() if b"worker/boot.py" in command)


def acquisitions(pid: int, client: socket.socket) -> int:
    """GIL acquisitions a request: breakpoints that never stop, and how often each was met."""
    # The stop that ends the count is the debugger's alone: a worker that is seen stopped is killed.
    script = ["handle SIGSTOP stop nopass", *(f"break {name}" for name in ATTACHES)]
    script += [f"ignore {number} 1000000" for number in range(1, len(ATTACHES) + 1)]
    script += ["echo ready\\n", "continue", "info breakpoints", "detach"]
    command = ["gdb", "-q", "-nx", "-batch", "-p", str(pid), "-ex", "set breakpoint pending off"]
    command += [part for line in script for part in ("-ex", line)]
    debugger = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert debugger.stdout is not None
    said = list(itertools.takewhile("ready\n".__ne__, debugger.stdout))
    if f"TracerPid:\t{debugger.pid}\n" not in pathlib.Path(f"/proc/{pid}/status").read_text():
        sys.exit(f"gdb could not count in process {pid}: {''.join(said)}")
    try:
        for _ in range(REQUESTS):
            exchange(client)
    finally:
        os.kill(pid, signal.SIGSTOP)  # which no thread can block, as httpd's block SIGINT
        report, _ = debugger.communicate(timeout=START)
    hits = re.findall(r"already hit (\d+) time", report)
    return round(sum(int(number) for number in hits) / REQUESTS)


class Counts(NamedTuple):
    """Of one request."""

    total: float
    calls: collections.Counter[str]
    gil: int


def measure(mode: str) -> Counts:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        script = folder / "hello.wsgi"
        script.write_text(APPLICATION)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        pyglue = pathlib.Path(os.environ.get("PYGLUE_PREFIX", sys.prefix)) / "bin" / "pyglue"
        command = [str(pyglue), "serve", str(script), "--mode", mode, "--port", str(port)]
        command += ["--host", "127.0.0.1", "--server-root", str(folder / "server")]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with connect(port, server) as client:
                for _ in range(WARM):
                    exchange(client)
                starts = trace(server.pid, folder / "trace", client)
            total, calls = count(folder / "trace", starts)
            with connect(port, server) as client:
                gil = acquisitions(application_process(server.pid, mode), client)
            return Counts(total, calls, gil)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=START)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modes", nargs="*", default=list(BUDGET), help="daemon, embedded")
    above = False
    for mode in parser.parse_args().modes:
        counts = measure(mode)
        above |= counts.total > BUDGET[mode] or counts.gil > GIL_BUDGET
        listed = ", ".join(f"{name} {number}" for name, number in counts.calls.most_common())
        print(f"{mode}: {counts.total} system calls a request, budget {BUDGET[mode]}: {listed}")
        print(f"{mode}: {counts.gil} GIL acquisitions a request, budget {GIL_BUDGET}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
