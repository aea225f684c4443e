"""Two workers beside one."""

from bench.machine import all_cores
from bench.report import at_least, table
from bench.statistics import costs_us, median, ratios, spread
from bench.workload import Workload

TITLE = "Two workers beside one: echoes"
WORKLOAD = Workload(20, 1, 200)
TIMES_MIN = 1.8
# Two for the workers, and as many for load generators, each of which costs as much as a worker.
CORES_NEEDED = 4


def runs(settings):
    return 2 * settings.rounds * (2 if enough_cores() else 1)


def enough_cores():
    return len(all_cores()) >= CORES_NEEDED


def measure(bench):
    """The servers may use the first two cores, the generators the last two."""
    allowed = all_cores()
    generators = allowed[-2:] if enough_cores() else allowed[-1:]
    by_workers = {"1": [], "2": []}
    with (
        bench.contestants.gateway(core=allowed[0]) as one,
        bench.contestants.gateway(core=allowed[:2], workers=2) as two,
    ):
        options = [*WORKLOAD.options, "--seconds", bench.settings.seconds]
        for number in range(1, bench.settings.rounds + 1):
            bench.progress.round(str(WORKLOAD), number, bench.settings.rounds)
            for name, server in (("1", one), ("2", two)):
                runs_of_all = bench.generator.run_together(generators, "echo", server, *options)
                by_workers[name].append(added_up(runs_of_all))
    return {"cores": len(allowed), "runs": by_workers}


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
            workers,
            spread(costs_us(runs_of_one), "{:.2f}".format),
            spread(rates(runs_of_one), "{:,.0f}".format),
        )
        for workers, runs_of_one in by_workers.items()
    ]
    lines = table(["workers", f"CPU-s a million, {WORKLOAD}", "a second"], rows)
    times = spread(ratios(by_workers["2"], by_workers["1"]), "{:.2f}".format)
    lines += ["", f"A message costs {times} times as much CPU time with two workers."]
    if results["cores"] < CORES_NEEDED:
        lines += [
            "",
            f"What two workers do in a second was not measured: that takes {CORES_NEEDED} cores,"
            f" half of them for load generators. Here were {results['cores']}, and the workers"
            " shared them with the generator.",
        ]
    return lines


def goals(results):
    if results["cores"] >= CORES_NEEDED:
        by_workers = results["runs"]
        times = median([b / a for a, b in zip(rates(by_workers["1"]), rates(by_workers["2"]))])
        yield at_least("two workers, messages a second, times one", times, TIMES_MIN)
