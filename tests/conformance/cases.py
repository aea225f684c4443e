"""What one end sends, and what has to become of it: the sections 1 to 7 of the table that the
Autobahn TestSuite has made customary, with its numbers, and nothing that is "non-strict".

The cases say nothing of masks, so that they are for a server and for a client. What differs:
an end that echoes answers a message with a message.
"""

import dataclasses

from peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_frame, fragments

PROTOCOL_ERROR, INVALID_PAYLOAD = 1002, 1007


@dataclasses.dataclass
class Case:
    number: str
    what: str
    frames: list
    # What the other end answers, in this order: ("text", b"..."), ("pong", b"..."). Messages are
    # what an echo answers.
    answers: list = dataclasses.field(default_factory=list)
    # None: nothing is wrong, and the case ends with a Close frame 1000 of the one who tests.
    # A number: the connection is failed with it. (code, reason): the frames close it.
    close: object = None
    chop: object = None  # of Peer.send()

    @property
    def fails(self):
        return isinstance(self.close, int)

    @property
    def is_cut(self):
        """A frame that is passed on may have begun before something is wrong with it."""
        return self.chop not in (None, "frames") or any(frame.size for frame in self.frames)


def text(payload, **how):
    return Frame(TEXT, payload, **how)


def echo(number, what, opcode, payload, chop=None):
    answer = ("text" if opcode == TEXT else "binary", payload)
    return Case(number, what, [Frame(opcode, payload)], [answer], chop=chop)


def numbered(prefix, cases):
    """Each case is given the next number."""
    return [dataclasses.replace(case, number=f"{prefix}.{i}") for i, case in enumerate(cases, 1)]


# ---- 1: framing

sizes = [(0, None), (125, None), (126, None), (127, None), (128, None), (65535, None)]
sizes += [(65536, None), (65536, 997)]


def framing(kind, opcode, byte):
    return [
        echo("", f"{kind} of {size}" + (f" in writes of {chop}" if chop else ""), opcode,
             byte * size, chop)
        for size, chop in sizes
    ]


FRAMING = numbered("1.1", framing("text", TEXT, b"*")) + numbered(
    "1.2", framing("binary", BINARY, b"\xfe")
)

# ---- 2: pings and pongs

odd = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"


def ping(what, payload, chop=None):
    return Case("", what, [Frame(PING, payload)], [("pong", payload)], chop=chop)


ten_pings = [Frame(PING, b"payload-%d" % i) for i in range(10)]
ten_pongs = [("pong", frame.payload) for frame in ten_pings]

PINGS = numbered(
    "2",
    [
        ping("a ping without payload", b""),
        ping("a ping with text", b"Hello, world!"),
        ping("a ping with bytes that are no text", odd),
        ping("a ping of 125", b"\xfe" * 125),
        Case("", "a ping of 126", [Frame(PING, b"\xfe" * 126)], close=PROTOCOL_ERROR),
        ping("a ping of 125, octet by octet", b"\xfe" * 125, 1),
        Case("", "an unsolicited pong", [Frame(PONG)]),
        Case("", "an unsolicited pong with payload", [Frame(PONG, b"unsolicited")]),
        Case("", "an unsolicited pong, then a ping", [Frame(PONG, b"unsolicited"),
             Frame(PING, b"ping")], [("pong", b"ping")]),
        Case("", "ten pings", ten_pings, ten_pongs),
        Case("", "ten pings, octet by octet", ten_pings, ten_pongs, chop=1),
    ],
)

# ---- 3: reserved bits

hello = text(b"Hello, world!")
hello_answer = [("text", b"Hello, world!")]


def reserved(what, frame, chop=None):
    """Behind a good message and before a ping that is not looked at any more."""
    return Case("", what, [hello, frame, Frame(PING)], hello_answer, PROTOCOL_ERROR, chop)


RESERVED_BITS = numbered(
    "3",
    [
        Case("", "RSV 1 on text", [text(b"Hello, world!", rsv=1)], close=PROTOCOL_ERROR),
        reserved("RSV 2 on text", text(b"Hello, world!", rsv=2)),
        reserved("RSV 3 on text, frame by frame", text(b"Hello, world!", rsv=3), "frames"),
        reserved("RSV 4 on text, octet by octet", text(b"Hello, world!", rsv=4), 1),
        Case("", "RSV 5 on binary", [Frame(BINARY, odd, rsv=5)], close=PROTOCOL_ERROR),
        Case("", "RSV 6 on a ping", [Frame(PING, b"ping", rsv=6)], close=PROTOCOL_ERROR),
        Case("", "RSV 7 on a Close frame", [Frame(CLOSE, rsv=7)], close=PROTOCOL_ERROR),
    ],
)

# ---- 4: opcodes


def opcodes(reserved_opcodes):
    first, second, third, fourth, fifth = reserved_opcodes
    return [
        Case("", f"opcode {first}", [Frame(first)], close=PROTOCOL_ERROR),
        Case("", f"opcode {second} with payload", [Frame(second, b"reserved")],
             close=PROTOCOL_ERROR),
        reserved(f"opcode {third} behind text", Frame(third)),
        reserved(f"opcode {fourth} with payload behind text, octet by octet",
                 Frame(fourth, b"reserved"), 1),
        reserved(f"opcode {fifth} with payload behind text, octet by octet",
                 Frame(fifth, b"reserved"), 1),
    ]


OPCODES = numbered("4.1", opcodes([3, 4, 5, 6, 7])) + numbered("4.2", opcodes([11, 12, 13, 14, 15]))

# ---- 5: fragmentation

one, two = text(b"fragment1", fin=False), Frame(CONTINUATION, b"fragment2")
both = [("text", b"fragment1fragment2")]
between = Frame(PING, b"ping payload")
pong_between = [("pong", b"ping payload")]
chops = [(None, "at once"), ("frames", "frame by frame"), (1, "octet by octet")]


def in_three_ways(what, frames, **outcome):
    return [Case("", f"{what}, {how}", frames, chop=chop, **outcome) for chop, how in chops]


def five_with_pings():
    frames = fragments(TEXT, b"fragment1fragment2fragment3fragment4fragment5", 9)
    first, second = Frame(PING, b"pongme 1!"), Frame(PING, b"pongme 2!")
    return frames[:2] + [first] + frames[2:4] + [second] + frames[4:]


five_answers = [
    ("pong", b"pongme 1!"),
    ("pong", b"pongme 2!"),
    ("text", b"fragment1fragment2fragment3fragment4fragment5"),
]
lost = Frame(CONTINUATION, b"non-continuation payload")
unfinished = lost._replace(fin=False)

FRAGMENTATION = numbered(
    "5",
    [
        Case("", "a ping in two fragments", [Frame(PING, b"fragment1", False), two],
             close=PROTOCOL_ERROR),
        Case("", "a pong in two fragments", [Frame(PONG, b"fragment1", False), two],
             close=PROTOCOL_ERROR),
        *in_three_ways("text in two fragments", [one, two], answers=both),
        *in_three_ways("text in two fragments and a ping between", [one, between, two],
                       answers=pong_between + both),
        *in_three_ways("a continuation of nothing, then text", [lost, hello],
                       close=PROTOCOL_ERROR),
        *in_three_ways("an unfinished continuation of nothing, then text", [unfinished, hello],
                       close=PROTOCOL_ERROR),
        Case("", "text in two fragments, then a continuation of nothing", [one, two, lost, hello],
             both, PROTOCOL_ERROR),
        Case("", "unfinished continuations before each message", [unfinished, one, two] * 2,
             close=PROTOCOL_ERROR),
        Case("", "continuations before each message", [lost, one, two] * 2, close=PROTOCOL_ERROR),
        Case("", "text inside a message", [one, text(b"fragment2")], close=PROTOCOL_ERROR),
        Case("", "five fragments and two pings", five_with_pings(), five_answers),
        Case("", "five fragments and two pings, frame by frame", five_with_pings(), five_answers,
             chop="frames"),
    ],
)

# ---- 6: UTF-8

sample = "Hello-µ@ßöäüàá-UTF-8!!".encode()
kosme = bytes.fromhex("ceba e1bdb9 cf83 cebc ceb5")  # κόσμε, with U+1F79
surrogate, behind = b"\xed\xa0\x80", b"edited"


def by_octet(number, what, payload):
    return Case(number, what, fragments(TEXT, payload, 1), [("text", payload)])


UTF8_FRAGMENTS = [
    echo("6.1.1", "empty text", TEXT, b""),
    Case("6.1.2", "three empty fragments", [text(b"", fin=False), Frame(CONTINUATION, fin=False),
         Frame(CONTINUATION)], [("text", b"")]),
    Case("6.1.3", "an empty fragment before and after", [text(b"", fin=False),
         Frame(CONTINUATION, b"middle frame payload", False), Frame(CONTINUATION)],
         [("text", b"middle frame payload")]),
    echo("6.2.1", "text in one frame", TEXT, sample),
    Case("6.2.2", "two fragments, cut between two characters",
         fragments(TEXT, sample, len("Hello-µ@ßöä".encode())), [("text", sample)]),
    by_octet("6.2.3", "fragments of an octet", sample),
    by_octet("6.2.4", "fragments of an octet", kosme),
    Case("6.3.1", "a surrogate in a frame", [text(kosme + surrogate + behind)],
         close=INVALID_PAYLOAD),
    Case("6.3.2", "a surrogate in fragments of an octet",
         fragments(TEXT, kosme + surrogate + behind, 1), close=INVALID_PAYLOAD),
]


# The tester sends nothing behind what is wrong: neither the frame nor the message ever ends.
def cut_off(payload, chop=None):
    return [text(payload, size=100)], chop


broken, broken_late = kosme + b"\xf4\x90", kosme + b"\xf4"
FAIL_FAST = numbered(
    "6.4",
    [
        Case("", "the second fragment of three is wrong", [text(kosme, fin=False),
             Frame(CONTINUATION, b"\xf4\x90\x80\x80", False)], close=INVALID_PAYLOAD),
        Case("", "the second fragment of three makes the first wrong", [
             text(broken_late, fin=False), Frame(CONTINUATION, b"\x90", False)],
             close=INVALID_PAYLOAD),
        Case("", "a frame is wrong before its end", [text(kosme + b"\xf4\x90\x80\x80", size=100)],
             close=INVALID_PAYLOAD),
        Case("", "a frame is wrong before its end, octet by octet", [text(broken, size=100)],
             close=INVALID_PAYLOAD, chop=1),
    ],
)


def character(point):
    """UTF-8's form of the code point, be there such a character or not."""
    return chr(point).encode("utf-8", "surrogatepass")


def series(*hexadecimal):
    return [bytes.fromhex(one) for one in hexadecimal]


def lone_starts(first, last):
    return b"".join(bytes([byte, 0x20]) for byte in range(first, last + 1))


incomplete = series("c0", "e080", "f08080", "f8808080", "fc80808080")
incomplete += series("df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
nonbmp = [plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)]
high, low_ends = (0xD800, 0xDB7F, 0xDB80, 0xDBFF), (0xDC00, 0xDFFF)

# Number: (what, sequences that are UTF-8 or not).
VALID, INVALID = True, False
UTF8_TABLE = {
    "6.5": ("text", VALID, [one.encode() for one in ("Hello-World", "µ@ßöä", "漢字かな", "𠜎𠜱𠝹")]
            + [kosme]),
    "6.6": ("the beginning of a word", None, [kosme[:size] for size in range(1, 12)]),
    "6.7": ("the first character of its length", VALID, series("00", "c280", "e0a080", "f0908080")),
    "6.8": ("five and six bytes", INVALID, series("f888808080", "fc8480808080")),
    "6.9": ("the last character of its length", VALID, series("7f", "dfbf", "efbfbf", "f48fbfbf")),
    "6.10": ("over U+10FFFF", INVALID, series("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf")),
    "6.11": ("next to a border", None, series("ed9fbf", "ee8080", "efbfbd", "f48fbfbf",
                                              "f4908080")),
    "6.12": ("unexpected continuations", INVALID, series("80", "bf") + [
        (b"\x80\xbf" * 3)[:size] for size in range(2, 7)] + [bytes(range(0x80, 0xC0))]),
    "6.13": ("lone starts", INVALID, [lone_starts(0xC0, 0xDF), lone_starts(0xE0, 0xEF),
             lone_starts(0xF0, 0xF7), lone_starts(0xF8, 0xFB), lone_starts(0xFC, 0xFD)]),
    "6.14": ("without the last byte", INVALID, incomplete),
    "6.15": ("all those that are incomplete", INVALID, [b"".join(incomplete)]),
    "6.16": ("bytes that never are", INVALID, series("fe", "ff", "fefeffff")),
    "6.17": ("an overlong slash", INVALID, series("c0af", "e080af", "f08080af", "f8808080af",
                                                  "fc80808080af")),
    "6.18": ("overlong, and as large as may be", INVALID, series("c1bf", "e09fbf", "f08fbfbf",
             "f887bfbfbf", "fc83bfbfbfbf")),
    "6.19": ("an overlong NUL", INVALID, series("c080", "e08080", "f0808080", "f880808080",
                                                "fc8080808080")),
    "6.20": ("a surrogate", INVALID, [character(point) for point in
             (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)]),
    "6.21": ("a pair of surrogates", INVALID, [
        character(one) + character(other) for one in high for other in low_ends]),
    "6.22": ("no character, but UTF-8", VALID, [character(point) for point in nonbmp]),
    "6.23": ("a special", VALID, [character(point) for point in range(0xFFF9, 0x10000)]),
}
# Of those that are not all one thing: the numbers of the valid ones.
UTF8_VALID = {"6.6": {2, 5, 7, 9, 11}, "6.11": {1, 2, 3, 4}}


def utf8_sequences():
    """(number, what, payload, whether it is UTF-8)."""
    for prefix, (what, validity, payloads) in UTF8_TABLE.items():
        for i, payload in enumerate(payloads, 1):
            valid = i in UTF8_VALID[prefix] if validity is None else validity
            yield f"{prefix}.{i}", f"{what}: {payload[:12].hex(' ')}", payload, valid


def utf8_case(number, what, payload, valid, frames):
    answers = [("text", payload)] if valid else []
    return Case(number, what, frames, answers, None if valid else INVALID_PAYLOAD)


def utf8_cases():
    for number, what, payload, valid in utf8_sequences():
        yield utf8_case(number, what, payload, valid, [text(payload)])
        by_octets = fragments(TEXT, payload, 1)
        yield utf8_case(f"{number}.f", f"{what}, by the octet", payload, valid, by_octets)


UTF8 = UTF8_FRAGMENTS + FAIL_FAST + list(utf8_cases())

# ---- 7: the closing handshake

good_close = close_frame(1000)
closed, reason_123 = (1000, b""), b"*" * 123


def closes(what, frame, close):
    return Case("", what, [frame], close=close)


VALID_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999]

CLOSING = (
    numbered("7.1", [
        Case("", "text, then a Close frame", [hello, good_close], hello_answer, closed),
        Case("", "two Close frames", [good_close, good_close], close=closed),
        Case("", "a ping behind the Close frame", [good_close, Frame(PING)], close=closed),
        Case("", "text behind the Close frame", [good_close, hello], close=closed),
        Case("", "a Close frame inside a message", [one, good_close, two], close=closed),
        Case("", "256 KiB, a Close frame and a ping", [text(b"BAsd7&jh" * 32768), good_close,
             Frame(PING)], [("text", b"BAsd7&jh" * 32768)], closed),
    ])
    + numbered("7.3", [
        closes("a Close frame without payload", close_frame(), (None, b"")),
        closes("a Close frame of a byte", Frame(CLOSE, b"a"), PROTOCOL_ERROR),
        closes("a Close frame with a code", good_close, closed),
        closes("a code and a reason", close_frame(1000, b"Hello World!"), (1000, b"Hello World!")),
        closes("a reason of 123", close_frame(1000, reason_123), (1000, reason_123)),
        closes("a reason of 124", close_frame(1000, reason_123 + b"*"), PROTOCOL_ERROR),
    ])
    + numbered("7.5", [
        closes("a reason that is no UTF-8", close_frame(1000, kosme + surrogate + behind),
               INVALID_PAYLOAD),
        closes("a reason that is cut off", close_frame(1000, kosme[:-1]), INVALID_PAYLOAD),
        closes("a reason in UTF-8", close_frame(1000, kosme), (1000, kosme)),
    ])
    + numbered("7.7", [closes(f"code {code}", close_frame(code), (code, b""))
                       for code in VALID_CODES])
    + numbered("7.8", [closes(f"code {code} with a reason", close_frame(code, kosme), (code, kosme))
                       for code in VALID_CODES])
    + numbered("7.9", [closes(f"code {code}", close_frame(code), PROTOCOL_ERROR)
                       for code in INVALID_CODES])
    + numbered("7.13", [closes(f"code {code}", close_frame(code, b"why"), PROTOCOL_ERROR)
                        for code in (5000, 65535)])
)

# ---- What that suite does not have: RFC 6455 5.1 and 5.2


def lengths():
    for size, size_bytes in [(0, 2), (125, 2), (0, 8), (126, 8), (65535, 8)]:
        frame = Frame(BINARY, b"*" * size, size_bytes=size_bytes)
        yield Case("", f"{size} in {8 * size_bytes} bits", [frame], close=PROTOCOL_ERROR)
    for size in (1 << 63, (1 << 64) - 1):
        frame = Frame(BINARY, b"*", size=size)
        yield Case("", f"a length of {size:#x}", [frame], close=PROTOCOL_ERROR)
        yield Case("", f"a length of {size:#x}, octet by octet", [frame], close=PROTOCOL_ERROR,
                   chop=1)


LENGTHS = numbered("0.1", lengths())


def masks(wrong):
    """`wrong`: what the frames of the end that tests may not be, masked or not."""
    kinds = {"text": hello, "empty binary": Frame(BINARY), "a ping": Frame(PING),
             "a Close frame": good_close}
    return numbered("0.2", [
        Case("", f"{what} {'masked' if wrong else 'without a mask'}",
             [frame._replace(masked=wrong)], close=PROTOCOL_ERROR)
        for what, frame in kinds.items()
    ])


TABLE = FRAMING + PINGS + RESERVED_BITS + OPCODES + FRAGMENTATION + UTF8 + CLOSING + LENGTHS
