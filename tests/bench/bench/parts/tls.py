"""What TLS costs: echoes with it and without."""

from bench.contest import Contestant, contest
from bench.report import at_most, contest_table
from bench.statistics import median, ratios
from bench.workload import Workload

TITLE = "TLS 1.3: echoes beside the same without it, one worker on one core"
WORKLOADS = [Workload(1024, 1, 100), Workload(1024, 16, 100), Workload(16384, 1, 100)]
RATIO_MAX = {Workload(1024, 1, 100): 2.3}


def contestants(bench):
    return [
        Contestant("plain", bench.contestants.gateway()),
        Contestant("tls", bench.contestants.tls_gateway(), ("--tls",)),
    ]


def runs(settings):
    return len(WORKLOADS) * 2 * settings.rounds


def measure(bench):
    return [contest(bench, contestants(bench), workload) for workload in WORKLOADS]


def section(results):
    return contest_table(results, "plain")


def goals(results):
    for one in results:
        workload = Workload(one["size"], one["pipeline"], one["connections"])
        if workload in RATIO_MAX:
            ratio = median(ratios(one["runs"]["tls"], one["runs"]["plain"]))
            yield at_most(f"TLS {workload}, times plain", ratio, RATIO_MAX[workload])
