"""Contestants that do the same work by turns (A B A B ...)."""

import contextlib
from typing import NamedTuple

from bench import Failure, Skip
from bench.servers import Server
from bench.statistics import cost_us


TRIES = 5


class Contestant(NamedTuple):
    name: str
    server: Server
    options: tuple = ()  # for the load generator, beside those of the workload
    peer: bool = False  # somebody else's, which may fail


def those_installed(bench, *named_makers):
    """Contestants of (name, function that makes the server, options) whose programs are there."""
    contestants = []
    for name, make, *options in named_makers:
        try:
            peer = not name.startswith("sluice")
            contestants.append(Contestant(name, make(), tuple(options), peer))
        except Skip as reason:
            bench.progress.note(f"{name}: {reason}")
    return contestants


class Turns:
    """The runs of each contestant, and why some have none."""

    def __init__(self, bench, contestants):
        self.bench = bench
        self.contestants = contestants
        self.runs = {contestant.name: [] for contestant in contestants}
        self.failed = {}  # the reasons, of every try
        self.gave_up = set()

    def start(self, stack):
        """Leaves out those that do not start."""
        running = []
        for contestant in self.contestants:
            with self.peers_may_fail(contestant):
                server = stack.enter_context(contestant.server)
                running.append(contestant._replace(server=server))
        self.contestants = running

    def run(self, contestant, mode, options):
        """Pushpin drops its clients now and then; and on a busy machine it may be that nothing
        comes back in time, from whomever."""
        for number in range(1, TRIES + 1):
            with self.peers_may_fail(contestant, last=number == TRIES):
                run = self.bench.generator.run(
                    mode, contestant.server, *options, *contestant.options
                )
                cost_us(run)
                self.runs[contestant.name].append(run)
                return

    @contextlib.contextmanager
    def peers_may_fail(self, contestant, last=True):
        """That a peer cannot do it is a result, and the others go on; that we cannot is none."""
        try:
            yield
        except Failure as failure:
            if last and not contestant.peer:
                raise
            reason = str(failure).splitlines()[0]
            self.bench.progress.note(f"{contestant.name}: {reason}")
            self.failed.setdefault(contestant.name, []).append(reason)
            if last:
                self.gave_up.add(contestant.name)

    def take(self, what, options, mode, again=()):
        """`again`: names of those that run twice as often, since a goal compares them."""
        rounds = self.bench.settings.rounds
        rounds_of = {name: rounds * (2 if name in again else 1) for name in self.runs}
        most = max(rounds_of.values())
        for number in range(1, most + 1):
            self.bench.progress.round(what, number, most)
            for contestant in self.contestants:
                if contestant.name not in self.gave_up and number <= rounds_of[contestant.name]:
                    self.run(contestant, mode, [*options, "--seconds", self.bench.settings.seconds])
        return self.results()

    def results(self):
        runs = {name: runs for name, runs in self.runs.items() if runs}
        return {"runs": runs, "failed": self.failed}


def take_turns(bench, contestants, what, options, mode="echo", again=()):
    """Runs every running server by turns."""
    return Turns(bench, contestants).take(what, options, mode, again)


def start_and_take_turns(bench, contestants, what, options, mode="echo", again=()):
    """The same for servers that are started for it."""
    with contextlib.ExitStack() as stack:
        turns = Turns(bench, contestants)
        turns.start(stack)
        return turns.take(what, options, mode, again)


def contest(bench, contestants, workload, *options, again=()):
    """What results.json keeps of a workload."""
    turns = start_and_take_turns(
        bench, contestants, str(workload), [*workload.options, *options], again=again
    )
    return {**workload._asdict(), **turns}
