#!/usr/bin/python3
"""What script/bench runs: measures the gateway against others in the same run.

    run.py BUILD_FOLDER [--smoke | --guard [--write]] [--rounds N] [--seconds S] [--idle N] [PART...]

Parts: echo, relay, tcp, compression, tls, memory, calls, handshakes; all of them unless some are
named. docs/benchmarks/README.md says what is measured and how.
"""

import argparse
import contextlib
import json
import mmap
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import guard

# (payload bytes, messages a batch, connections)
WORKLOADS = [
    (20, 16, 200),
    (20, 1, 200),
    (1024, 16, 200),
    (1024, 1, 200),
    (16384, 4, 200),
    (16384, 1, 100),
]
TARGET = (20, 16, 200)
TARGET_RATIO = 0.75
IDLE_BYTES_MAX = 512
TLS_IDLE_BYTES_MAX = 12 * 1024  # the goal; OpenSSL's part alone is more than that today
TLS_IDLE_HEAP_MAX = 15 * 1024
TLS_IDLE_CONNECTIONS = 2000

CONFIG = """\
workers: 1
listeners: [{ address: "127.0.0.1:0" }]
log: { access: false }
plugins: { echo: { library: echo.so } }
routes:
  - { path: /echo, plugin: echo }
  - { path: /shared, plugin: echo, compression: shared }
  - { path: /dedicated, plugin: echo, compression: dedicated }
"""
TLS_LISTENER = """\
listeners:
  - { address: "127.0.0.1:0", tls: { certificates: [{ cert: bench.crt, key: bench.key }] } }
"""

# The same for relays, whose connections cost two sockets each.
RELAY_WORKLOADS = [
    (20, 1, 100),
    (20, 16, 100),
    (1024, 1, 100),
    (1024, 16, 100),
    (16384, 1, 100),
]
# JSON of 1 KiB, and the CPU time that a message may cost at most.
COMPRESSION_WORKLOAD = (1024, 1, 50)
COMPRESSION_US_MAX = {"shared": 20, "dedicated": 16}
TLS_WORKLOADS = [(1024, 1, 100), (1024, 16, 100), (16384, 1, 100)]
TLS_TARGET = (1024, 1, 100)
TLS_RATIO_MAX = 2.3
HANDSHAKE_US_MAX = 45
# websockify has a process for each connection.
TCP_WORKLOADS = [(20, 1, 8), (1024, 1, 8), (16384, 4, 8)]

RELAY_CONFIG = """\
workers: 1
listeners: [{{ address: "127.0.0.1:0" }}]
log: {{ access: false }}
routes:
  - {{ path: /echo, http: {{ upstream: "127.0.0.1:{port}" }} }}
  - {{ path: /raw, tcp: {{ upstream: "127.0.0.1:{port}" }} }}
"""

NGINX_CONFIG = """\
daemon off; master_process off; worker_processes 1; pid {work}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  server {{
    listen 127.0.0.1:{listen};
    location / {{
      proxy_pass http://127.0.0.1:{port};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      {tuning}
    }}
  }}
}}
"""

HAPROXY_CONFIG = """\
global
  nbthread 1
  maxconn 4096
  {tuning}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:{listen}
  default_backend service
backend service
  server one 127.0.0.1:{port}
"""

START_SECONDS = 10
RUN_SECONDS_MAX = 120


class Failure(Exception):
    """Something did not run, or a figure makes no sense."""


class Skip(Exception):
    """This machine has not what it takes."""


# ---- Processes


def cores():
    """The server's core and the generator's: two different ones, if there are two."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pin_to(core):
    return lambda: os.sched_setaffinity(0, {core})


class Server:
    """A server that tells on stdout where it listens. Ends with the `with` block."""

    forks = False

    def __init__(self, command, environment=None, core=None):
        self.command = [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.core = cores()[0] if core is None else core

    def __enter__(self):
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            preexec_fn=pin_to(self.core),
        )
        self.pid = self.process.pid
        try:
            self.port = self.wait_for_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_port(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            self.output.seek(0)
            found = re.search(r"listening.*127\.0\.0\.1:(\d+)", self.output.read())
            if found:
                return int(found[1])
            time.sleep(0.02)
        self.output.seek(0)
        raise Failure(f"{self.command[0]} does not listen:\n{self.output.read()}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer(Server):
    """Somebody else's server, which is told where to listen."""

    def __init__(self, command, listen, forks=False):
        super().__init__(command)
        self.listen = listen
        self.forks = forks

    def wait_for_port(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.listen)):
                return self.listen
            time.sleep(0.02)
        self.output.seek(0)
        raise Failure(f"{self.command[0]} does not listen:\n{self.output.read()}")


def installed(program):
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Skip(f"{program} is not installed (script/bootstrap --bench)")
    return found


class Bench:
    """The programs of one build folder."""

    def __init__(self, folder, work):
        self.folder = pathlib.Path(folder)
        self.tools = self.folder / "tests" / "bench"
        self.work = pathlib.Path(work)
        self.config = self.work / "routes.yaml"
        self.config.write_text(CONFIG)

    def gateway(self, environment=None):
        return Server([self.folder / "sluice", "run", "--config", self.config], environment)

    def tls_gateway(self, environment=None):
        """With a certificate of its own."""
        command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += " -subj /CN=localhost -keyout bench.key -out bench.crt"
        done = subprocess.run(
            [installed("openssl"), *command.split()], cwd=self.work, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise Failure(f"openssl: {done.stderr.strip()}")
        config = self.work / "tls.yaml"
        plain_listener = CONFIG.splitlines(keepends=True)[1]
        config.write_text(CONFIG.replace(plain_listener, TLS_LISTENER))
        return Server([self.folder / "sluice", "run", "--config", config], environment)

    def raw_echo(self, core=None):
        return Server([self.tools / "bench_raw_echo"], core=core)

    def echo_upstream(self):
        """A WebSocket server to stand behind proxies, on the core of the load generator."""
        return Server(
            [self.folder / "sluice", "run", "--config", self.config], core=cores()[1]
        )

    # The relays, each in front of a server on 127.0.0.1:port.
    def raw_relay(self, port):
        return Server([self.tools / "bench_raw_relay", port])

    def relay(self, port):
        config = self.work / f"relay-{port}.yaml"
        config.write_text(RELAY_CONFIG.format(port=port))
        return Server([self.folder / "sluice", "run", "--config", config])

    def nginx(self, port, tuning=""):
        program, listen = installed("nginx"), free_port()
        config = self.work / f"nginx-{listen}.conf"
        config.write_text(
            NGINX_CONFIG.format(work=self.work, listen=listen, port=port, tuning=tuning)
        )
        return Peer([program, "-p", self.work, "-c", config], listen)

    def haproxy(self, port, tuning=""):
        program, listen = installed("haproxy"), free_port()
        config = self.work / f"haproxy-{listen}.cfg"
        config.write_text(HAPROXY_CONFIG.format(listen=listen, port=port, tuning=tuning))
        return Peer([program, "-db", "-f", config], listen)

    def websockify(self, port):
        program, listen = installed("websockify"), free_port()
        return Peer([program, f"127.0.0.1:{listen}", f"127.0.0.1:{port}"], listen, forks=True)

    def load(self, mode, server, *options):
        """The command of the load generator."""
        command = [self.tools / "bench_load", mode, "--port", server.port]
        command += ["--server-pid", server.pid, "--limit", RUN_SECONDS_MAX, *options]
        command += ["--server-forks"] if server.forks else []
        return [str(word) for word in command]

    def run(self, mode, server, *options):
        """Runs the load generator to its end and returns its figures."""
        done = subprocess.run(
            self.load(mode, server, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=RUN_SECONDS_MAX + 10,
            preexec_fn=pin_to(cores()[1]),
        )
        if done.returncode != 0:
            raise Failure(f"{mode}: {done.stderr.strip() or done.returncode}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def waiting_load(self, mode, server, *options):
        """A load generator whose connections are open and which waits; yields it."""
        process = subprocess.Popen(
            self.load(mode, server, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=pin_to(cores()[1]),
        )
        try:
            if json.loads(process.stdout.readline() or "{}") != {"ready": True}:
                raise Failure(f"{mode}: the load generator gave up")
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def go_on(load):
    """Lets a waiting load generator run; returns its figures, its connections still open."""
    load.stdin.write("\n")
    load.stdin.flush()
    line = load.stdout.readline()
    if not line:
        raise Failure("the load generator gave up")
    return json.loads(line)


# ---- Messages per CPU-second


def name_of(workload):
    size, pipeline, connections = workload
    text = f"{size} B" if size < 1024 else f"{size // 1024} KiB"
    return f"{text} x {pipeline} x {connections}"


def cost_us(figures):
    """CPU time of the server for one message, or one handshake."""
    count = figures.get("messages", figures.get("handshakes"))
    if not count or figures["server_cpu_seconds"] <= 0:
        raise Failure(f"no sensible figures: {figures}")
    return figures["server_cpu_seconds"] * 1e6 / count


def spread(values, form):
    return f"{form(statistics.median(values))} ({form(min(values))}..{form(max(values))})"


def measure_echo(bench, workload, rounds, seconds):
    """Runs both servers by turns; returns the figures of each."""
    size, pipeline, connections = workload
    options = ["--size", size, "--pipeline", pipeline, "--connections", connections]
    options += ["--seconds", seconds]
    raw, gateway = [], []
    with bench.raw_echo() as raw_server, bench.gateway() as gateway_server:
        for _ in range(rounds):
            raw.append(bench.run("echo", raw_server, "--raw", *options))
            gateway.append(bench.run("echo", gateway_server, *options))
    return raw, gateway


def print_echo_row(server, figures, pipeline):
    costs = [cost_us(one) for one in figures]
    rate = statistics.median(one["messages"] / one["seconds"] for one in figures)
    busy = statistics.median(one["server_cpu_seconds"] / one["seconds"] for one in figures)
    latency = ""
    if pipeline == 1:
        p50 = statistics.median(one["latency_us_p50"] for one in figures)
        p99 = statistics.median(one["latency_us_p99"] for one in figures)
        latency = f"  {p50:6.0f} / {p99:.0f}"
    print(
        f"  {server:8} {1e6 / statistics.median(costs):12,.0f}"
        f"  {spread(costs, '{:.3f}'.format):26} {rate:12,.0f} {busy:6.0%}{latency}"
    )


def echo_part(bench, arguments):
    print("Echoes: payload x messages a batch x connections; one worker, on one core")
    for workload in WORKLOADS:
        raw, gateway = measure_echo(bench, workload, arguments.rounds, arguments.seconds)
        print(
            f"{name_of(workload)}\n  {'server':8} {'per CPU-s':>12}"
            f"  {'CPU us a message':26} {'per second':>12} {'busy':>6}"
            + ("  latency us p50 / p99" if workload[1] == 1 else "")
        )
        print_echo_row("libuv", raw, workload[1])
        print_echo_row("gateway", gateway, workload[1])
        ratios = [cost_us(a) / cost_us(b) for a, b in zip(raw, gateway)]
        verdict = ""
        if workload == TARGET:
            met = statistics.median(ratios) >= TARGET_RATIO
            verdict = f"   target {TARGET_RATIO}: {'met' if met else 'MISSED'}"
        print(f"  ratio    {spread(ratios, '{:.2f}'.format)}{verdict}", flush=True)


# ---- Relays beside those that people come from


def take_turns(bench, contestants, options, rounds, seconds):
    """Runs every server by turns (A B A B ...); the figures by name."""
    figures = {name: [] for name, *_ in contestants}
    for _ in range(rounds):
        for name, server, *extra in contestants:
            run = bench.run("echo", server, *options, "--seconds", seconds, *extra)
            figures[name].append(run)
    return figures


def measure_relays(bench, contestants, options, rounds, seconds):
    """The same for servers that are started for it, all of them in front of the same upstream."""
    with contextlib.ExitStack() as stack:
        running = [
            (name, stack.enter_context(server), *extra) for name, server, *extra in contestants
        ]
        return take_turns(bench, running, options, rounds, seconds)


def print_relays(figures, workload):
    print(
        f"{name_of(workload)}\n  {'':14} {'CPU-s a million':26} {'per second':>12} {'busy':>6}"
        f"  batch us p50 / p99   times ours"
    )
    ours = [cost_us(one) for one in next(iter(figures.values()))]
    for name, runs in figures.items():
        costs = [cost_us(one) for one in runs]
        rate = statistics.median(one["messages"] / one["seconds"] for one in runs)
        busy = statistics.median(one["server_cpu_seconds"] / one["seconds"] for one in runs)
        p50 = statistics.median(one["latency_us_p50"] for one in runs)
        p99 = statistics.median(one["latency_us_p99"] for one in runs)
        ratios = [theirs / own for theirs, own in zip(costs, ours)]
        print(
            f"  {name:14} {spread(costs, '{:.2f}'.format):26} {rate:12,.0f} {busy:6.0%}"
            f"  {p50:8.0f} / {p99:<8.0f}  {spread(ratios, '{:.2f}'.format)}",
            flush=True,
        )


def options_of(workload):
    size, pipeline, connections = workload
    return ["--size", size, "--pipeline", pipeline, "--connections", connections]


def relay_contestants(bench, port):
    contestants = [("sluice", bench.relay(port)), ("raw epoll", bench.raw_relay(port))]
    for name, make in (
        ("nginx", lambda: bench.nginx(port)),
        ("nginx 64k", lambda: bench.nginx(port, "proxy_buffer_size 64k; proxy_buffers 8 64k;")),
        ("haproxy", lambda: bench.haproxy(port)),
        ("haproxy 64k", lambda: bench.haproxy(port, "tune.bufsize 65536")),
    ):
        try:
            contestants.append((name, make()))
        except Skip as reason:
            print(f"  {name}: {reason}")
    return contestants


def relay_part(bench, arguments):
    print("WebSocket to WebSocket: the relay alone on one core; echoes from behind it")
    with bench.echo_upstream() as upstream:
        for workload in RELAY_WORKLOADS:
            contestants = relay_contestants(bench, upstream.port)
            figures = measure_relays(
                bench, contestants, options_of(workload), arguments.rounds, arguments.seconds
            )
            print_relays(figures, workload)


def tcp_part(bench, arguments):
    print("WebSocket to TCP: the relay alone on one core; echoes from behind it")
    with bench.raw_echo(core=cores()[1]) as upstream:
        for workload in TCP_WORKLOADS:
            contestants = [("sluice", bench.relay(upstream.port), "--path", "/raw")]
            try:
                contestants.append(("websockify", bench.websockify(upstream.port)))
            except Skip as reason:
                print(f"  websockify: {reason}")
            figures = measure_relays(
                bench,
                contestants,
                [*options_of(workload), "--stream"],
                arguments.rounds,
                arguments.seconds,
            )
            print_relays(figures, workload)


# ---- What compression and TLS cost


def compression_part(bench, arguments):
    size, _, _ = COMPRESSION_WORKLOAD
    print(f"permessage-deflate: echoes of {size} B of JSON, inflated and deflated")
    options = options_of(COMPRESSION_WORKLOAD)
    with bench.gateway() as server:
        contestants = [("off", server, "--path", "/echo")]
        for mode in COMPRESSION_US_MAX:
            contestants.append((mode, server, "--path", f"/{mode}", "--deflate"))
        figures = take_turns(bench, contestants, options, arguments.rounds, arguments.seconds)
    print_relays(figures, COMPRESSION_WORKLOAD)
    for mode, us_max in COMPRESSION_US_MAX.items():
        cost = statistics.median(cost_us(one) for one in figures[mode])
        print(f"  {mode}: target {us_max} CPU us: {'met' if cost <= us_max else 'MISSED'}")


def tls_part(bench, arguments):
    print("TLS: echoes beside the same without it, one worker on one core")
    for workload in TLS_WORKLOADS:
        with bench.gateway() as plain, bench.tls_gateway() as secure:
            contestants = [("plain", plain), ("tls", secure, "--tls")]
            figures = take_turns(
                bench, contestants, options_of(workload), arguments.rounds, arguments.seconds
            )
        print_relays(figures, workload)
        if workload == TLS_TARGET:
            pairs = zip(figures["tls"], figures["plain"])
            ratio = statistics.median(cost_us(a) / cost_us(b) for a, b in pairs)
            verdict = "met" if ratio <= TLS_RATIO_MAX else "MISSED"
            print(f"  {ratio:.2f} times plain   target {TLS_RATIO_MAX}: {verdict}")


# ---- Memory of idle connections


def user_memory(pid):
    """Bytes of memory that the process has made its own. Pages of programs and libraries are left
    out: whether they count as private depends on who else runs."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = re.findall(r"^(?:Anonymous|Swap): +(\d+) kB", text, re.MULTILINE)
    return sum(int(number) for number in kilobytes) * 1024


class HeapCounts:
    """What count_malloc.c counts, read from the file that it shares."""

    HEADER = struct.Struct("=QQQ")
    CLASS_BYTES = 16
    CLASSES = 4096

    def __init__(self, path):
        self.path = path

    def read(self):
        with open(self.path, "rb") as file:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as counts:
                allocations, _, live_bytes = self.HEADER.unpack_from(counts)
                blocks = struct.unpack_from(f"={self.CLASSES}Q", counts, self.HEADER.size)
        return allocations, live_bytes, blocks


def counting_environment(bench, path):
    library = bench.tools / "bench_count_malloc.so"
    path.unlink(missing_ok=True)
    return {"LD_PRELOAD": str(library), "SLUICE_MALLOC_COUNTS": str(path)}


def counting_gateway(bench, path):
    return bench.gateway(counting_environment(bench, path))


def idle_memory(bench, connections):
    """Bytes for each of many connections that have been used once and are silent since."""
    with bench.gateway() as server:
        bench.run("echo", server, "--connections", 10, "--messages", 10)
        time.sleep(0.3)
        before = user_memory(server.pid)
        with bench.waiting_load("idle", server, "--connections", connections):
            time.sleep(0.5)
            return (user_memory(server.pid) - before) / connections


UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASKED_HI = b"\x81\x82\0\0\0\0Hi"


def unverified():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


UNVERIFIED = unverified()  # one for all: connections must all be there before the first is pinged


def tls_echo(port):
    """A WebSocket over TLS on which one message was echoed."""
    client = UNVERIFIED.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    client.sendall(UPGRADE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(4096)
    client.sendall(MASKED_HI)
    if not answer.startswith(b"HTTP/1.1 101 ") or client.recv(4) != b"\x81\x02Hi":
        raise Failure(f"no echo over TLS: {answer}")
    return client


def tls_idle_memory(bench, connections):
    """The same as idle_memory() for connections with TLS. Each has had its echo, so none is busy."""
    with bench.tls_gateway() as server:
        clients = [tls_echo(server.port) for _ in range(10)]
        before = user_memory(server.pid)
        clients += [tls_echo(server.port) for _ in range(connections)]
        each = (user_memory(server.pid) - before) / connections
        for client in clients:
            client.close()
        return each


def tls_idle_heap(bench, connections):
    """Bytes of heap blocks for each."""
    path = bench.work / "tls_heap"
    with bench.tls_gateway(counting_environment(bench, path)) as server:
        clients = [tls_echo(server.port) for _ in range(10)]
        counts = HeapCounts(path)
        before = counts.read()[1]
        clients += [tls_echo(server.port) for _ in range(connections)]
        each = (counts.read()[1] - before) / connections
        for client in clients:
            client.close()
        return each


def idle_heap(bench, connections):
    """Heap blocks for each connection: their bytes, and how many there are of each size class."""
    path = bench.work / "heap"
    with counting_gateway(bench, path) as server:
        bench.run("echo", server, "--connections", 10, "--messages", 10)
        time.sleep(0.3)
        counts = HeapCounts(path)
        _, bytes_before, blocks_before = counts.read()
        with bench.waiting_load("idle", server, "--connections", connections):
            time.sleep(0.3)
            _, bytes_after, blocks_after = counts.read()
    blocks = [(after - before) / connections for before, after in zip(blocks_before, blocks_after)]
    return (bytes_after - bytes_before) / connections, blocks


def print_heap(connections, heap_bytes, blocks):
    print(f"  of it on the heap: {heap_bytes:.0f} B without malloc's headers ({connections} of them)")
    for index, count in enumerate(blocks):
        if count >= 0.01:
            low = index * HeapCounts.CLASS_BYTES
            print(f"    {count:5.2f} blocks of {low}..{low + HeapCounts.CLASS_BYTES - 1} B")


def memory_part(bench, arguments):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(arguments.idle, hard - 200)
    print(f"Memory of {connections} idle connections, beyond their sockets")
    each = idle_memory(bench, connections)
    met = each <= IDLE_BYTES_MAX
    print(f"  {each:.0f} B each   target {IDLE_BYTES_MAX}: {'met' if met else 'MISSED'}")
    some = min(connections, 2000)
    print_heap(some, *idle_heap(bench, some))
    each = tls_idle_memory(bench, TLS_IDLE_CONNECTIONS)
    met = "met" if each <= TLS_IDLE_BYTES_MAX else "MISSED"
    print(f"  with TLS: {each:.0f} B each   target {TLS_IDLE_BYTES_MAX}: {met}")
    sys.stdout.flush()


# ---- System calls and allocations


def allocations_per_message(bench, messages):
    path = bench.work / "allocations"
    with counting_gateway(bench, path) as server:
        counts = HeapCounts(path)
        with bench.waiting_load(
            "echo", server, "--wait", "--connections", 1, "--messages", messages
        ) as load:
            before = counts.read()[0]
            figures = go_on(load)
            return (counts.read()[0] - before) / figures["messages"]


def trace(pid, load, summary):
    """Counts the system calls of a process while a waiting load runs."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-o", summary, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if "attached" not in tracer.stderr.readline():
            raise Skip("strace may not attach to processes here")
        return go_on(load)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=10)
        tracer.stderr.close()


def calls_per_message(bench, messages):
    """System calls by name."""
    if shutil.which("strace") is None:
        raise Skip("strace is not installed")
    summary = bench.work / "strace"
    with bench.gateway() as server:
        with bench.waiting_load(
            "echo", server, "--wait", "--connections", 1, "--messages", messages
        ) as load:
            figures = trace(server.pid, load, summary)
    calls = {}
    for line in summary.read_text().splitlines():
        fields = line.split()
        # % time, seconds, usecs/call, calls, perhaps errors, name
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3]) / figures["messages"]
    return calls


READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")


def reads_and_writes(calls):
    return sum(calls.get(name, 0) for name in READS), sum(calls.get(name, 0) for name in WRITES)


def calls_part(bench, arguments):
    print("A 20-byte echo on one connection, one at a time, in steady state")
    messages = arguments.messages
    print(f"  heap allocations: {allocations_per_message(bench, messages):.5f} ({messages} messages)")
    try:
        calls = calls_per_message(bench, messages // 10)
    except Skip as reason:
        print(f"  system calls: not counted, {reason}")
        return
    listed = ", ".join(f"{name} {count:.3f}" for name, count in sorted(calls.items()))
    print(f"  system calls: {listed} ({messages // 10} messages)", flush=True)


# ---- Opening handshakes


def handshakes_part(bench, arguments):
    print("Connections opened, upgraded and closed with a closing handshake, 16 at a time")
    with bench.gateway() as server:
        figures = [
            bench.run("handshakes", server, "--connections", 16, "--seconds", arguments.seconds)
            for _ in range(arguments.rounds)
        ]
    costs = [cost_us(one) for one in figures]
    met = statistics.median(costs) <= HANDSHAKE_US_MAX
    print(f"  {1e6 / statistics.median(costs):,.0f} per CPU-second", end="")
    print(f"   {spread(costs, '{:.1f}'.format)} CPU us each", end="")
    print(f"   target {HANDSHAKE_US_MAX}: {'met' if met else 'MISSED'}", flush=True)


# ---- The smoke test


def smoke(bench):
    """Everything for a moment. Counts are judged, times are not."""
    results = {"passed": 0, "failed": 0, "skipped": 0}

    def check(what, function):
        try:
            good, told = function()
            result = "passed" if good else "failed"
        except Skip as reason:
            result, told = "skipped", reason
        except Exception as error:  # whatever it is, the others still run
            result, told = "failed", error
        results[result] += 1
        print(f"{result} {what}: {told}", flush=True)

    def echoes(workload):
        raw, gateway = measure_echo(bench, workload, 1, 0.3)
        ratio = cost_us(raw[0]) / cost_us(gateway[0])
        return 0.05 < ratio < 20, f"ratio {ratio:.2f} (not a measurement)"

    def relays():
        with bench.echo_upstream() as upstream:
            contestants = relay_contestants(bench, upstream.port)
            figures = measure_relays(bench, contestants, options_of((20, 1, 10)), 1, 0.3)
        return "sluice" in figures, f"{', '.join(figures)} (not a measurement)"

    def tcp():
        with bench.raw_echo(core=cores()[1]) as upstream, bench.relay(upstream.port) as relay:
            options = [*options_of((1024, 4, 4)), "--stream", "--path", "/raw", "--seconds", 0.3]
            figures = bench.run("echo", relay, *options)
        return figures["messages"] > 0, f"{figures['messages']} messages"

    def compressed():
        options = [*options_of((1024, 2, 4)), "--deflate", "--seconds", 0.3]
        with bench.gateway() as server:
            for mode in COMPRESSION_US_MAX:
                figures = bench.run("echo", server, *options, "--path", f"/{mode}")
        return figures["messages"] > 0, f"{figures['messages']} messages"

    def encrypted():
        with bench.tls_gateway() as server:
            options = [*options_of((1024, 2, 4)), "--tls", "--seconds", 0.3]
            figures = bench.run("echo", server, *options)
        return figures["messages"] > 0, f"{figures['messages']} messages"

    def memory():
        heap_bytes, _ = idle_heap(bench, 500)
        return 100 < heap_bytes <= IDLE_BYTES_MAX, f"{heap_bytes:.0f} B of heap each"

    def tls_memory():
        heap_bytes = tls_idle_heap(bench, 200)
        return 1000 < heap_bytes <= TLS_IDLE_HEAP_MAX, f"{heap_bytes:.0f} B of heap each"

    def allocations():
        each = allocations_per_message(bench, 10000)
        # A timer or a log line may take a block now and then; an echo may not.
        return each < 0.001, f"{each:.5f} a message"

    def calls():
        reads, writes = reads_and_writes(calls_per_message(bench, 2000))
        good = 0.99 < reads < 1.01 and 0.99 < writes < 1.01
        return good, f"{reads:.3f} reads, {writes:.3f} writes a message"

    def handshakes():
        figures = bench.run("handshakes", open_gateway, "--connections", 16, "--seconds", 0.3)
        return figures["handshakes"] >= 16, f"{figures['handshakes']} opened and closed"

    def instructions():
        if shutil.which("valgrind") is None:
            raise Skip("valgrind is not installed")
        grown = guard.run(bench.folder)
        return True, f"{grown} have grown"  # other compilers count otherwise: a warning at most

    for workload in WORKLOADS:
        check(f"echo {name_of(workload)}", lambda: echoes(workload))
    check("WebSocket relays", relays)
    check("a TCP relay", tcp)
    check("compressed echoes", compressed)
    check("echoes over TLS", encrypted)
    check(f"idle connections cost at most {IDLE_BYTES_MAX} B of heap", memory)
    check("idle connections with TLS cost at most 15 KiB of heap", tls_memory)
    check("an echo makes no heap allocation", allocations)
    check("an echo makes one read and one write", calls)
    with bench.gateway() as open_gateway:
        check("handshakes", handshakes)
    check("instructions of the hot operations", instructions)
    skipped = f", {results['skipped']} skipped" if results["skipped"] else ""
    print(f"{results['passed']} passed, {results['failed']} failed{skipped}")
    return 0 if results["failed"] == 0 else 1


# ---- All of it

PARTS = {
    "echo": echo_part,
    "relay": relay_part,
    "tcp": tcp_part,
    "compression": compression_part,
    "tls": tls_part,
    "memory": memory_part,
    "calls": calls_part,
    "handshakes": handshakes_part,
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="script/bench", description="Measures the gateway against others in the same run."
    )
    parser.add_argument("folder", help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="everything for a moment, as a test")
    parser.add_argument(
        "--guard", action="store_true", help="count the instructions of the hot operations"
    )
    parser.add_argument("--write", action="store_true", help="with --guard: keep these figures")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each server (default 7)")
    parser.add_argument("--seconds", type=float, default=2, help="length of a run (default 2)")
    parser.add_argument(
        "--idle", type=int, default=15000, help="idle connections (default 15000)"
    )
    parser.add_argument(
        "--messages", type=int, default=100000, help="messages of the part calls (default 100000)"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part: {unknown[0]} (there are {', '.join(PARTS)})")
    return arguments


def main():
    arguments = parse_arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(arguments.folder, work)
        if arguments.smoke:
            return smoke(bench)
        if arguments.guard:
            guard.run(bench.folder, arguments.write)
            return 0
        try:
            for part in arguments.parts or PARTS:
                PARTS[part](bench, arguments)
        except Failure as failure:
            print(f"script/bench: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
