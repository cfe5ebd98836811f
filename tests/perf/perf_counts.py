"""Counts the system calls of one warm request, over all processes, in both modes.

`make perf-counts` runs it: httpd (event, one child) with hello behind one kept-alive connection,
strace attached to every process of it, futexes left out (they count hand-overs between threads,
which vary). A request's calls are those between its first byte and the next request's; the median
of all requests is compared with the budget, so that a timer that fires in between does not matter.
Exits 1 above it.
"""

from __future__ import annotations

import argparse
import collections
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

# Counted, not timed: docs/performance.md tells what each call is for.
BUDGET = {"daemon": 20, "embedded": 13}
WARM = 30
REQUESTS = 50  # together below MaxKeepAliveRequests
START = 60.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CALL = re.compile(r"^(\d+)\s+(\d+\.\d+) (?:<\.\.\. )?(\w+)(.*)$")
IGNORED = {"futex", "restart_syscall"}

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
    return median, windows[totals.index(median)]


def measure(mode: str) -> tuple[float, collections.Counter[str]]:
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
            client = connect(port, server)
            for _ in range(WARM):
                exchange(client)
            starts = trace(server.pid, folder / "trace", client)
            client.close()
            return count(folder / "trace", starts)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=START)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modes", nargs="*", default=list(BUDGET), help="daemon, embedded")
    above = False
    for mode in parser.parse_args().modes:
        total, calls = measure(mode)
        above |= total > BUDGET[mode]
        listed = ", ".join(f"{name} {number}" for name, number in calls.most_common())
        print(f"{mode}: {total} system calls a request, budget {BUDGET[mode]}: {listed}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
