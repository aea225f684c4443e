"""What every part is given."""

import math
from dataclasses import dataclass, replace

from bench.contestants import Contestants
from bench.generator import Generator
from bench.progress import Progress


@dataclass
class Settings:
    """Of script/bench's options."""

    rounds: int
    seconds: float
    idle: int  # connections
    messages: int  # of the part `calls`
    idle_connections: int | None = None  # over several processes; None: as many as memory allows


@dataclass
class Bench:
    contestants: Contestants
    generator: Generator
    settings: Settings
    progress: Progress

    def with_at_most(self, rounds, seconds=math.inf):
        """The same, for a part that needs no more of them."""
        rounds = min(self.settings.rounds, rounds)
        seconds = min(self.settings.seconds, seconds)
        return replace(self, settings=replace(self.settings, rounds=rounds, seconds=seconds))


def open_bench(folder, work, settings, progress):
    contestants = Contestants(folder, work)
    generator = Generator(contestants.tools / "bench_load", progress)
    return Bench(contestants, generator, settings, progress)
