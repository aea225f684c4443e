"""The servers that are compared: ours, the least that is possible, and those that people use."""

import pathlib
import subprocess

from bench import Failure
from bench.machine import cores
from bench.servers import Peer, Server, free_port, installed

TEMPLATES = pathlib.Path(__file__).parent / "templates"


class Contestants:
    """The programs of one build folder, and those of Debian; `work` is for their configurations."""

    def __init__(self, folder, work):
        self.folder = pathlib.Path(folder)
        self.tools = self.folder / "tests" / "bench"
        self.work = pathlib.Path(work)

    def configuration(self, template, name=None, **values):
        """A template with its @names@ filled in. Without a name of its own there is one of each."""
        text = (TEMPLATES / template).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.work / (name or template)
        path.write_text(text)
        return path

    # ---- Ours

    def sluice(self, configuration, environment=None, core=None):
        command = [self.folder / "sluice", "run", "--config", configuration]
        return Server(command, environment, core)

    def gateway(self, environment=None):
        return self.sluice(self.configuration("gateway.yaml"), environment)

    def tls_gateway(self, environment=None):
        self.make_certificate()
        return self.sluice(self.configuration("gateway_tls.yaml"), environment)

    def relay(self, port):
        return self.sluice(self.configuration("relay.yaml", f"relay-{port}.yaml", port=port))

    def echo_upstream(self):
        """A WebSocket server to stand behind proxies, on the core of the load generator."""
        return self.sluice(self.configuration("gateway.yaml"), core=cores()[1])

    def make_certificate(self):
        """bench.crt and bench.key, with P-256."""
        command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += " -subj /CN=localhost -keyout bench.key -out bench.crt"
        done = subprocess.run(
            [installed("openssl"), *command.split()], cwd=self.work, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise Failure(f"openssl: {done.stderr.strip()}")

    # ---- The least that is possible

    def raw_echo(self, core=None):
        return Server([self.tools / "bench_raw_echo"], core=core)

    def raw_relay(self, port):
        return Server([self.tools / "bench_raw_relay", port])

    # ---- Proxies, each in front of a server on 127.0.0.1:port

    def nginx(self, port, tuning=""):
        program, listen = installed("nginx"), free_port()
        configuration = self.configuration(
            "nginx.conf",
            f"nginx-{listen}.conf",
            work=self.work,
            listen=listen,
            port=port,
            tuning=tuning,
        )
        return Peer([program, "-p", self.work, "-c", configuration], listen)

    def nginx_64k(self, port):
        return self.nginx(port, "proxy_buffer_size 64k; proxy_buffers 8 64k;")

    def haproxy(self, port, tuning="", tls=""):
        program, listen = installed("haproxy"), free_port()
        configuration = self.configuration(
            "haproxy.cfg", f"haproxy-{listen}.cfg", listen=listen, port=port, tuning=tuning, tls=tls
        )
        return Peer([program, "-db", "-f", configuration], listen)

    def haproxy_64k(self, port):
        return self.haproxy(port, "tune.bufsize 65536")

    def websockify(self, port):
        program, listen = installed("websockify"), free_port()
        return Peer([program, f"127.0.0.1:{listen}", f"127.0.0.1:{port}"], listen, forks=True)
