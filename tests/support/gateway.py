"""Starts the gateway under test and watches it: logs, metrics, end.

The same as gateway.mjs, for the tests that need what Node does not have: sockets with small
buffers, and Python's WebSocket libraries. Nothing here waits for a time to pass: it waits for log
lines, for answers, for numbers in /metrics, each with a deadline.
"""

import atexit
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

PRESET = os.environ.get("SLUICE_PRESET", "release")
BINARY = pathlib.Path(
    os.environ.get(
        "SLUICE_BINARY",
        pathlib.Path(__file__).resolve().parents[2] / "build" / PRESET / "sluice",
    )
)
assert BINARY.exists(), f"there is no gateway to test: {BINARY}"

SLOWNESS = {"dev": 2, "asan": 5, "tsan": 10}.get(PRESET, 1)
PATIENCE = 20 * SLOWNESS  # seconds

# A sanitizer's memory says nothing about the gateway's.
MEMORY_IS_OURS = PRESET not in ("asan", "tsan")

KIB, MIB = 1024, 1024 * 1024

_children = set()
_folders = set()


@atexit.register
def _clean_up():
    for child in _children:
        child.kill()
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_plugin(name):
    """The path of a plugin that only the tests have; an error if it was not built."""
    file = BINARY.parent / "test-plugins" / f"{name}.so"
    assert file.exists(), f"{file} is missing: configure with SLUICE_TESTS=ON"
    return str(file)


test_plugin.__test__ = False


def temporary_folder():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-"))
    _folders.add(folder)
    return folder


def make_certificate(folder, name="localhost"):
    """A certificate that signs itself, for this name and 127.0.0.1."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "2", "-keyout", key, "-out", cert, "-subj", f"/CN={name}"]
        + ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    return str(cert), str(key)


def until(question, what, seconds=PATIENCE):
    """For what no event tells of: asks until the answer is true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Metrics:
    """The samples of one scrape."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            match = re.match(r"^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$", line)
            if match:
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
                self.samples.append((match[1], labels, float(match[3])))

    def get(self, name, **labels):
        """The sum over the samples with this name and these labels, whatever others they have."""
        return sum(
            value
            for sample, found, value in self.samples
            if sample == name and labels.items() <= found.items()
        )


def echo_config(**overrides):
    config = {
        "workers": 1,
        "listeners": [{"address": "127.0.0.1:0"}],
        "metrics": {"address": "127.0.0.1:0"},
        "plugins": {"echo": {"library": "echo.so"}},
        "routes": [{"path": "/echo", "plugin": "echo"}],
    }
    config.update(overrides)
    return config


class Gateway:
    """with Gateway(config) as gateway: ... ends it, and holds that it ends as it should."""

    def __init__(self, config=None, folder=None, shell=None):
        config = config or echo_config()
        self.folder = folder or temporary_folder()
        self.file = self.folder / "routes.yaml"
        self.file.write_text(json.dumps(config))
        self.logs = []
        self.expected_errors = set()  # names of events that may be logged as errors
        self._changed = threading.Condition()
        self._ended = False
        command = [str(BINARY), "run", "--config", str(self.file)]
        if shell:
            command = ["sh", "-c", shell, "sh"] + command
        self._stderr = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        _children.add(self.child)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        count = len(config["listeners"])
        self.wait_log(lambda _: len(self._addresses("listening")) == count)
        self.listeners = self._addresses("listening")
        self.wait_log(event="metrics")
        self.metrics_at = self._addresses("metrics")[0]
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.child.kill()
            self.child.wait()
            self.child.stdout.close()
            self._stderr.close()

    def _addresses(self, event):
        found = []
        for log in self.logs:
            if log["event"] == event:
                host, port = log["address"].rsplit(":", 1)
                found.append((host.strip("[]"), int(port)))
        return found

    def _read(self):
        for line in self.child.stdout:
            with self._changed:
                try:
                    self.logs.append(json.loads(line))
                except ValueError:
                    self.logs.append({"event": "not JSON", "level": "error", "line": line})
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def stderr(self):
        self._stderr.seek(0)
        return self._stderr.read()

    def wait_log(self, matches=None, **fields):
        """The first log record, past or to come, with these fields or that matches."""
        matches = matches or (lambda log: fields.items() <= log.items())
        deadline = time.monotonic() + PATIENCE
        seen = 0
        with self._changed:
            while True:
                for log in self.logs[seen:]:
                    if matches(log):
                        return log
                seen = len(self.logs)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f"no log record {fields}; stderr: {self.stderr}")
                self._changed.wait(left)

    def url(self, target="/echo", scheme="ws", listener=0):
        host, port = self.listeners[listener]
        return f"{scheme}://{host}:{port}{target}"

    def metrics(self):
        connection = http.client.HTTPConnection(*self.metrics_at, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        text = response.read().decode()
        connection.close()
        return Metrics(text)

    def wait_metrics(self, question, what="a number in /metrics"):
        """Scrapes until the question about the metrics is answered with true; scrapes once more,
        since what a scrape reads first may be older than what it reads last, and returns that."""
        until(lambda: question(self.metrics()), what)
        return self.metrics()

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * KIB

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        code = self.child.wait(PATIENCE)
        self._reader.join(PATIENCE)
        _children.discard(self.child)
        assert (code, self.stderr) == (0, ""), (code, self.stderr, self.logs[-3:])
        assert self.logs[-1]["event"] == "stopped", self.logs[-1]
        errors = [log for log in self.logs if log.get("level") == "error"]
        assert not [log for log in errors if log["event"] not in self.expected_errors], errors
        self.child.stdout.close()
        self._stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- A WebSocket client of bytes

CONTINUATION, TEXT, BINARY_FRAME, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode, payload=b"", fin=True):
    """A client's frame. Its masking key is zero, so that large payloads need no work."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + struct.pack(">H", size)
    else:
        head += b"\xff" + struct.pack(">Q", size)
    return head + b"\0\0\0\0" + payload


def close_frame(code, reason=""):
    return frame(CLOSE, struct.pack(">H", code) + reason.encode())


class RawClient:
    """A blocking socket after the opening handshake. It reads when it is told to, and never else."""

    def __init__(self, at, target="/echo", receive_buffer=None, tls=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(at)
        self.address = "%s:%d" % self.socket.getsockname()
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._received = bytearray()
        self._rest, self._pieces = b"", None
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            self._fill()
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._received = bytearray(rest)

    def push_on(self, rest, pieces):
        """From now on, reading sends too: `rest` first, then what the iterator gives."""
        self._rest, self._pieces = memoryview(rest), pieces

    def _push(self):
        """Sends without waiting; OpenSSL and Python have it that one thread does both."""
        self.socket.settimeout(0)
        try:
            while self._pieces is not None:
                if not self._rest:
                    self._rest = memoryview(next(self._pieces))
                self._rest = self._rest[self.socket.send(self._rest) :]
        except StopIteration:
            self._pieces = None
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        finally:
            self.socket.settimeout(PATIENCE)

    def _fill(self):
        self._push()
        piece = self.socket.recv(256 * KIB)
        if not piece:
            raise EOFError("the stream ended")
        self._received += piece

    def _take(self, size):
        while len(self._received) < size:
            self._fill()
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def send(self, opcode, payload=b""):
        if isinstance(payload, str):
            payload = payload.encode()
        self.socket.sendall(frame(opcode, payload))

    def read_frame(self):
        """(opcode, payload) of the next frame."""
        first, second = self._take(2)
        size = second
        if size == 126:
            (size,) = struct.unpack(">H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._take(8))
        return first & 15, self._take(size)

    def read_message(self):
        opcode, payload = self.read_frame()
        while opcode == PING:
            self.send(PONG, payload)
            opcode, payload = self.read_frame()
        return opcode, payload

    def read_until_close(self):
        """The payloads of the messages up to the Close frame, and (code, reason) of that."""
        messages = []
        while True:
            opcode, payload = self.read_message()
            if opcode == CLOSE:
                return messages, (struct.unpack(">H", payload[:2])[0], payload[2:].decode())
            messages.append(payload)

    def at_end(self):
        """Reads on to the end of the stream: True if nothing came any more."""
        return self.socket.recv(1) == b""

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def client_tls(cert):
    context = ssl.create_default_context(cafile=cert)
    return context


def serve_honest_client(gateway):
    """What every test may end with: somebody who does nothing wrong is served."""
    client = RawClient(gateway.listeners[0])
    client.send(TEXT, "honest")
    assert client.read_message() == (TEXT, b"honest")
    client.socket.sendall(close_frame(1000, "bye"))
    assert client.read_until_close() == ([], (1000, "bye"))
    client.close()


class GatewayTest(unittest.TestCase):
    maxDiff = None
