"""Servers as processes: each is pinned to a core, and lives as long as its `with` block."""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from bench import Failure, Skip, websocket
from bench.machine import begin_on, cores

START_SECONDS = 30


class Server:
    """A server that tells on stdout where it listens."""

    forks = False

    def __init__(self, command, environment=None, core=None):
        self.command = [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.core = cores()[0] if core is None else core

    def __enter__(self):
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command,
            env={name: str(value) for name, value in self.environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            preexec_fn=begin_on(self.core),
        )
        self.pid = self.process.pid
        try:
            self.port = self.wait_for_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_port(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            self.output.seek(0)
            found = re.search(r"listening.*127\.0\.0\.1:(\d+)", self.output.read())
            if found:
                return int(found[1])
            # There is no event to wait for: a pipe instead of the file would have to be read as
            # long as the server lives.
            time.sleep(0.02)
        self.output.seek(0)
        raise Failure(f"{self.command[0]} does not listen:\n{self.output.read()}")

    def __exit__(self, *_):
        # Each of Pushpin's processes is in a group of its own, so they are ended one by one.
        forked = descendants(self.pid)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.wait()
        for pid in forked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.output.close()


class Peer(Server):
    """Somebody else's server, which is told where to listen."""

    def __init__(self, command, listen, environment=None, forks=False):
        super().__init__(command, environment)
        self.listen = listen
        self.forks = forks

    def wait_for_port(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, Failure):
                with socket.create_connection(("127.0.0.1", self.listen), timeout=1) as client:
                    self.greet(client)
                return self.listen
            time.sleep(0.02)  # nobody tells when it listens, so it is tried again
        self.output.seek(0)
        raise Failure(f"{self.command[0]} does not listen:\n{self.output.read()}")

    def greet(self, client):
        """Raises if it is not ready yet, although it listens."""


class Pushpin(Peer):
    """Its processes are ready one after the other."""

    def greet(self, client):
        websocket.upgrade(client)


def wait_until_left(pid, descriptors_before):
    """Until the server has noticed that its clients have gone, which nobody tells: it has as many
    descriptors again."""
    deadline = time.monotonic() + START_SECONDS
    while descriptors(pid) > descriptors_before:
        if time.monotonic() > deadline:
            raise Failure("the server keeps connections that are gone")
        time.sleep(0.01)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    """CPU time that all threads of a process have used."""
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3), which Python lacks
    return time.clock_gettime(clock)


def children(pid):
    """Of its first thread."""
    with contextlib.suppress(OSError):
        told = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in told.split()]
    return []


def descendants(pid):
    """Those that a process has forked, and what they have forked, as far as they live."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


def tree_cpu_seconds(pid):
    """The CPU time of a process and of those that it has forked, as far as they live."""
    total = 0
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            total += cpu_seconds(one)
    return total


def free_port():
    """For a server that has to be told one. Not of those that the kernel gives to clients: one of
    them could take it before the server does."""
    of_clients = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.randrange(10000, int(of_clients[0]))
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def installed(program):
    """Its path. Debian keeps servers where only root looks."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Skip(f"{program} is not installed (script/bootstrap --bench)")
    return found
