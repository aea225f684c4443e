"""Contestants that do the same work by turns (A B A B ...)."""

import contextlib
from typing import NamedTuple

from bench import Skip
from bench.servers import Server


class Contestant(NamedTuple):
    name: str
    server: Server
    options: tuple = ()  # for the load generator, beside those of the workload


def those_installed(*named_makers):
    """Contestants of (name, function that makes the server) whose programs are there."""
    contestants = []
    for name, make, *options in named_makers:
        try:
            contestants.append(Contestant(name, make(), tuple(options)))
        except Skip as reason:
            print(f"  {name}: {reason}")
    return contestants


def take_turns(bench, contestants, what, options, mode="echo"):
    """Runs every running server by turns; the runs by name."""
    runs = {contestant.name: [] for contestant in contestants}
    rounds = bench.settings.rounds
    for number in range(1, rounds + 1):
        bench.progress.round(what, number, rounds)
        for name, server, own_options in contestants:
            run = bench.generator.run(
                mode, server, *options, "--seconds", bench.settings.seconds, *own_options
            )
            runs[name].append(run)
    return runs


def contest(bench, contestants, workload, *options):
    """The same for servers that are started for it; what results.json keeps of it."""
    with contextlib.ExitStack() as stack:
        running = [one._replace(server=stack.enter_context(one.server)) for one in contestants]
        runs = take_turns(bench, running, str(workload), [*workload.options, *options])
    return {**workload._asdict(), "runs": runs}
