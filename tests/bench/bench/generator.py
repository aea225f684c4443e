"""The load generator (tests/bench/load*) as a process on the last core."""

import contextlib
import json
import pathlib
import subprocess
import sys

from bench import Failure
from bench.machine import Stolen, begin_on, cores
from bench.servers import tree_cpu_seconds

RUN_SECONDS_MAX = 120
STOLEN_MAX = 0.05
WEBSOCKETS_LOAD = pathlib.Path(__file__).parents[1] / "websockets_load.py"


class Generator:
    def __init__(self, program, progress):
        self.program = program
        self.progress = progress

    def command(self, mode, server, *options):
        words = [self.program, mode, "--port", server.port]
        words += ["--server-pid", server.pid, "--limit", RUN_SECONDS_MAX, *options]
        return [str(word) for word in words]

    def run(self, mode, server, *options):
        """Runs it to its end and returns its figures. A second time if the hypervisor took much of
        the server's core away: what others have left in its caches costs it time of its own."""
        figures = self.run_once(mode, server, *options)
        if figures["stolen"] <= STOLEN_MAX:
            return figures
        self.progress.note(f"{figures['stolen']:.0%} of a run were stolen; it is repeated")
        return min(figures, self.run_once(mode, server, *options), key=lambda run: run["stolen"])

    def run_once(self, mode, server, *options):
        stolen = Stolen(server.core)
        if server.forks:
            figures = self.run_beside_processes(mode, server, *options)
        else:
            figures = self.run_to_end(mode, self.command(mode, server, *options))
        return {**figures, "stolen": round(stolen.share(), 4)}

    def run_to_end(self, what, command):
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX + 10,
            preexec_fn=begin_on(cores()[1]),
        )
        if done.returncode != 0:
            raise Failure(f"{what}: {done.stderr.strip() or done.returncode}")
        self.progress.ran()
        return json.loads(done.stdout)

    def run_beside_processes(self, mode, server, *options):
        """For a server that forks. There is no clock of all its processes, so they are added up
        here; the ticks of 10 ms that the generator would add are too coarse for 200 of them."""
        with self.waiting(mode, server, *options, "--wait") as load:
            before = tree_cpu_seconds(server.pid)
            figures = go_on(load)
            used = tree_cpu_seconds(server.pid) - before
        self.progress.ran()
        return {**figures, "server_cpu_seconds": used}

    def run_together(self, generator_cores, mode, server, *options):
        """One on each of these cores, all at the same time; their figures."""
        with contextlib.ExitStack() as stack:
            processes = [
                stack.enter_context(self.started(mode, server, *options, core=core))
                for core in generator_cores
            ]
            told = [answer_of(process) for process in processes]
        self.progress.ran()
        return told

    def run_websockets(self, server, *options):
        """The second load generator, that a public library does the work of."""
        command = [sys.executable, WEBSOCKETS_LOAD, "--port", server.port]
        command += ["--server-pid", server.pid, *options]
        return self.run_to_end(WEBSOCKETS_LOAD.name, [str(word) for word in command])

    @contextlib.contextmanager
    def waiting(self, mode, server, *options):
        """One whose connections are open and which waits; yields its process."""
        with self.started(mode, server, *options) as process:
            wait_until_ready(process)
            yield process

    @contextlib.contextmanager
    def started(self, mode, server, *options, core=None):
        """One that may still be opening its connections; yields its process."""
        process = subprocess.Popen(
            self.command(mode, server, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=begin_on(cores()[1] if core is None else core),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):  # of what it was told and did not read
                process.stdin.close()
            process.stdout.close()
            process.stderr.close()


def wait_until_ready(load):
    if answer_of(load) != {"ready": True}:
        raise Failure("the load generator is not ready")


def answer_of(load):
    """The next line that a load generator prints."""
    line = load.stdout.readline()
    if not line:
        raise Failure(load.stderr.read().strip() or "the load generator gave up")
    return json.loads(line)


def tell(load, line=""):
    try:
        load.stdin.write(f"{line}\n")
        load.stdin.flush()
    except BrokenPipeError:
        raise Failure(load.stderr.read().strip() or "the load generator gave up") from None


def go_on(load):
    """Lets a waiting load generator run; returns its figures, its connections still open."""
    tell(load)
    return answer_of(load)
