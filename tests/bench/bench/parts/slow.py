"""Clients that do not read, beside others."""

from bench.generator import go_on
from bench.heap import user_memory
from bench.machine import Stolen
from bench.report import at_least, at_most, table
from bench.statistics import cost_us, costs_us, median_of, rate, spread

TITLE = "Slow readers: 180 connections alone, and beside 20 that send and never read"
READERS, SLOW = 180, 20
SIZE = 1024
RATE = 10_000  # messages a second, for latencies
WATERMARK = 256 * 1024  # buffers.high_watermark unless given
WITHIN = 0.05
KINDS = {"alone": (), "beside": ("--slow", SLOW)}


def runs(settings):
    return 4 * settings.rounds


def run(bench, *options):
    """Figures of the others, and the memory of the gateway while all connections are there."""
    with bench.contestants.gateway() as server:
        before, stolen = user_memory(server.pid), Stolen(server.core)
        with bench.generator.waiting("echo", server, "--wait", *options) as load:
            figures = go_on(load)
            figures["stolen"] = round(stolen.share(), 4)
            figures["memory_bytes"] = user_memory(server.pid) - before
    bench.progress.ran()
    return figures


def measure(bench, readers=READERS):
    results = {name: {"closed": [], "open": []} for name in KINDS}
    rounds = bench.settings.rounds
    for number in range(1, rounds + 1):
        bench.progress.round("with and without", number, rounds)
        for name, more in KINDS.items():
            options = ["--connections", readers, "--size", SIZE, *more]
            options += ["--seconds", bench.settings.seconds]
            results[name]["closed"].append(run(bench, *options))
            results[name]["open"].append(run(bench, *options, "--rate", RATE))
    return results


def growth(results):
    """Watermarks by which memory grew, the worst of all rounds."""
    pairs = zip(results["beside"]["closed"], results["alone"]["closed"])
    return max(a["memory_bytes"] - b["memory_bytes"] for a, b in pairs) / WATERMARK


def section(results):
    rows = []
    for name, kinds in results.items():
        closed, opened = kinds["closed"], kinds["open"]
        p99 = [one["p99_us"] for one in opened]
        rows.append(
            (
                name,
                spread([rate(one) for one in closed], "{:,.0f}".format),
                spread(costs_us(closed), "{:.2f}".format),
                f"{median_of(lambda one: one['p50_us'], opened):,.0f}",
                spread(p99, "{:,.0f}".format),
                f"{median_of(lambda one: one['memory_bytes'], closed) / 1024:,.0f}",
                max(one.get("slow_bytes_sent", 0) for one in closed),
            )
        )
    at_rate = f"{RATE:,} a second"
    head = ["", "messages a second", "CPU µs each", f"p50 µs at {at_rate}", "p99 µs"]
    head += ["memory KiB", "slow sent B"]
    return [
        *table(head, rows),
        "",
        "Of the others: how many messages, as fast as they can, and latencies at a fixed rate."
        " *memory*: by how much the gateway grew. *slow sent*: what it still took of the slow ones"
        " while the others were measured; they had filled every buffer before.",
    ]


def ratios(results, kind, figure):
    """Beside slow ones, times alone; each run with the one next to it."""
    pairs = zip(results["beside"][kind], results["alone"][kind])
    return [figure(a) / figure(b) for a, b in pairs]


def goals(results):
    others_rate = ratios(results, "closed", rate)
    yield at_least("slow readers, the others' rate, times alone", others_rate, 1 - WITHIN)
    cost = ratios(results, "closed", cost_us)
    yield at_most("slow readers, the others' CPU time a message, times alone", cost, 1 + WITHIN)
    p99 = ratios(results, "open", lambda one: one["p99_us"])
    yield at_most("slow readers, the others' p99, times alone", p99, 1 + WITHIN)
    yield at_most("slow readers, memory, watermarks", growth(results), SLOW, "{:.1f}")
