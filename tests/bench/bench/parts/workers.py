"""Two workers beside one.

How many messages workers do in a second is only seen where a load generator does not keep as many
cores busy. With two cores that takes work of which the gateway has nearly all.
"""

from bench.machine import all_cores
from bench.report import at_least, at_most, table
from bench.statistics import costs_us, median, ratios, spread
from bench.workload import Workload

TITLE = "Two workers beside one: echoes"
WORKLOAD = Workload(20, 1, 200)
# JSON that the gateway compresses at level 9. The generator has compressed it once, and inflates.
LABORIOUS = Workload(256 * 1024, 1, 50)
HARD = f"{LABORIOUS}, compressed at level 9 (nearly all of it is zlib)"
TIMES_MIN = 1.8
# Where two workers have a core each and no message costs more than this times as much, they do
# TIMES_MIN times as many.
CPU_TIMES_MAX = 1.11
LIMIT = "raw epoll"
# Two for the workers, and as many for load generators, each of which costs as much as a worker.
CORES_NEEDED = 4


def runs(settings):
    return 2 * settings.rounds * (5 if enough_cores() else 3)


def enough_cores():
    return len(all_cores()) >= CORES_NEEDED


def measure(bench):
    """The servers may use the first two cores, the generators the last two."""
    allowed = all_cores()
    generators = allowed[-2:] if enough_cores() else allowed[-1:]
    seconds = ["--seconds", bench.settings.seconds]
    light = [*WORKLOAD.options, *seconds]
    laborious = [*LABORIOUS.options, *seconds, "--path", "/laborious", "--deflate"]
    kinds = ("runs", "limit", "laborious")
    results = {"cores": len(allowed), **{kind: {"1": [], "2": []} for kind in kinds}}

    def take(kind, workers, *run):
        results[kind][workers].append(added_up(bench.generator.run_together(*run)))

    servers = bench.contestants
    with (
        servers.gateway(core=allowed[0]) as one,
        servers.gateway(core=allowed[:2], workers=2) as two,
        servers.raw_epoll_echo(core=allowed[0]) as raw_one,
        servers.raw_epoll_echo(core=allowed[:2], threads=2) as raw_two,
    ):
        for number in range(1, bench.settings.rounds + 1):
            bench.progress.round(f"{WORKLOAD}, {LABORIOUS}", number, bench.settings.rounds)
            for workers, server, raw in (("1", one, raw_one), ("2", two, raw_two)):
                take("runs", workers, generators, "echo", server, *light)
                take("limit", workers, generators, "echo", raw, *light, "--raw")
                take("laborious", workers, generators[:1], "echo", server, *laborious)
    return results


def added_up(runs_of_all):
    """Of generators at the same time: each has seen the CPU time of the whole server."""
    return {
        "messages": sum(run["messages"] for run in runs_of_all),
        "seconds": median([run["seconds"] for run in runs_of_all]),
        "server_cpu_seconds": median([run["server_cpu_seconds"] for run in runs_of_all]),
    }


def rates(runs_of_one):
    return [run["messages"] / run["seconds"] for run in runs_of_one]


def section(results):
    by_workers = results["runs"]
    rows = [
        (
            what,
            workers,
            spread(costs_us(runs_of_one), "{:.2f}".format),
            spread(rates(runs_of_one), "{:,.0f}".format),
        )
        for what, runs in (
            (str(WORKLOAD), by_workers),
            (f"{WORKLOAD}, {LIMIT}", results["limit"]),
            (HARD, results["laborious"]),
        )
        for workers, runs_of_one in runs.items()
    ]
    lines = table(["", "workers", "CPU-s a million", "a second"], rows)
    times = spread(ratios(by_workers["2"], by_workers["1"]), "{:.2f}".format)
    of_limit = spread(ratios(results["limit"]["2"], results["limit"]["1"]), "{:.2f}".format)
    lines += [
        "",
        f"A small message costs {times} times as much CPU time with two workers. With two threads of"
        f" {LIMIT}, which share nothing, it costs {of_limit} times as much as with one.",
    ]
    if results["cores"] < CORES_NEEDED:
        lines += [
            "",
            f"How many small messages they do in a second was not measured: that takes"
            f" {CORES_NEEDED} cores, half of them for load generators. Here were"
            f" {results['cores']}, and the workers shared them with the generator.",
        ]
    return lines


def goals(results):
    by_workers = results["runs"]
    cost = ratios(by_workers["2"], by_workers["1"])
    goal = at_most(f"two workers, {WORKLOAD}, CPU time a message, times one", cost, CPU_TIMES_MAX)
    of_limit = median(ratios(results["limit"]["2"], results["limit"]["1"]))
    yield goal._replace(value=f"{goal.value}; {LIMIT} {of_limit:.2f}")
    kinds = {HARD: results["laborious"]}
    if results["cores"] >= CORES_NEEDED:
        kinds[str(WORKLOAD)] = results["runs"]
    for what, runs in kinds.items():
        times = [b / a for a, b in zip(rates(runs["1"]), rates(runs["2"]))]
        yield at_least(f"two workers, {what}, a second, times one", times, TIMES_MIN)
