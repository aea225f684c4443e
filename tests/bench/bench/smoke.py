"""Everything for a moment, as a test. Counts are judged; times are not, on a busy machine they
mean nothing."""

import json
import shutil
from dataclasses import asdict
from xml.etree import ElementTree

import guard
from bench import Skip
from bench.contest import contest
from bench.machine import cores
from bench.parts import (
    calls,
    compression,
    echo,
    growth,
    idle,
    memory,
    publish,
    reconnect,
    relay,
    slow,
)
from bench.results import FOLDER, Results, is_readable
from bench.statistics import median, ratios
from bench.workload import Workload

SECONDS = ("--seconds", 0.3)
SOME = Workload(1024, 2, 4)
ECHOES = [
    Workload(20, 16, 200),
    Workload(20, 1, 200),
    Workload(1024, 16, 200),
    Workload(1024, 1, 200),
    Workload(16384, 4, 200),
    Workload(16384, 1, 100),
]


def echoes(bench, workload):
    contestants = echo.contestants(bench)
    if workload != ECHOES[0]:
        contestants = [one for one in contestants if one.name in ("sluice", echo.LIMIT)]
    runs = contest(bench, contestants, workload)["runs"]
    ratio = median(ratios(runs["sluice"], runs[echo.LIMIT]))
    return 0.05 < ratio < 20, f"{ratio:.2f} times {echo.LIMIT} (not a measurement)"


def relays(bench):
    with bench.contestants.echo_upstream() as upstream:
        contestants = relay.contestants(bench, upstream.port)
        runs = contest(bench, contestants, Workload(20, 1, 10))["runs"]
    return "sluice" in runs, f"{', '.join(runs)} (not a measurement)"


def tcp(bench):
    with bench.contestants.raw_echo(core=cores()[1]) as upstream:
        with bench.contestants.relay(upstream.port) as server:
            options = [*Workload(1024, 4, 4).options, "--stream", "--path", "/raw", *SECONDS]
            figures = bench.generator.run("echo", server, *options)
    return figures["messages"] > 0, f"{figures['messages']} messages"


def webhooks(bench):
    with bench.contestants.raw_events() as service:
        with bench.contestants.webhook(service.port) as server:
            figures = bench.generator.run("echo", server, *SOME.options, *SECONDS)
    return figures["messages"] > 0, f"{figures['messages']} messages"


def encrypted(bench):
    with bench.contestants.tls_gateway() as server:
        figures = bench.generator.run("echo", server, *SOME.options, "--tls", *SECONDS)
    return figures["messages"] > 0, f"{figures['messages']} messages"


def idle_heap(bench):
    heap_bytes, _ = memory.idle_heap(bench, 500)
    return 100 < heap_bytes <= memory.BYTES_MAX, f"{heap_bytes:.0f} B of heap each"


def tls_idle_heap(bench):
    heap_bytes = memory.tls_idle_heap(bench, 200)
    return 1000 < heap_bytes <= memory.TLS_HEAP_MAX, f"{heap_bytes:.0f} B of heap each"


def allocations(bench):
    each = calls.allocations_per_message(bench, 10000)
    # Timers take some blocks a second, and on a busy machine the echoes take seconds.
    return each < 10 * calls.ALLOCATIONS_MAX, f"{each:.5f} a message"


def reads_and_writes(bench):
    reads, writes = calls.reads_and_writes(calls.calls_per_message(bench, 2000))
    good = 0.99 < reads < 1.01 and 0.99 < writes < 1.01
    return good, f"{reads:.3f} reads, {writes:.3f} writes a message"


def handshakes(bench):
    with bench.contestants.gateway() as server:
        figures = bench.generator.run("handshakes", server, "--connections", 16, *SECONDS)
    return figures["handshakes"] >= 16, f"{figures['handshakes']} opened and closed"


def plotted_growth():
    """As growth.measure() would return it, had it measured so little."""
    run = {"messages": 1000, "seconds": 0.1, "server_cpu_seconds": 0.01}
    contests = [
        {**Workload(size, 1, connections)._asdict(), "runs": {"sluice": [run]}, "failed": {}}
        for size, connections in ((20, 1), (1024, 1000))
    ]
    routes = {"start_seconds": 0.1, "memory_bytes": 1 << 20, "handshake_us": [40, 41]}
    return {
        **dict.fromkeys(("connections", "sizes", "relayed_sizes"), contests),
        "routes": [{"routes": 10, **routes}, {"routes": 1000, "failed": "too many"}],
    }


def report(bench):
    """Tables, goals and plots: of compressed echoes, and of figures made up."""
    results = Results(bench.contestants.work / "report")
    settings, versions = asdict(bench.settings), bench.contestants.versions()
    results.keep("compression", compression.measure(bench), settings, versions)
    results.keep("growth", plotted_growth(), settings, versions)
    results.write()
    kept = Results(results.folder)
    plots = [ElementTree.parse(path) for path in results.folder.glob("*.svg")]
    written = (results.folder / "report.md").read_text()
    told = all(part.TITLE in written for part in (compression, growth))
    good = told and kept.parts == results.parts and len(plots) == 6
    return good, f"{len(written.splitlines())} lines, {len(plots)} plots"


def resumed(bench):
    with bench.contestants.tls_gateway() as server:
        options = ["--connections", 4, "--tls", "--resume", *SECONDS]
        figures = bench.generator.run("handshakes", server, *options)
    told = f"{figures['resumed']} of {figures['handshakes']} resumed"
    return 0 < figures["resumed"] == figures["handshakes"], told


def open_loop(bench):
    with bench.contestants.gateway() as server:
        options = ["--connections", 10, "--rate", 1000, *SECONDS]
        figures = bench.generator.run("echo", server, *options)
    return figures["messages"] == 300, f"{figures['messages']} of 300 messages came back"


def published(bench):
    results = publish.measure(bench, subscribers=(10, 100))
    frames = max(run["distinct_frames"] for one in results for run in one["runs"])
    deliveries = sum(run["deliveries"] for one in results for run in one["runs"])
    return frames == 1, f"{deliveries} deliveries"


def slow_readers(bench):
    """A client goes over its watermark by what was read at once."""
    results = slow.measure(bench, readers=20)
    closed = sum(run["slow_closed"] for run in results["beside"]["closed"])
    watermarks = slow.growth(results)
    return closed == 0 and watermarks <= 1.5 * slow.SLOW, f"{watermarks:.1f} watermarks of memory"


def reconnects(bench):
    run = reconnect.measure(bench, connections=200, total=1000)["runs"][0]
    return run["failures"] == 0, f"{run['handshakes']} accepted, {run['failures']} failures"


def kept(bench):
    """Each connection is pinged within its interval, which is a second here."""
    figures = idle.in_many(bench, 600, interval=1, each=300)
    told = f"{figures['pings']} pings of {figures['connections']} connections"
    return figures["processes"] == 2 and figures["pings"] > 0, told


def kept_results(_):
    """Those in the tree, by what reads them now."""
    kept = json.loads((FOLDER / "results.json").read_text())
    unreadable = [name for name, part in kept.items() if not is_readable(name, part)]
    return not unreadable, ", ".join(unreadable) or f"{len(kept)} parts"


def instructions(bench):
    if shutil.which("valgrind") is None:
        raise Skip("valgrind is not installed")
    grown = guard.run(bench.contestants.folder)
    return True, f"{grown} have grown"  # other compilers count otherwise: a warning at most


CHECKS = {
    **{
        f"echo {workload}": lambda bench, workload=workload: echoes(bench, workload)
        for workload in ECHOES
    },
    "WebSocket relays": relays,
    "a TCP relay": tcp,
    "webhooks": webhooks,
    "echoes over TLS": encrypted,
    f"idle connections cost at most {memory.BYTES_MAX} B of heap": idle_heap,
    "idle connections with TLS cost at most 15 KiB of heap": tls_idle_heap,
    "an echo makes no heap allocation": allocations,
    "an echo makes one read and one write": reads_and_writes,
    "handshakes": handshakes,
    "TLS handshakes are resumed": resumed,
    "messages at a fixed rate": open_loop,
    "all subscribers get what is published": published,
    "clients that do not read": slow_readers,
    "clients that reconnect": reconnects,
    "idle connections of two gateways on one port are pinged": kept,
    "compressed echoes, and the report": report,
    "the results that are kept can be read": kept_results,
    "instructions of the hot operations": instructions,
}


def check(bench, what, function):
    try:
        good, told = function(bench)
        result = "passed" if good else "failed"
    except Skip as reason:
        result, told = "skipped", reason
    except Exception as error:  # whatever it is, the others still run
        result, told = "failed", error
    print(f"{result} {what}: {told}", flush=True)
    return result


def run(bench):
    """Returns the exit status. The last line counts; script/test reads it."""
    results = [check(bench, what, function) for what, function in CHECKS.items()]
    passed, failed, skipped = (results.count(one) for one in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if failed == 0 else 1
