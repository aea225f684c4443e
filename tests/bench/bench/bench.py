"""What every part is given."""

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

    def with_rounds_at_most(self, most):
        rounds = min(self.settings.rounds, most)
        return replace(self, settings=replace(self.settings, rounds=rounds))


def open_bench(folder, work, settings, progress):
    contestants = Contestants(folder, work)
    generator = Generator(contestants.tools / "bench_load", progress)
    return Bench(contestants, generator, settings, progress)
