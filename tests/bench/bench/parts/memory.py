"""Memory of connections that have been used once and are silent since."""

import resource
import socket
import ssl

from bench import Failure, websocket
from bench.contest import those_installed
from bench.heap import HeapCounts, counting_environment, user_memory
from bench.report import at_most, table
from bench.servers import descriptors, wait_until_left

TITLE = "Memory of idle connections, beyond their sockets"
BYTES_MAX = 512
TLS_BYTES_MAX = 12 * 1024  # the goal; OpenSSL's part alone is more than that today
TLS_HEAP_MAX = 15 * 1024
TLS_CONNECTIONS = 2000
HEAP_CONNECTIONS = 2000


def runs(_):
    return 2


def use_once(bench, server, *options):
    """So that what is made only once is there, and those who used it have gone."""
    before = descriptors(server.pid)
    bench.generator.run("echo", server, "--connections", 10, "--messages", 10, *options)
    wait_until_left(server.pid, before)


def idle_memory(bench, connections):
    """Bytes for each of them. Each has had its echo, so none is busy."""
    with bench.contestants.gateway() as server:
        use_once(bench, server)
        before = user_memory(server.pid)
        with bench.generator.waiting("idle", server, "--connections", connections):
            return (user_memory(server.pid) - before) / connections


def idle_heap(bench, connections):
    """Heap blocks for each connection: their bytes, and how many there are of each size class."""
    path = bench.contestants.work / "heap"
    with bench.contestants.gateway(counting_environment(bench.contestants, path)) as server:
        use_once(bench, server)
        counts = HeapCounts(path)
        _, bytes_before, blocks_before = counts.read()
        with bench.generator.waiting("idle", server, "--connections", connections):
            _, bytes_after, blocks_after = counts.read()
    blocks = [(after - before) / connections for before, after in zip(blocks_before, blocks_after)]
    return (bytes_after - bytes_before) / connections, blocks


# ---- With TLS


def unverified():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


UNVERIFIED = unverified()  # one for all: connections must all be there before the first is pinged


def tls_echo(port):
    """A WebSocket over TLS on which one message was echoed."""
    client = UNVERIFIED.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    websocket.upgrade(client)
    websocket.echo_hi(client)
    return client


def growth_with_tls(server, connections, bytes_now):
    """Of what `bytes_now` tells, for each of them. Each has had its echo, so none is busy."""
    clients = [tls_echo(server.port) for _ in range(10)]
    before = bytes_now()
    clients += [tls_echo(server.port) for _ in range(connections)]
    each = (bytes_now() - before) / connections
    for client in clients:
        client.close()
    return each


def tls_idle_memory(bench, connections):
    with bench.contestants.tls_gateway() as server:
        return growth_with_tls(server, connections, lambda: user_memory(server.pid))


def tls_idle_heap(bench, connections):
    path = bench.contestants.work / "tls_heap"
    environment = counting_environment(bench.contestants, path)
    with bench.contestants.tls_gateway(environment) as server:
        return growth_with_tls(server, connections, lambda: HeapCounts(path).read()[1])


# ---- Others


def contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice, a plugin", servers.gateway),
        ("libwebsockets", servers.libwebsockets),
        ("raw epoll", servers.raw_epoll_echo, "--raw"),
        ("sluice, a relay", lambda: servers.relay(port)),
        ("nginx, a relay", lambda: servers.nginx(port)),
        ("haproxy, a relay", lambda: servers.haproxy(port)),
    )


def memory_of(bench, contestant, connections):
    with contestant.server as server:
        use_once(bench, server, *contestant.options)
        before = user_memory(server.pid)
        options = ["--connections", connections, *contestant.options]
        with bench.generator.waiting("idle", server, *options):
            return (user_memory(server.pid) - before) / connections


def memory_of_all(bench, connections):
    """Bytes for each connection, by contestant."""
    bytes_each = {}
    with bench.contestants.echo_upstream() as upstream:
        for contestant in contestants(bench, upstream.port):
            try:
                bytes_each[contestant.name] = memory_of(bench, contestant, connections)
            except Failure as failure:
                bench.progress.note(f"{contestant.name}: {failure}")
    return bytes_each


# ---- The part


def measure(bench):
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(bench.settings.idle, descriptors_max - 200)
    heap_connections = min(connections, HEAP_CONNECTIONS)
    heap_bytes, blocks = idle_heap(bench, heap_connections)
    return {
        "connections": connections,
        "bytes_each": idle_memory(bench, connections),
        "heap_connections": heap_connections,
        "heap_bytes_each": heap_bytes,
        "blocks_each": {
            index * HeapCounts.CLASS_BYTES: count
            for index, count in enumerate(blocks)
            if count >= 0.01
        },
        "tls_connections": TLS_CONNECTIONS,
        "tls_bytes_each": tls_idle_memory(bench, TLS_CONNECTIONS),
        "others_connections": heap_connections,
        "others_bytes_each": memory_of_all(bench, heap_connections),
    }


def section(results):
    lines = [
        f"- plain, {results['connections']:,} of them: {results['bytes_each']:,.0f} B each",
        f"- with TLS 1.3, {results['tls_connections']:,} of them:"
        f" {results['tls_bytes_each']:,.0f} B each",
        f"- plain, on the heap without malloc's headers, {results['heap_connections']:,} of them:"
        f" {results['heap_bytes_each']:,.0f} B each",
    ]
    for low, count in results["blocks_each"].items():
        high = int(low) + HeapCounts.CLASS_BYTES - 1
        lines.append(f"    - {count:.2f} blocks of {low} to {high} B")
    return [*lines, *others(results)]


def others(results):
    if "others_bytes_each" not in results:
        return []
    rows = [(name, f"{each:,.0f}") for name, each in results["others_bytes_each"].items()]
    return [
        "",
        f"Beside others, {results['others_connections']:,} plain connections each. Of a relay each is"
        " two, one to the client and one to the upstream.",
        "",
        *table(["", "user B each"], rows),
    ]


def goals(results):
    yield at_most("an idle connection, bytes", results["bytes_each"], BYTES_MAX, "{:,.0f}")
    yield at_most(
        "an idle connection with TLS, bytes", results["tls_bytes_each"], TLS_BYTES_MAX, "{:,.0f}"
    )
