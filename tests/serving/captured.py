"""Requests as clients send them, byte for byte: files of HTTP. Their first lines, behind `#`, tell where from."""

import json
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

FOLDER = Path(__file__).parent / "bodies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.http"))


class Captured(NamedTuple):
    """A request.

    Attributes:
        notes: where it is from.
        path, headers: without a host and a length.
        data: the body as it was sent.
    """

    notes: str
    path: str
    headers: list[str]
    data: bytes

    @property
    def body(self):
        """What the body says."""
        return json.loads(self.data)


def captured(name):
    """The request of a file."""
    head, _, data = (FOLDER / f"{name}.http").read_bytes().partition(b"\n\n")
    lines = head.decode().split("\n")
    notes = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    request, *headers = lines[len(notes) :]
    method, path, version = request.split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    return Captured("\n".join(notes), path, headers, data.removesuffix(b"\n"))


def play(server, name, events=None, **changes):
    """Send it through a socket of its own, as no HTTP library would: headers may be empty. The answer.

    Args:
        server: where.
        name: a file's.
        events: of a stream so many are read, and then the connection is closed.
        changes: of fields of the body. A tiny model's draws may be empty, its greedy texts never are.
    """
    sent = captured(name)
    if changes:
        sent = sent._replace(data=json.dumps({**sent.body, **changes}).encode())
    place = urlsplit(server.url)
    head = [f"POST {sent.path} HTTP/1.1", f"Host: {place.netloc}", *sent.headers]
    head += [f"Content-Length: {len(sent.data)}", "Connection: close", "", ""]
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode() + sent.data)
        whole = b""
        while received := connection.recv(65536):
            whole += received
            if events is not None and whole.count(b"\n\n") > events:
                break
    head, _, data = whole.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines])
    if headers.get("transfer-encoding") == "chunked":
        data = unchunked(data)
    headers.pop("transfer-encoding", None)
    return httpx.Response(int(status.split(" ")[1]), headers=headers, content=data)


def unchunked(data):
    """The body that came in chunks."""
    whole = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            return whole
        whole, data = whole + data[:length], data[length + 2 :]
