"""What TLS costs: echoes with it and without, and relays with it."""

from bench.contest import Contestant, contest, those_installed
from bench.report import contest_table, ratio_goals
from bench.workload import Workload

TITLE = "TLS 1.3, one worker on one core"
WORKLOADS = [
    Workload(20, 1, 200),
    Workload(1024, 1, 200),
    Workload(1024, 16, 200),
    Workload(16384, 1, 200),
]
RELAY_WORKLOADS = [Workload(1024, 1, 200)]
RATIO_MAX = {Workload(1024, 1, 200): 2.3}


def echo_contestants(bench):
    servers = bench.contestants
    ours = [
        Contestant("plain", servers.gateway()),
        Contestant("tls", servers.tls_gateway(), ("--tls",)),
    ]
    return ours + those_installed(bench, ("libwebsockets", servers.tls_libwebsockets, "--tls"))


def relay_contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", lambda: servers.tls_relay(port), "--tls"),
        ("nginx", lambda: servers.tls_nginx(port), "--tls"),
        ("haproxy", lambda: servers.tls_haproxy(port), "--tls"),
        ("haproxy 64k", lambda: servers.tls_haproxy_64k(port), "--tls"),
    )


def compared(workload):
    return ("plain", "tls") if workload in RATIO_MAX else ()


def runs(settings):
    echoes = len(WORKLOADS) * 3 + len(RATIO_MAX) * 2
    return (echoes + len(RELAY_WORKLOADS) * 4) * settings.rounds


def measure(bench):
    echoes = [
        contest(bench, echo_contestants(bench), workload, again=compared(workload))
        for workload in WORKLOADS
    ]
    with bench.contestants.echo_upstream() as upstream:
        relays = [
            contest(bench, relay_contestants(bench, upstream.port), workload)
            for workload in RELAY_WORKLOADS
        ]
    return {"echoes": echoes, "relays": relays}


def section(results):
    return [
        "Echoes, beside the same without TLS; *libwebsockets* with TLS:",
        "",
        *contest_table(results["echoes"], "plain"),
        "",
        "Relays, with TLS to the client and none to the upstream:",
        "",
        *contest_table(results["relays"], "haproxy"),
    ]


def goals(results):
    return ratio_goals(results["echoes"], "TLS", "plain", RATIO_MAX, ours="tls")
