"""Connections that are kept and pinged: memory of the gateway and of the kernel, and CPU time."""

import contextlib
import math
import pathlib
import re
import resource
import select
import time

from bench import Failure
from bench.generator import answer_of, go_on, tell, wait_until_ready
from bench.heap import user_memory
from bench.machine import all_cores
from bench.report import at_least, at_most, table
from bench.servers import free_port

TITLE = "Idle connections that are pinged"
PING_INTERVAL_S = 30  # the gateway's default
# A million would be pinged while the rest still opens; both at once are more than two cores can do.
MANY_PING_INTERVAL_S = 60
EACH_PROCESS = 18_200  # of the 20,000 descriptors that it may have; the kernel spreads unevenly
TOTAL_MAX = 1_000_000
# What one takes of the machine, both ends and both processes, with a margin.
MACHINE_BYTES_EACH = 14 * 1024
MACHINE_BYTES_SPARE = 3 * 1024**3
LIMIT_SECONDS = 600
BYTES_MAX = 512


def runs(_):
    return 2


# ---- What the kernel tells


def meminfo():
    """Bytes by name."""
    text = pathlib.Path("/proc/meminfo").read_text()
    found = re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}


def sockets():
    """How many TCP sockets there are, and the bytes of their buffers."""
    text = pathlib.Path("/proc/net/sockstat").read_text()
    found = re.search(r"^TCP: inuse (\d+) .* mem (\d+)", text, re.MULTILINE)
    return int(found[1]), int(found[2]) * resource.getpagesize()


def kernel_memory():
    told = meminfo()
    return {
        "slab": told["Slab"],
        "unreclaimable_slab": told["SUnreclaim"],
        "socket_buffers": sockets()[1],
        "available": told["MemAvailable"],
    }


# ---- One process


def measure_cpu(bench, loads, interval):
    """Figures of one ping interval, added up over all generators."""
    seconds = interval + 1  # since the gateway's deadlines are coarse
    for load in loads:
        go_on(load)  # a measurement begins where the one before it ends
    bench.progress.tell(f"{seconds} s in which each connection is pinged")
    time.sleep(seconds)  # nothing to wait for: the time is what is measured
    for load in loads:
        tell(load)
    figures = [answer_of(load) for load in loads]
    return {
        "pings": sum(one["pings"] for one in figures),
        "seconds": max(one["seconds"] for one in figures),
        "server_cpu_seconds": sum(one["server_cpu_seconds"] for one in figures),
    }


def figures_of(connections, interval, before, after, servers_before, servers_after, cpu):
    kernel = {name: (after[name] - before[name]) / connections for name in before}
    kernel["available"] = -kernel["available"]
    return {
        "connections": connections,
        "ping_interval_seconds": interval,
        "user_bytes_each": (servers_after - servers_before) / connections,
        "kernel_bytes_each": kernel,
        **cpu,
    }


def in_one(bench, connections, interval):
    with bench.contestants.gateway_to_be_kept(f"{interval}s") as server:
        # Whatever is made once is there before the first of them.
        bench.generator.run("echo", server, "--connections", 10, "--messages", 10)
        before, own_before = kernel_memory(), user_memory(server.pid)
        with bench.generator.waiting("idle", server, "--connections", connections) as load:
            cpu = measure_cpu(bench, [load], interval)
            after, own_after = kernel_memory(), user_memory(server.pid)
            return figures_of(connections, interval, before, after, own_before, own_after, cpu)


# ---- Many processes on one port


def total_that_fits():
    available = meminfo()["MemAvailable"] - MACHINE_BYTES_SPARE
    return max(min(TOTAL_MAX, available // MACHINE_BYTES_EACH), 1000)


def start_gateways(bench, stack, count, interval):
    """All of them before the first client: the kernel spreads by what listens then."""
    port, allowed = free_port(), all_cores()
    servers = []
    for number in range(count):
        core = allowed[number % len(allowed)]
        server = bench.contestants.gateway_to_be_kept(f"{interval}s", core, port)
        servers.append(stack.enter_context(server))
    return servers


def start_generators(bench, stack, servers, connections):
    """One for each gateway, whose clock it reads; its clients may be with any of them."""
    allowed = all_cores()
    loads = []
    for number, server in enumerate(servers):
        core = allowed[(number + 1) % len(allowed)]
        share = (connections + number) // len(servers)  # their sum is what there shall be
        options = ["--connections", share, "--limit", LIMIT_SECONDS]
        # Addresses of its own. One has 28,000 ports, and from half of them on connect() takes long
        # to find one that is free.
        options += ["--source", f"127.1.{number}.1", "--sources", 2]
        loads.append(
            stack.enter_context(bench.generator.started("idle", server, *options, core=core))
        )
    return loads


def wait_for_all(bench, loads, connections):
    waiting = {load.stdout: load for load in loads}
    while waiting:
        readable, _, _ = select.select(list(waiting), [], [], 5)
        for output in readable:
            wait_until_ready(waiting.pop(output))
        there = sockets()[0] // 2
        bench.progress.tell(f"{there:,} of {connections:,} connections are open")


def in_many(bench, connections, interval, each=EACH_PROCESS):
    count = math.ceil(connections / each)
    with contextlib.ExitStack() as stack:
        before, started = kernel_memory(), time.monotonic()
        servers = start_gateways(bench, stack, count, interval)
        own_before = sum(user_memory(server.pid) for server in servers)
        stack.callback(lambda: [server.process.kill() for server in servers])
        loads = start_generators(bench, stack, servers, connections)
        wait_for_all(bench, loads, connections)
        opened = time.monotonic() - started
        cpu = measure_cpu(bench, loads, interval)
        after = kernel_memory()
        own_after = sum(user_memory(server.pid) for server in servers)
        if sockets()[0] < 2 * connections:
            raise Failure(f"of {connections} connections some have gone")
        figures = figures_of(connections, interval, before, after, own_before, own_after, cpu)
        return {**figures, "processes": count, "open_seconds": opened}


# ---- The part


def measure(bench):
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    one = in_one(bench, min(bench.settings.idle, descriptors_max - 200), PING_INTERVAL_S)
    bench.progress.ran()
    total = bench.settings.idle_connections or total_that_fits()
    many = in_many(bench, total, MANY_PING_INTERVAL_S)
    bench.progress.ran()
    return {"one": one, "many": many}


def row(results):
    kernel = results["kernel_bytes_each"]
    return (
        results.get("processes", 1),
        f"{results['connections']:,}",
        f"{results['user_bytes_each']:,.0f}",
        f"{kernel['slab']:,.0f}",
        f"{kernel['unreclaimable_slab']:,.0f}",
        results["ping_interval_seconds"],
        f"{results['server_cpu_seconds'] / results['seconds']:.1%}",
        f"{results['server_cpu_seconds'] * 1e6 / max(results['pings'], 1):.1f}",
    )


def section(results):
    head = ["gateways", "connections", "user B", "Slab B", "SUnreclaim B"]
    head += ["ping every, s", "CPU", "CPU µs a ping"]
    many = results["many"]
    return [
        *table(head, [row(results["one"]), row(many)]),
        "",
        "Bytes for each connection. *user*: of the gateway. *Slab* and, as a part of it, *SUnreclaim*"
        " of `/proc/meminfo` are for both ends, two sockets with their descriptors and places in"
        " epoll, since both are on this machine. What else the machine does is in them, too. Quiet sockets"
        " have no buffers. *CPU*: of one core, all gateways together, with the pings.",
        "",
        f"{many['connections']:,} connections were open, each with an echo, after"
        f" {many['open_seconds']:.0f} s, on one port of {many['processes']} gateways"
        " (`reuse_port`).",
    ]


def goals(results):
    for kind in ("one", "many"):
        connections, each = results[kind]["connections"], results[kind]["user_bytes_each"]
        what = f"an idle connection that is pinged, one of {connections:,}, bytes"
        yield at_most(what, each, BYTES_MAX, "{:,.0f}")
    yield at_least("idle connections at once", connections, TOTAL_MAX, "{:,}")
