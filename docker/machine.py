# SPDX-License-Identifier: Apache-2.0
"""Fresh machines as containers: a daemon if none answers, base images by debootstrap, the checkout.

Nothing of the host gets in but what it needs to reach packages: proxies, pip's settings and
certificates."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from docker.errors import ImageNotFound
from docker.models.containers import Container

import docker

ROOT = Path(__file__).parents[1]
MIRROR = os.environ.get("DEBIAN_MIRROR")  # unset: debootstrap's own choice
PRESENT = "git,make,sudo,ca-certificates"  # what a fresh machine has besides debootstrap's minimum
PORT = 8000
PASSED_ON = (
    "PIP_",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
START_SECONDS = 30.0
ADDRESS = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def until(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Waits for a condition to return something true, and returns that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} seconds: {what}")


def answers(address: str) -> bool:
    """Does something listen there? Asked by our own socket: docker's client leaks one if not."""
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix://")) == 0


def why_no_daemon() -> str | None:
    """Why no daemon can be had on this machine, or None."""
    if answers(ADDRESS):
        return None
    if os.geteuid() != 0:
        return f"no docker daemon answers at {ADDRESS}, and only root can start one"
    return None if shutil.which("dockerd") else "there is no docker daemon, and no dockerd to start"


@contextmanager
def daemon() -> Iterator[docker.DockerClient]:
    """The daemon that answers, or one of our own that ends, with its data, with the caller."""
    if answers(ADDRESS):
        with connected(ADDRESS) as client:
            yield client
        return
    with tempfile.TemporaryDirectory(prefix="dockerd-") as folder:
        process = start_daemon(Path(folder))
        try:
            address = f"unix://{folder}/docker.sock"
            wait_until_it_answers(address, process, Path(folder) / "log")
            with connected(address) as client:
                yield client
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


@contextmanager
def connected(address: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(address, timeout=600)
    try:
        yield client
    finally:
        client.close()


class NoDaemonError(Exception):
    """A daemon of our own cannot run here, as in a container without privileges."""


def wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until(lambda: answers(address) or process.poll() is not None, START_SECONDS, "dockerd answers")
    if process.poll() is not None:
        raise NoDaemonError(f"dockerd does not start: {log.read_text().splitlines()[-1]}")


def start_daemon(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                "dockerd",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/exec",
                f"--host=unix://{folder}/docker.sock",
                f"--pidfile={folder}/pid",
                "--storage-driver=overlay2",
            ],
            stdout=log,
            stderr=log,
        )


def base_image(client: docker.DockerClient, suite: str) -> str:
    """The name of an image of a bare machine, made if the daemon has none."""
    name = f"mod-pyglue-test-{suite}:1"
    try:
        client.images.get(name)
    except ImageNotFound:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "machine.tar"
            debootstrap(suite, Path(folder) / "root", made)
            with made.open("rb") as data:
                repository, tag = name.split(":")
                client.api.import_image_from_data(data, repository=repository, tag=tag)
    return name


def debootstrap(suite: str, root: Path, made: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={PRESENT}", suite, str(root)]
    command += [MIRROR] if MIRROR else []
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]
    for file in ("etc/apt/sources.list.d", "etc/apt/apt.conf.d"):
        copy_host_settings(Path("/") / file, root / file)
    subprocess.run(["tar", "-C", str(root), "-cf", str(made), "."], check=True)


def copy_host_settings(source: Path, goal: Path) -> None:
    """How this host reaches a proxy for apt, if it has one set."""
    for file in source.glob("*proxy*"):
        shutil.copy(file, goal / file.name)


class Machine:
    """A running container with the checkout in it, and a user who may use sudo."""

    def __init__(self, container: Container, user: str) -> None:
        self.container = container
        self.user = user
        self.home = "/root" if user == "root" else f"/home/{user}"

    def run(self, command: str) -> str:
        """Runs a shell command in the checkout, which must succeed; returns what it printed."""
        status, output = self.container.exec_run(
            ["sh", "-c", command],
            user=self.user,
            workdir=f"{self.home}/mod_pyglue",
            environment=self.environment(),
        )
        text: str = output.decode(errors="replace")
        assert status == 0, f"{command}:\n{text[-6000:]}"
        return text

    def start(self, command: str) -> None:
        """Starts a command in the background; what it prints goes to the file `log`."""
        self.run(f"setsid {command} >log 2>&1 & echo $! >pid")

    def log(self) -> str:
        return self.run("cat log")

    def environment(self) -> dict[str, str]:
        passed_on = {
            name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)
        }
        return {**passed_on, "HOME": self.home, "USER": self.user}

    def address(self) -> str:
        self.container.reload()
        published = self.container.ports[f"{PORT}/tcp"][0]
        return f"http://127.0.0.1:{published['HostPort']}/"


@contextmanager
def machine(client: docker.DockerClient, suite: str, user: str) -> Iterator[Machine]:
    certificates = os.environ.get("PIP_CERT")
    container = client.containers.run(
        base_image(client, suite),
        ["sleep", "infinity"],
        detach=True,
        init=False,
        ports={f"{PORT}/tcp": ("127.0.0.1", None)},
        volumes={certificates: {"bind": certificates, "mode": "ro"}} if certificates else {},
    )
    try:
        made = Machine(container, user)
        prepare(container, made)
        yield made
    finally:
        container.remove(force=True)


def prepare(container: Container, made: Machine) -> None:
    """A user with sudo, and the checkout in his home folder, owned by him."""
    if made.user != "root":
        rule = f"{made.user} ALL=(ALL) NOPASSWD: ALL"
        add = f"useradd -m -s /bin/sh {made.user} && echo '{rule}' >/etc/sudoers.d/{made.user}"
        assert container.exec_run(["sh", "-c", add]).exit_code == 0
    container.put_archive(made.home, checkout())
    owned = container.exec_run(["chown", "-R", f"{made.user}:", f"{made.home}/mod_pyglue"])
    assert owned.exit_code == 0, owned.output


def checkout() -> bytes:
    """What git tracks here, or would, as a tar file with the one folder mod_pyglue."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in sorted(filter(None, listed.stdout.decode().split("\0"))):
            if (ROOT / name).exists():
                archive.add(ROOT / name, arcname=f"mod_pyglue/{name}")
    return data.getvalue()
