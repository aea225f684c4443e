"""The machine that is measured on, and which of its cores is whose."""

import ctypes
import os
import pathlib
import platform
import re
import signal

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # prctl(2)


def all_cores():
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))


def cores():
    """The server's core and the generator's: two different ones, if there are two."""
    return all_cores()[0], all_cores()[-1]


def begin_on(core):
    """What a new process does before anything else; `core` may be several. It ends with this one,
    also if this one is killed."""

    def begin():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.sched_setaffinity(0, {core} if isinstance(core, int) else core)

    return begin


class Stolen:
    """The share of the time that the hypervisor gives cores to others, since it was made."""

    def __init__(self, core):
        self.cores = {core} if isinstance(core, int) else set(core)
        self.before = self.ticks()

    def ticks(self):
        """Of each core: stolen, and all (proc(5), /proc/stat)."""
        ticks = {}
        for name, *fields in map(str.split, pathlib.Path("/proc/stat").read_text().splitlines()):
            if name[3:].isdigit() and int(name[3:]) in self.cores:
                numbers = [int(field) for field in fields[:8]]  # guests are in `user` already
                ticks[name] = numbers[7], sum(numbers)
        return ticks

    def share(self):
        """Of the core that lost the most."""
        shares = [0.0]
        for name, (stolen, total) in self.ticks().items():
            stolen_before, total_before = self.before[name]
            shares.append((stolen - stolen_before) / max(total - total_before, 1))
        return max(shares)


def first_match(pattern, path):
    try:
        found = re.search(pattern, pathlib.Path(path).read_text(), re.MULTILINE)
    except OSError:
        return None
    return found and found[1]


def describe():
    """What a reader has to know to judge a figure."""
    memory_kb = int(first_match(r"^MemTotal: +(\d+) kB", "/proc/meminfo") or 0)
    return {
        "cpu": first_match(r"^model name\s*: (.*)", "/proc/cpuinfo") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kb / 1024 / 1024, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "system": first_match(r'^PRETTY_NAME="(.*)"', "/etc/os-release") or "unknown",
    }
