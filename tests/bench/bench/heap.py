"""What count_malloc.c counts, preloaded into a server; and what the kernel tells of its memory."""

import mmap
import pathlib
import re
import struct


class HeapCounts:
    """Read from the file that the library shares."""

    HEADER = struct.Struct("=QQQ")
    CLASS_BYTES = 16
    CLASSES = 4096

    def __init__(self, path):
        self.path = path

    def read(self):
        """Allocations so far, bytes that are live, and the live blocks of each size class."""
        with open(self.path, "rb") as file:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as counts:
                allocations, _, live_bytes = self.HEADER.unpack_from(counts)
                blocks = struct.unpack_from(f"={self.CLASSES}Q", counts, self.HEADER.size)
        return allocations, live_bytes, blocks


def counting_environment(contestants, path):
    """For a server whose allocations are to be counted into `path`."""
    library = contestants.tools / "bench_count_malloc.so"
    path.unlink(missing_ok=True)
    return {"LD_PRELOAD": str(library), "SLUICE_MALLOC_COUNTS": str(path)}


def user_memory(pid):
    """Bytes of memory that the process has made its own. Pages of programs and libraries are left
    out: whether they count as private depends on who else runs."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = re.findall(r"^(?:Anonymous|Swap): +(\d+) kB", text, re.MULTILINE)
    return sum(int(number) for number in kilobytes) * 1024
