"""Webhooks: each message, or several at once, is an HTTP request to the same small service."""

from bench.contest import contest, those_installed
from bench.report import contest_table, times_less_goals
from bench.workload import Workload

TITLE = "Webhook: the gateway alone on one core, echoes from a service that is asked over HTTP"
TIMES_LESS_MIN = 20
WORKLOADS = [
    Workload(20, 1, 1),
    Workload(20, 1, 200),
    Workload(20, 16, 200),
    Workload(20, 1, 2000),
    Workload(1024, 1, 200),
    Workload(16384, 1, 200),
]
PUSHPIN_CONNECTIONS_MAX = 200  # at 2,000 a round of messages takes it several seconds


def contestants(bench, port, workload):
    servers = bench.contestants
    # Pushpin cuts what is larger than 16,384 bytes into frames.
    options = ("--stream",) if workload.size >= 16384 else ()
    makers = [("sluice", lambda: servers.webhook(port), *options)]
    if workload.connections <= PUSHPIN_CONNECTIONS_MAX:
        makers.append(("pushpin", lambda: servers.pushpin(port), *options))
    return those_installed(bench, *makers)


def runs(settings):
    return (len(WORKLOADS) * 2 - 1) * settings.rounds


def measure(bench):
    with bench.contestants.raw_events() as service:
        return [
            contest(bench, contestants(bench, service.port, workload), workload)
            for workload in WORKLOADS
        ]


def section(results):
    return contest_table(results, "sluice")


def goals(results):
    return times_less_goals(results, "webhook", "pushpin", TIMES_LESS_MIN)
