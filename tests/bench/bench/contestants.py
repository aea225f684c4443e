"""The servers that are compared: ours, the least that is possible, and those that people use."""

import contextlib
import pathlib
import subprocess

from bench import Failure, Skip
from bench.machine import cores
from bench.servers import Peer, Pushpin, Server, free_port, installed

TEMPLATES = pathlib.Path(__file__).parent / "templates"
HAPROXY_64K = "tune.bufsize 65536"
TLS_LISTENER = ", tls: { certificates: [{ cert: bench.crt, key: bench.key }] }"
PROGRAMS = ("nginx", "haproxy", "caddy", "apache2", "websockify", "pushpin", "wrk")


def told_by(command):
    """The first line of its output; empty if it cannot be asked."""
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        return (done.stdout.splitlines() or [""])[0]
    return ""


def package_version(path):
    package = told_by(["dpkg-query", "-S", pathlib.Path(path).resolve()]).split(":")[0]
    return told_by(["dpkg-query", "-W", "-f", "${Package} ${Version}", package or path])


class Contestants:
    """The programs of one build folder, and those of Debian; `work` is for their configurations."""

    def __init__(self, folder, work):
        self.folder = pathlib.Path(folder)
        self.tools = self.folder / "tests" / "bench"
        self.work = pathlib.Path(work)
        files = self.work / "files"
        files.mkdir()
        (files / "index.html").write_text("x" * 1024)

    def configuration(self, template, name=None, **values):
        """A template with its @names@ filled in. Without a name of its own there is one of each."""
        text = (TEMPLATES / template).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.work / (name or template)
        path.write_text(text)
        return path

    def versions(self):
        """Of all contestants that are here. Debian's are asked for their packages."""
        versions = {"sluice": told_by(["git", "describe", "--always", "--dirty"])}
        for program in PROGRAMS:
            with contextlib.suppress(Skip):
                versions[program] = package_version(installed(program))
        for library in ("libuv1", "libssl3", "zlib1g", "libisal2", "libsimdjson14", "libwebsockets17",
                        "python3-websockets"):
            version = told_by(["dpkg-query", "-W", "-f", "${Package} ${Version}", library])
            versions[library] = version.removeprefix(f"{library} ")
        return {name: version for name, version in versions.items() if version}

    # ---- Sluice

    def sluice(self, configuration, environment=None, core=None):
        command = [self.folder / "sluice", "run", "--config", configuration]
        return Server(command, environment, core)

    def gateway(self, environment=None, core=None, tls="", workers=1):
        values = {"tls": tls, "workers": workers, "work": self.work}
        name = f"gateway-{workers}{'-tls' if tls else ''}.yaml"
        return self.sluice(self.configuration("gateway.yaml", name, **values), environment, core)

    def tls_gateway(self, environment=None):
        self.make_certificate()
        return self.gateway(environment, tls=TLS_LISTENER)

    def gateway_of_routes(self, routes):
        """With so many routes; the last is /route/<routes - 1>."""
        listed = "".join(f"  - {{ path: /route/{i}, plugin: echo }}\n" for i in range(routes))
        name = f"routes-{routes}.yaml"
        return self.sluice(self.configuration("routes.yaml", name, routes=listed))

    def gateway_to_be_kept(self, ping_interval, core=None, listen=0):
        """For connections that stay. Several may listen on the same port."""
        values = {"listen": listen, "ping_interval": ping_interval}
        configuration = self.configuration("idle.yaml", f"idle-{listen}.yaml", **values)
        return self.sluice(configuration, core=core)

    def echo_upstream(self):
        """A WebSocket server to stand behind proxies, on the core of the load generator."""
        return self.gateway(core=cores()[1])

    def make_certificate(self):
        """bench.crt and bench.key with P-256; bench.pem has both."""
        if (self.work / "bench.pem").exists():
            return
        command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += " -subj /CN=localhost -keyout bench.key -out bench.crt"
        done = subprocess.run(
            [installed("openssl"), *command.split()], cwd=self.work, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise Failure(f"openssl: {done.stderr.strip()}")
        both = [(self.work / name).read_text() for name in ("bench.crt", "bench.key")]
        (self.work / "bench.pem").write_text("".join(both))

    # ---- The least that is possible

    def raw_echo(self, core=None):
        return Server([self.tools / "bench_raw_echo"], core=core)

    def raw_epoll_echo(self, core=None, threads=1):
        return Server([self.tools / "bench_raw_epoll_echo", threads], core=core)

    def raw_events(self, *channel):
        """The service behind webhooks, on the core of the load generator. Subscribes to a channel
        whoever opens, if there is one."""
        return Server([self.tools / "bench_raw_events", *channel], core=cores()[1])

    def raw_relay(self, port):
        return Server([self.tools / "bench_raw_relay", port])

    # ---- A library of WebSocket servers

    def libwebsockets(self, *options):
        program, listen = self.tools / "bench_lws_echo", free_port()
        if not program.exists():
            raise Skip("libwebsockets was not there to build with (script/bootstrap --bench)")
        return Peer([program, listen, *options], listen)

    def libwebsockets_uv(self):
        """As it waits best where most connections are silent."""
        return self.libwebsockets("--uv")

    def tls_libwebsockets(self):
        self.make_certificate()
        return self.libwebsockets("--tls", self.work / "bench.crt", self.work / "bench.key")

    def deflating_libwebsockets(self):
        return self.libwebsockets("--deflate")

    # ---- Proxies, each in front of a server on 127.0.0.1:port

    def relay(self, port, tls=""):
        name = f"relay-{port}{'-tls' if tls else ''}.yaml"
        return self.sluice(self.configuration("relay.yaml", name, port=port, tls=tls))

    def tls_relay(self, port):
        self.make_certificate()
        return self.relay(port, TLS_LISTENER)

    def nginx(self, port, tuning="", tls=""):
        program, listen = installed("nginx"), free_port()
        configuration = self.configuration(
            "nginx.conf",
            f"nginx-{listen}.conf",
            work=self.work,
            listen=listen,
            port=port,
            tuning=tuning,
            ssl=" ssl" if tls else "",
            tls=tls,
        )
        return Peer([program, "-p", self.work, "-c", configuration], listen)

    def nginx_64k(self, port):
        return self.nginx(port, "proxy_buffer_size 64k; proxy_buffers 8 64k;")

    def tls_nginx(self, port):
        """Debian's nginx-light speaks TLS, but 1.3 only if it is told to."""
        self.make_certificate()
        certificate = f"ssl_certificate {self.work}/bench.crt;"
        certificate += f" ssl_certificate_key {self.work}/bench.key; ssl_protocols TLSv1.3;"
        return self.nginx(port, tls=certificate)

    def haproxy(self, port, tuning="", tls=""):
        program, listen = installed("haproxy"), free_port()
        configuration = self.configuration(
            "haproxy.cfg", f"haproxy-{listen}.cfg", listen=listen, port=port, tuning=tuning, tls=tls
        )
        return Peer([program, "-db", "-f", configuration], listen)

    def haproxy_64k(self, port):
        return self.haproxy(port, HAPROXY_64K)

    def tls_haproxy(self, port, tuning=""):
        self.make_certificate()
        return self.haproxy(port, tuning, f"ssl crt {self.work / 'bench.pem'}")

    def tls_haproxy_64k(self, port):
        return self.tls_haproxy(port, HAPROXY_64K)

    def caddy(self, port):
        program, listen = installed("caddy"), free_port()
        configuration = self.configuration(
            "Caddyfile", f"Caddyfile-{listen}", listen=listen, port=port
        )
        command = [program, "run", "--adapter", "caddyfile", "--config", configuration]
        return Peer(command, listen, {"XDG_DATA_HOME": self.work, "XDG_CONFIG_HOME": self.work})

    def apache(self, port):
        """One process (-X), so that its clock is the one to read."""
        program, listen = installed("apache2"), free_port()
        configuration = self.configuration(
            "apache.conf", f"apache-{listen}.conf", work=self.work, listen=listen, port=port
        )
        return Peer([program, "-X", "-f", configuration], listen)

    def websockify(self, port):
        program, listen = installed("websockify"), free_port()
        return Peer([program, f"127.0.0.1:{listen}", f"127.0.0.1:{port}"], listen, forks=True)

    # ---- Webhooks, each in front of a service on 127.0.0.1:port

    def webhook(self, port):
        return self.sluice(self.configuration("webhook.yaml", f"webhook-{port}.yaml", port=port))

    def publisher(self, port, admin, environment=None):
        """With routes to a service that subscribes, and publishing on the port `admin`."""
        values = {"port": port, "admin": admin}
        configuration = self.configuration("publish.yaml", f"publish-{admin}.yaml", **values)
        return self.sluice(configuration, environment)

    def pushpin(self, port):
        """Four processes, that talk over sockets in a folder of their own."""
        program, listen = installed("pushpin"), free_port()
        run = self.work / f"pushpin-{listen}"
        run.mkdir()
        (run / "routes").write_text(f"* 127.0.0.1:{port},over_http\n")
        configuration = self.configuration(
            "pushpin.conf", f"{run.name}/pushpin.conf", run=run, listen=listen, publish=free_port()
        )
        return Pushpin([program, "--config", configuration], listen, forks=True)
