"""One end of a WebSocket, written from RFC 6455 and RFC 7692 and nothing of the gateway's.

It sends whatever it is told to, and takes nothing that a rule forbids: each frame that comes is
held against the RFC, and what is wrong raises Unfit.
"""

import base64
import collections
import hashlib
import os
import socket
import struct
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong"}
RSV1, RSV2, RSV3 = 4, 2, 1

# How a stream ends: between two frames, with a reset, or within a frame.
END, RESET, CUT = ("end",), ("reset",), ("cut",)


class Unfit(AssertionError):
    """What came breaks a rule."""


class Cut(Exception):
    """The stream has ended within a frame."""


def must(rule, what):
    if not rule:
        raise Unfit(what)


# ---- Frames

# A frame to be sent. `size` is the payload length that its header announces, if that is not the
# payload's; `size_bytes` how many bytes of extended length say so, if not the fewest.
Frame = collections.namedtuple("Frame", "opcode payload fin rsv masked size size_bytes")
Frame.__new__.__defaults__ = (b"", True, 0, None, None, None)


def close_frame(code=None, reason=b""):
    return Frame(CLOSE, (b"" if code is None else struct.pack(">H", code)) + reason)


def apply_mask(payload, key):
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    both = int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")
    return both.to_bytes(size, "little")


def length_of(size, size_bytes):
    """The seven bits of the payload length and the extended length (RFC 6455 5.2)."""
    if size_bytes is None:
        size_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    if size_bytes == 0:
        return size, b""
    return (126, struct.pack(">H", size)) if size_bytes == 2 else (127, struct.pack(">Q", size))


def encode(frame, masked):
    """The frame's bytes, masked unless the frame itself says something else."""
    if frame.masked is not None:
        masked = frame.masked
    size = len(frame.payload) if frame.size is None else frame.size
    code, extended = length_of(size, frame.size_bytes)
    first = (0x80 if frame.fin else 0) | frame.rsv << 4 | frame.opcode
    head = bytes([first, (0x80 if masked else 0) | code]) + extended
    if not masked:
        return head + frame.payload
    key = os.urandom(4)
    return head + key + apply_mask(frame.payload, key)


def fragments(opcode, payload, size, rsv=0):
    """The message in frames of `size` bytes, the last with what is left."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    return [
        Frame(opcode if i == 0 else CONTINUATION, piece, i == len(pieces) - 1, rsv if i == 0 else 0)
        for i, piece in enumerate(pieces)
    ]


# ---- permessage-deflate

Direction = collections.namedtuple("Direction", "takeover bits")
FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
WINDOWS = ("server_max_window_bits", "client_max_window_bits")


def read_parameters(element):
    """The parameters of one element of Sec-WebSocket-Extensions: name to value, or to None."""
    name, *parameters = [part.strip() for part in element.split(";")]
    must(name == "permessage-deflate", f"the extension {name!r}")
    read = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        must(key in FLAGS + WINDOWS, f"the parameter {key!r}")
        must(key not in read, f"{key} twice")
        read[key] = value or None
        must(key not in FLAGS or value == "", f"{key} with a value")
        if key in WINDOWS and value:
            must(value in map(str, range(8, 16)), f"{parameter}")
    return read


def check_answer(answer, offer):
    """RFC 7692 7.1.1, 7.1.2: whether a server may give this answer to that offer."""
    for name in WINDOWS:
        must(name not in answer or answer[name] is not None, f"{name} without a value")
    if "server_no_context_takeover" in offer:
        must("server_no_context_takeover" in answer, "server_no_context_takeover is not granted")
    if "server_max_window_bits" in offer:
        granted = answer.get("server_max_window_bits")
        must(granted is not None, "server_max_window_bits is not granted")
        must(int(granted) <= int(offer["server_max_window_bits"]), f"a window of {granted} bits")
    if "client_max_window_bits" in answer:
        must("client_max_window_bits" in offer, "client_max_window_bits was not offered")
        most = int(offer["client_max_window_bits"] or 15)
        must(int(answer["client_max_window_bits"]) <= most, "a larger window than was offered")


def directions(answer):
    """What the answer says about what the client sends, and about what the server sends."""
    return tuple(
        Direction(
            f"{who}_no_context_takeover" not in answer,
            int(answer.get(f"{who}_max_window_bits") or 15),
        )
        for who in ("client", "server")
    )


class Deflate:
    """Both directions of one end."""

    tail = b"\x00\x00\xff\xff"

    def __init__(self, sends, receives):
        self.sends, self.receives = sends, receives
        self._deflater = self._inflater = None

    def compress(self, payload, level=6):
        if self._deflater is None or not self.sends.takeover:
            # zlib has no raw window of 8 bits; with one of 9 it refers back 250 bytes at most.
            self._deflater = zlib.compressobj(level, zlib.DEFLATED, -max(self.sends.bits, 9))
        deflated = self._deflater.compress(payload) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        # RFC 7692 7.2.3.6: what an empty message is, if there is nothing to flush.
        return deflated[:-4] or b"\x00"

    def inflate(self, payload):
        if self._inflater is None or not self.receives.takeover:
            self._inflater = zlib.decompressobj(-self.receives.bits)
        try:
            inflated = self._inflater.decompress(payload + self.tail)
        except zlib.error as error:
            raise Unfit(f"it does not inflate: {error}") from error
        must(not self._inflater.eof, "a final block")
        return inflated


# ---- The peer


def accept_of(key):
    magic = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key.encode() + magic).digest()).decode()


class Peer:
    """A blocking socket. It reads when it is told to."""

    def __init__(self, stream, patience):
        stream.settimeout(patience)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = stream
        self.is_client = True
        self.deflate = None
        self.compressed_messages = 0  # that came
        self.frames_of_message = 0  # of the last message that came
        self._message = None  # [opcode, compressed, pieces], without its last fragment
        self._key = None  # of the last frame that came masked
        self._received = bytearray()
        self._offset = 0

    # The opening handshake, whose own rules other tests look at.

    def send_request(self, target, extensions=None):
        self.key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {target} HTTP/1.1",
            "Host: localhost",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {self.key}",
        ]
        self._send_head(lines, extensions)

    def _send_head(self, lines, extensions):
        lines = lines + ["Upgrade: websocket", "Connection: Upgrade"]
        if extensions:
            lines.append(f"Sec-WebSocket-Extensions: {extensions}")
        self.socket.sendall("\r\n".join(lines + ["", ""]).encode())

    def read_response(self, offers=None):
        """`offers`: what was sent as Sec-WebSocket-Extensions."""
        first, fields = self.read_head()
        must(first.startswith("HTTP/1.1 101 "), first)
        must(fields.get("sec-websocket-accept") == accept_of(self.key), "Sec-WebSocket-Accept")
        self.extensions = fields.get("sec-websocket-extensions")
        if self.extensions is not None:
            must(offers, "an extension that nobody offered")
            sends, receives = directions(self._fitting(self.extensions, offers))
            self.deflate = Deflate(sends, receives)
        return self

    @staticmethod
    def _fitting(extensions, offers):
        """The answer, which fits one of the offers that are valid."""
        answer = read_parameters(extensions)
        problem = None
        for offer in offers.split(","):
            try:
                check_answer(answer, read_parameters(offer))
                return answer
            except Unfit as error:
                problem = problem or error
        raise problem

    def read_head(self):
        while b"\r\n\r\n" not in self._received:
            must(self._fill() is None, "the stream ended within the opening handshake")
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        first, *lines = head.decode().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return first, {name.lower(): value.strip() for name, _, value in pairs}

    def answer_request(self, extensions=None):
        """As a server. `extensions`: a function from the offer to the answer and its parameters."""
        self.is_client = False
        first, fields = self.read_head()
        must(first.startswith("GET "), first)
        answer = extensions and extensions(fields.get("sec-websocket-extensions"))
        if answer:
            receives, sends = directions(read_parameters(answer))
            self.deflate = Deflate(sends, receives)
        accept = accept_of(fields["sec-websocket-key"])
        lines = ["HTTP/1.1 101 Switching Protocols", f"Sec-WebSocket-Accept: {accept}"]
        self._send_head(lines, answer)
        return self

    # Sending

    def encode(self, frames):
        return b"".join(encode(frame, self.is_client) for frame in frames)

    def send(self, *frames, chop=None):
        """chop: "frames" for a write each, or a number of bytes for each write."""
        if chop == "frames":
            for frame in frames:
                self.write(self.encode([frame]))
        else:
            self.write(self.encode(frames), chop)

    def write(self, data, size=None):
        try:
            for at in range(0, len(data), size or max(len(data), 1)):
                self.socket.sendall(data[at : at + size] if size else data)
                if size:
                    os.sched_yield()  # or the other end reads several writes as one
        except (BrokenPipeError, ConnectionResetError):
            pass  # what was read, or not, tells

    def send_compressed(self, opcode, payload, fragment_size=None, **options):
        deflated = self.deflate.compress(payload)
        size = fragment_size or max(len(deflated), 1)
        self.send(*fragments(opcode, deflated, size, RSV1), **options)

    # Receiving

    def _fill(self):
        """Nothing, or how the stream has ended."""
        try:
            piece = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return RESET
        if not piece:
            return END
        self._received += piece
        return None

    def _take(self, size):
        while len(self._received) - self._offset < size:
            ended = self._fill()
            must(ended != RESET, "a reset within a frame")
            if ended:
                raise Cut
        taken = bytes(self._received[self._offset : self._offset + size])
        self._offset += size
        if self._offset == len(self._received) or self._offset > 1 << 20:
            del self._received[: self._offset]
            self._offset = 0
        return taken

    def _read_frame(self):
        first, second = self._take(2)
        opcode, fin, rsv, size = first & 15, first >> 7 == 1, first >> 4 & 7, second & 127
        must(rsv in (0, RSV1) and (rsv == 0 or self.deflate), f"reserved bits {rsv}")
        must(opcode in (0, 1, 2, 8, 9, 10), f"the opcode {opcode}")
        must((second >> 7 == 1) != self.is_client, f"masked: {second >> 7}")
        if opcode >= 8:
            must(fin and rsv == 0 and size <= 125, f"a control frame {first:x} {second:x}")
        if size == 126:
            (size,) = struct.unpack(">H", self._take(2))
            must(size > 125, f"{size} in 16 bits")
        elif size == 127:
            (size,) = struct.unpack(">Q", self._take(8))
            must(65535 < size < 1 << 63, f"{size} in 64 bits")
        if self.is_client:
            return opcode, fin, rsv, self._take(size)
        # RFC 6455 5.3, 10.3: a fresh one for each frame, that nobody can foresee.
        last, self._key = self._key, self._take(4)
        must(self._key != last, "the masking key of the frame before")
        return opcode, fin, rsv, apply_mask(self._take(size), self._key)

    def event(self):
        """("text" or "binary", payload), ("ping" or "pong", payload), ("close", code, reason) with
        None for no code, END, RESET or CUT. Control frames between fragments come first."""
        try:
            while True:
                ended = self._fill() if self._offset == len(self._received) else None
                event = ended or self._frame_event(*self._read_frame())
                if event:
                    return event
        except Cut:
            return CUT

    def _frame_event(self, opcode, fin, rsv, payload):
        """Nothing for a fragment that is not the last."""
        if opcode == CLOSE:
            return self._close_event(payload)
        if opcode >= 8:
            return NAMES[opcode], payload
        must((opcode == CONTINUATION) == (self._message is not None), "fragments in disorder")
        must(rsv == 0 or opcode != CONTINUATION, "RSV1 on a continuation")
        if self._message is None:
            self._message = [opcode, rsv != 0, []]
        self._message[2].append(payload)
        return self._message_event() if fin else None

    def _message_event(self):
        opcode, compressed, pieces = self._message
        self._message = None
        self.frames_of_message = len(pieces)
        payload = b"".join(pieces)
        if compressed:
            self.compressed_messages += 1
            payload = self.deflate.inflate(payload)
        if opcode == TEXT:
            self._check_text(payload)
        return NAMES[opcode], payload

    @staticmethod
    def _check_text(payload):
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise Unfit(f"text that is no UTF-8: {error}") from error

    def _close_event(self, payload):
        if not payload:
            return "close", None, b""
        must(len(payload) > 1, "a Close frame of one byte")
        (code,) = struct.unpack(">H", payload[:2])
        allowed = code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code <= 4999
        must(allowed, f"the close code {code}")
        self._check_text(payload[2:])
        return "close", code, payload[2:]

    def events(self, count):
        return [self.event() for _ in range(count)]

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def is_quiet(self, seconds):
        """Nothing comes for so long, neither bytes nor an end."""
        patience = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self._fill()
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(patience)

    def close(self):
        self.socket.close()
