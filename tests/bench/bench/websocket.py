"""As much of a WebSocket client as a part needs that opens connections itself."""

from bench import Failure

UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASKED_HI = b"\x81\x82\0\0\0\0Hi"


def upgrade(client):
    """Of a connected socket."""
    client.sendall(UPGRADE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        received = client.recv(4096)
        if not received:
            break
        answer += received
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise Failure(f"not upgraded: {answer}")


def echo_hi(client):
    client.sendall(MASKED_HI)
    answer = client.recv(4)
    if answer != b"\x81\x02Hi":
        raise Failure(f"no echo: {answer}")
