"""What a long run tells meanwhile, on stderr: the part, the round, and about how long is left."""

import sys
import time

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Counts runs of the load generator. Every part says beforehand how many it makes."""

    def __init__(self, runs_by_part, quiet=False):
        self.left_by_part = dict(runs_by_part)
        self.quiet = quiet
        self.part = ""
        self.done = 0
        self.started = time.monotonic()
        self.told = 0
        self.notes = set()

    def note(self, what):
        """What is missing or went wrong, once."""
        if what not in self.notes:
            print(f"[{self.part}] {what}" if self.part else what, file=sys.stderr, flush=True)
        self.notes.add(what)

    def begin(self, part):
        self.part = part
        self.told = 0
        self.tell("begins")

    def end(self):
        """Whatever it has not made it will not make."""
        self.left_by_part[self.part] = 0

    def ran(self):
        self.done += 1
        left = self.left_by_part.get(self.part, 0)
        self.left_by_part[self.part] = max(left - 1, 0)

    def round(self, what, number, rounds):
        self.tell(f"{what}, round {number} of {rounds}")

    def tell(self, what):
        now = time.monotonic()
        if self.quiet or now - self.told < SECONDS_BETWEEN_LINES:
            return
        self.told = now
        print(f"[{self.part}] {what}{self.time_left(now)}", file=sys.stderr, flush=True)

    def time_left(self, now):
        if self.done < 5:
            return ""
        left = sum(self.left_by_part.values()) * (now - self.started) / self.done
        return f"; about {left / 60:.0f} min left" if left > 90 else f"; about {left:.0f} s left"
