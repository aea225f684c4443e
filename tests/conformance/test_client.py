"""The gateway as a client, between an upstream that tests it and a client that echoes: the same
table, and permessage-deflate with the upstream, ended at the gateway or passed through it."""

import random
import unittest

from cases import TABLE, VALID_CODES, masks, utf8_sequences
from peer import (
    BINARY,
    CONTINUATION,
    CUT,
    END,
    PING,
    RSV1,
    TEXT,
    Frame,
    close_frame,
    fragments,
)
from relay import OPCODES, Echoing, RelayTest
from suite import KIB, MIB, SLOWNESS, make_tests


class ClientTest(RelayTest):
    """`self.upstream` tests, `self.client` echoes."""

    def relay(self, *how):
        client, self.upstream = self.meet(*how)
        self.client = Echoing(client)

    def ends(self):
        """RFC 6455 7.1.1: after a closing handshake the server ends the stream, then the client
        does, and without a reset."""
        self.upstream.half_close()
        self.assertEqual(self.upstream.event(), END)

    def close_politely(self):
        self.upstream.send(close_frame(1000))
        self.assertEqual(self.upstream.event(), ("close", 1000, b""))
        self.ends()
        self.assertEqual(self.client.seen()[-2:], [("close", 1000, b""), END])

    def fails(self, code, may_be_cut=False):
        """The upstream broke a rule: it is told which, and the client that the upstream failed."""
        close = self.upstream.event()
        while close[0] in OPCODES:  # the echo of what came before
            close = self.upstream.event()
        self.assertEqual(close[:2], ("close", code))
        self.assertNotEqual(close[2], b"", "a reason says what was wrong")
        self.assertEqual(self.upstream.event(), END)
        told = [event for event in self.client.seen() if event[0] not in OPCODES]
        allowed = [[("close", 1014, b"upstream broke the protocol"), END]]
        # In the midst of a frame that is passed on there is no room for a Close frame.
        allowed += [[CUT]] if may_be_cut else []
        self.assertIn(told, allowed)


# ---- 1 to 7


@make_tests(TABLE + masks(True))
class Table(ClientTest):
    def run_case(self, case):
        self.relay("/plain")
        self.upstream.send(*case.frames, chop=case.chop)
        if case.close is None:
            # A pong is the gateway's, a message's echo the client's: they may overtake each other.
            found = self.upstream.events(len(case.answers))
            for is_pong in (True, False):
                self.assertEqual(
                    [event for event in found if (event[0] == "pong") == is_pong],
                    [event for event in case.answers if (event[0] == "pong") == is_pong],
                )
            return self.close_politely()
        messages = [event for event in case.answers if event[0] in OPCODES]
        if case.fails:
            self.fails(case.close, case.is_cut)
        else:
            self.assertEqual(self.upstream.event(), ("close", *case.close))
            self.ends()
            self.assertEqual(self.client.seen()[-2:], [("close", *case.close), END])
        received = [event for event in self.client.seen() if event[0] in OPCODES]
        self.assertEqual(received, messages)


class Plain(ClientTest):
    def test_text_is_failed_at_the_first_octet_that_cannot_be_right(self):
        """6.4, and not before. What was right has been passed on."""
        self.relay("/plain")
        beginning = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4"
        whole = self.upstream.encode([Frame(TEXT, beginning + b"\x90", size=100)])
        self.upstream.write(whole[:-1])
        self.assertTrue(self.upstream.is_quiet(0.1))
        self.upstream.write(whole[-1:])
        self.fails(1007, may_be_cut=True)
        self.assertEqual(self.client.seen(), [CUT])

    def test_each_code_that_a_client_may_send_reaches_the_upstream(self):
        for code in VALID_CODES:
            with self.subTest(code=code):
                self.relay("/plain")
                self.client.peer.send(close_frame(code, "为什么".encode()))
                close = ("close", code, "为什么".encode())
                self.assertEqual(self.upstream.event(), close)
                self.upstream.send(close_frame(code, close[2]))
                self.ends()
                self.assertEqual(self.client.seen(), [close, END])

    def test_the_server_is_the_one_to_end_the_stream(self):
        """RFC 6455 7.1.1: behind a closing handshake; so the client waits for it."""
        self.relay("/plain")
        self.upstream.send(close_frame(1000))
        self.assertEqual(self.upstream.event(), ("close", 1000, b""))
        self.assertTrue(self.upstream.is_quiet(0.1))
        self.ends()

    def test_9_large_messages(self):
        sizes = (64 * KIB, 8 * MIB // SLOWNESS**2)
        for size in sizes:
            for fragment_size in (None, 64 * KIB, 4 * KIB):
                with self.subTest(size=size, fragment_size=fragment_size):
                    self.relay("/plain")
                    for kind, opcode in OPCODES.items():
                        payload = "发送数据".encode() * (size // 12)
                        pieces = fragments(opcode, payload, fragment_size or size)
                        self.upstream.send(*pieces)
                        self.assertTrue(self.upstream.event() == (kind, payload))
                    self.close_politely()


# ---- permessage-deflate with the upstream

chance = random.Random(7692)
CONTENT = b"".join(b"%d: %d of the records\n" % (i, chance.randrange(10**9)) for i in range(9000))
NOISE = chance.randbytes(64 * KIB)
SIZES = [(0, None), (16, None), (64, None), (256, 7), (KIB, None), (8 * KIB, 256), (64 * KIB, None)]
SIZES += [(128 * KIB // SLOWNESS, 4 * KIB)]

# What servers answer to the gateway's offer.
ANSWERS = {
    1: "",
    2: "server_no_context_takeover",
    3: "client_no_context_takeover",
    4: "server_no_context_takeover; client_no_context_takeover",
    5: "server_max_window_bits=9; client_max_window_bits=9",
    6: "server_max_window_bits=8; client_max_window_bits=8; server_no_context_takeover",
    7: "client_max_window_bits=15",
}


def answering(parameters):
    return "permessage-deflate" + (parameters and f"; {parameters}")


class DeflateCase:
    def __init__(self, number, target, answer, offers):
        self.number, self.target = number, target
        self.answer, self.offers = answer, offers
        self.what = f"{target}, {answer}" + (f", {offers}" if offers else "")


def deflate_cases():
    plain = "permessage-deflate; client_max_window_bits"
    for i, parameters in ANSWERS.items():
        answer = answering(parameters)
        # What is offered without context takeover or with a window has to be granted.
        if "server_no" in parameters and "client_no" in parameters:
            yield DeflateCase(f"13.{i}.shared", "/shared", answer, None)
        window = "" if "server_max" in parameters else "; server_max_window_bits=12"
        yield DeflateCase(f"13.{i}.dedicated", "/dedicated", answer + window, None)
        yield DeflateCase(f"13.{i}.both", "/both", answer + window, plain)
        yield DeflateCase(f"13.{i}.passthrough", "/passthrough", answer, plain)


@make_tests(deflate_cases())
class DeflateEcho(ClientTest):
    def run_case(self, case):
        """12, 13: compressed by the upstream, compressed by the gateway or whoever is behind it."""
        self.relay(case.target, case.answer, case.offers)
        for size, fragment_size in SIZES:
            for kind, opcode, content in [("text", TEXT, CONTENT), ("binary", BINARY, NOISE * 2)]:
                at = chance.randrange(len(content) - size + 1)
                payload = content[at : at + size]
                self.upstream.send_compressed(opcode, payload, fragment_size)
                self.assertTrue(self.upstream.event() == (kind, payload), f"{kind} of {size}")
                self.upstream.send(*fragments(opcode, payload, fragment_size or max(size, 1)))
                self.assertTrue(self.upstream.event() == (kind, payload), f"{kind} of {size}")
        self.assertGreater(self.upstream.compressed_messages, 0)
        self.close_politely()


class Deflate(ClientTest):
    def test_each_window_that_an_upstream_may_answer(self):
        for who in ("server", "client"):
            for target, most in [(f"/dedicated/{bits}", bits) for bits in range(9, 16)]:
                for bits in range(8, most + 1):
                    with self.subTest(target=target, who=who, bits=bits):
                        answer = f"permessage-deflate; {who}_max_window_bits={bits}"
                        if who == "client" and most < 15:
                            answer += f"; server_max_window_bits={most}"
                        self.relay(target, answer)
                        ends = ((1 << bits) - 6, (1 << bits) + 300, (1 << most) - 300)
                        data = b"".join(NOISE[:end] * 2 for end in ends)
                        self.upstream.send_compressed(BINARY, data)
                        self.assertTrue(self.upstream.event() == ("binary", data))
                        self.close_politely()

    def test_an_upstream_without_compression(self):
        for target in ("/shared", "/dedicated", "/both", "/passthrough"):
            with self.subTest(target=target):
                self.relay(target, None, "permessage-deflate" if target == "/both" else None)
                self.upstream.send(Frame(TEXT, b"Hello" * 100))
                self.assertEqual(self.upstream.event(), ("text", b"Hello" * 100))
                self.close_politely()
                self.relay(target, None, "permessage-deflate" if target == "/both" else None)
                self.upstream.send(Frame(TEXT, b"\x00", rsv=RSV1))
                self.fails(1002)

    def test_reserved_bits_are_for_the_first_frame_of_a_message(self):
        first, last = Frame(TEXT, b"\xf2\x48\xcd", False, RSV1), b"\xc9\xc9\x07\x00"
        for target in ("/dedicated", "/passthrough"):
            for frames in (
                [Frame(PING, b"", rsv=RSV1)],
                [first, Frame(CONTINUATION, last, rsv=RSV1)],
                [Frame(TEXT, b"plain", False), Frame(CONTINUATION, last, rsv=RSV1)],
                *([Frame(TEXT, b"\x00", rsv=rsv)] for rsv in (1, 2, 3, 5, 6, 7)),
            ):
                with self.subTest(target=target, frames=frames):
                    self.relay(target, lambda offer: offer.split(",")[0].replace(
                        "; client_max_window_bits", ""), "permessage-deflate")
                    self.upstream.send(*frames)
                    self.fails(1002)

    def test_what_does_not_inflate_is_failed_with_1007(self):
        for target, answer in [
            ("/shared", answering(ANSWERS[4])),
            ("/dedicated", "permessage-deflate; server_max_window_bits=12"),
        ]:
            for wrong in ("06", "f248cdc9", "f2001100", "000500f0ff48656c6c6f00"):
                with self.subTest(target=target, wrong=wrong):
                    self.relay(target, answer)
                    self.upstream.send(Frame(TEXT, bytes.fromhex(wrong), rsv=RSV1))
                    self.fails(1007)

    def test_text_is_failed_inside_a_compressed_frame(self):
        """6.4: nothing behind what is wrong is sent. What is inflated makes frames of its own."""
        for before in (b"", "κόσμε".encode(), CONTENT):
            for fin in (True, False):
                with self.subTest(before=len(before), fin=fin):
                    self.relay("/dedicated", "permessage-deflate; server_max_window_bits=12")
                    deflated = self.upstream.deflate.compress(before + b"\xf4\x90")
                    size = len(deflated) + (100 if fin else 0)
                    self.upstream.send(Frame(TEXT, deflated, fin, RSV1, size=size))
                    self.fails(1007)

    def test_utf8_compressed(self):
        """6.5 to 6.23."""
        for number, what, payload, valid in utf8_sequences():
            for fragment_size in (None, 1):
                with self.subTest(number=number, what=what, fragment_size=fragment_size):
                    self.relay("/dedicated", "permessage-deflate; server_max_window_bits=12")
                    self.upstream.send_compressed(TEXT, payload, fragment_size)
                    if valid:
                        self.assertEqual(self.upstream.event(), ("text", payload))
                        self.close_politely()
                    else:
                        self.fails(1007)

    def test_passthrough_hands_on_the_frames_as_they_are(self):
        """The client's end inflates what the upstream's has deflated, with a ping between."""
        self.relay("/passthrough", "permessage-deflate", "permessage-deflate")
        frames = fragments(TEXT, self.upstream.deflate.compress(CONTENT), 1000, RSV1)
        self.upstream.send(frames[0], Frame(PING, b"between"), *frames[1:])
        self.assertEqual(self.upstream.event(), ("pong", b"between"))
        self.assertTrue(self.upstream.event() == ("text", CONTENT))
        self.assertEqual(self.client.peer.frames_of_message, len(frames))
        self.close_politely()


if __name__ == "__main__":
    unittest.main()
