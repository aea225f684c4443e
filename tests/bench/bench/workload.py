"""What a contestant is given to do."""

from typing import NamedTuple


def size_text(size):
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


class Workload(NamedTuple):
    size: int  # bytes of a payload
    pipeline: int  # messages of a batch; the next is sent when all of them have come back
    connections: int

    @classmethod
    def of(cls, contest):
        """That of a contest in results.json."""
        return cls(contest["size"], contest["pipeline"], contest["connections"])

    def __str__(self):
        return f"{size_text(self.size)} x {self.pipeline} x {self.connections}"

    @property
    def options(self):
        """As the load generator wants them."""
        return [
            *("--size", self.size),
            *("--pipeline", self.pipeline),
            *("--connections", self.connections),
        ]
