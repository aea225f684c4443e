"""The gateway as a server, in front of an echo: the table of cases.py, large messages (9) and what
has to be seen in time."""

import fcntl
import socket
import struct
import termios
import unittest

from cases import TABLE, masks
from peer import BINARY, CONTINUATION, END, PING, TEXT, Frame, close_frame, fragments
from suite import KIB, MIB, NEVER_CUT, SLOWNESS, ConformanceTest, close_politely, make_tests, until


class ServerTest(ConformanceTest):
    @classmethod
    def config(cls):
        limits = {"max_message_size": "16MiB", "max_fragments": 100_000}
        buffers = {"limit": "64MiB"}
        return {"routes": [{"path": "/echo", "plugin": "echo", "limits": limits,
                            "buffers": buffers, "timeouts": NEVER_CUT}]}


@make_tests(TABLE + masks(False))
class Table(ServerTest):
    def run_case(self, case):
        peer = self.connect("/echo")
        peer.send(*case.frames, chop=case.chop)
        self.assertEqual(peer.events(len(case.answers)), case.answers)
        if case.close is None:
            return close_politely(self, peer)
        close = peer.event()
        self.assertEqual(close[0], "close", close)
        if case.fails:
            self.assertEqual(close[1], case.close, close)
            self.assertNotEqual(close[2], b"", "a reason says what was wrong")
            peer.send(close_frame(case.close))
        else:
            self.assertEqual(close[1:], case.close)
        self.assertEqual(peer.event(), END)


def unacknowledged_bytes(peer):
    """Of what was sent; 0 after a reset too (SIOCOUTQ, tcp(7))."""
    size = fcntl.ioctl(peer.socket, termios.TIOCOUTQ, struct.pack("i", 0))
    return struct.unpack("i", size)[0]


class Timing(ServerTest):
    def test_nothing_is_wrong_before_what_is_wrong_has_come(self):
        """6.4: text is failed at the first octet that cannot be right, and not before."""
        peer = self.connect("/echo")
        beginning = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4"
        whole = peer.encode([Frame(TEXT, beginning + b"\x90", size=100)])
        peer.write(whole[:-1])
        self.assertTrue(peer.is_quiet(0.1))
        peer.write(whole[-1:])
        self.assertEqual(peer.event()[:2], ("close", 1007))
        self.assertEqual(peer.event(), END)

    def test_a_ping_between_fragments_is_answered_at_once(self):
        """5.19, 5.20, with time between."""
        peer = self.connect("/echo")
        frames = fragments(TEXT, b"fragment1fragment2fragment3", 9)
        for frame in frames[:2]:
            peer.send(frame, Frame(PING, b"pongme"))
            self.assertEqual(peer.event(), ("pong", b"pongme"))
        peer.send(frames[2])
        self.assertEqual(peer.event(), ("text", b"fragment1fragment2fragment3"))
        close_politely(self, peer)

    def test_what_comes_behind_the_end_of_the_stream_is_no_reason_for_a_reset(self):
        """RFC 6455 7.1.1: the client gets to read our Close frame, whatever it still sends."""
        late = Frame(BINARY, bytes(64 * KIB))
        for closing in (Frame(3), close_frame(1000)):
            peer = self.connect("/echo")
            peer.send(closing)
            self.assertEqual(peer.event()[0], "close")
            # Raises if there was a reset.
            peer.socket.sendall(peer.encode([late] * 4))
            self.assertEqual(peer.event(), END)
            for _ in range(2):
                peer.socket.sendall(peer.encode([late]))
                until(lambda: unacknowledged_bytes(peer) == 0, "all of it has arrived, or was reset")
                self.assertEqual(peer.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)


# Sections 9.1 to 9.6 of one kind; the largest are left out where a sanitizer is slow.
LARGEST = 16 * MIB if SLOWNESS == 1 else 4 * MIB
SIZES = [size for size in (64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB) if size <= LARGEST]
FRAGMENTED = min(4 * MIB, LARGEST // 2)
CHOPPED = MIB if SLOWNESS == 1 else 128 * KIB


class Large(ServerTest):
    def echoes(self, opcode, payload, fragment_size=None, chop=None):
        peer = self.connect("/echo")
        peer.send(*fragments(opcode, payload, fragment_size or len(payload)), chop=chop)
        kind, echoed = peer.event()
        self.assertTrue((kind, echoed) == ("text" if opcode == TEXT else "binary", payload))
        close_politely(self, peer)

    def test_9_1_and_9_2_large_messages_in_one_frame(self):
        for size in SIZES:
            with self.subTest(size=size):
                self.echoes(TEXT, ("ça va! " * (size // 8)).encode())
                self.echoes(BINARY, bytes(range(256)) * (size // 256))

    def test_9_3_and_9_4_a_large_message_in_fragments(self):
        for fragment_size in (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB):
            with self.subTest(fragment_size=fragment_size):
                # Fragments end within characters.
                self.echoes(TEXT, "发送数据".encode() * (FRAGMENTED // 12), fragment_size + 1)
                self.echoes(BINARY, bytes(range(256)) * (FRAGMENTED // 256), fragment_size)

    def test_9_5_and_9_6_a_large_frame_in_many_writes(self):
        for chop in (64, 128, 256, 512, 1024, 2048):
            with self.subTest(chop=chop):
                self.echoes(TEXT, b"*" * CHOPPED, chop=chop)
                self.echoes(BINARY, b"\x00\xfe" * (CHOPPED // 2), chop=chop)

    def test_9_7_and_9_8_many_messages_one_after_the_other(self):
        for size in (0, 16, 64, 256, KIB, 4 * KIB):
            with self.subTest(size=size):
                peer = self.connect("/echo")
                for kind, opcode in [("text", TEXT), ("binary", BINARY)] * (250 // SLOWNESS):
                    peer.send(Frame(opcode, b"*" * size))
                    self.assertEqual(peer.event(), (kind, b"*" * size))
                close_politely(self, peer)

    def test_10_1_1_fragments_of_1300(self):
        self.echoes(TEXT, b"*" * 65536, 1300)

    def test_a_message_that_is_too_large_is_failed_with_1009(self):
        """RFC 6455 7.4.1: by its header, or by that of the fragment that is too much."""
        peer = self.connect("/echo")
        peer.send(Frame(BINARY, size=16 * MIB + 1))
        self.assertEqual(peer.event()[:2], ("close", 1009))
        self.assertEqual(peer.event(), END)
        peer = self.connect("/echo")
        peer.send(Frame(BINARY, b"*", False), Frame(CONTINUATION, size=16 * MIB))
        self.assertEqual(peer.event()[:2], ("close", 1009))
        self.assertEqual(peer.event(), END)


if __name__ == "__main__":
    unittest.main()
