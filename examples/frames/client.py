#!/usr/bin/env python3
"""A caller of the binary door with nothing but Python's own `struct`: docs/src/frames.md, byte by byte.

    tpcore serve --dev --set frames.listen=127.0.0.1:8790
    python3 examples/frames/client.py --at 127.0.0.1:8790 --key KEY
"""

import argparse
import hashlib
import socket
import struct

HELLO, COMMAND, WELCOME, REPLY, GOODBYE = 1, 2, 129, 130, 131
AUTHORIZE, CAPTURE, LOOKUP = 4, 6, 12
FINAL, PAYEE, AMOUNT, SUBJECT = 8, 32, 128, 512
REPEATED, AUTHORIZATION = 1, 16
APPROVED, INVALID = 0, 129

# 128-bit numbers are two of 64 bits, the lower first: everything is little-endian.
COMMAND_FORM = struct.Struct("<IBBHQ 2Q2Q2Q2Q2Q QII HBB8s4x")
REPLY_FORM = struct.Struct("<IBBHQQQ 2Q 2Q2Q2Q 2Q2Q QHBB8s4x")
assert (COMMAND_FORM.size, REPLY_FORM.size) == (128, 152)

wide = lambda number: (number & (1 << 64) - 1, number >> 64)
number = lambda low, high: high << 64 | low


def key(name):
    """128 bits of a name, as HTTP makes them of a key that is no UUID."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")


def command(verb, tag, name, flags=0, account=0, payee=0, subject=0, amount=None):
    asset, scale = (b"EUR", 2) if amount is not None else (b"", 0)
    flags |= AMOUNT if amount is not None else 0
    return COMMAND_FORM.pack(124, COMMAND, verb, flags, tag, *wide(key(name)), *wide(account), *wide(payee), *wide(subject),
                             *wide(amount or 0), 0, 0, 0, 0, scale, 0, asset)


class Door:
    def __init__(self, at, credential):
        host, port = at.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.socket.sendall(struct.pack("<IBBH", 4 + len(credential), HELLO, 0, 1) + credential.encode())
        kind, body = self.frame()
        if kind == GOODBYE:
            raise PermissionError(f"reason {body[0]}")
        assert kind == WELCOME, kind
        _, self.version, self.tenant, self.in_flight_max = struct.unpack("<BHII", body)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the server closed the link")
            data += piece
        return data

    def frame(self):
        length, kind = struct.unpack("<IB", self.exactly(5))
        return kind, self.exactly(length - 1)

    def send(self, *commands):
        self.socket.sendall(b"".join(commands))

    def reply(self):
        kind, body = self.frame()
        assert kind == REPLY, kind
        f = REPLY_FORM.unpack(struct.pack("<IB", 148, kind) + body)
        return {
            "code": f[2], "flags": f[3], "tag": f[4], "seq": f[5], "amount": number(*f[7:9]), "held": number(*f[11:13]),
            "authorization": number(*f[15:17]), "status": f[20], "asset": f[23].rstrip(b"\0").decode(),
        }


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--at", default="127.0.0.1:8790")
    options.add_argument("--key", required=True)
    options.add_argument("--run", default="1", help="part of every idempotency key")
    arguments = options.parse_args()
    door = Door(arguments.at, arguments.key)
    print(f"welcome: tenant {door.tenant}, version {door.version}, {door.in_flight_max} under way")
    name = lambda text: f"frames-{arguments.run}-{text}"

    door.send(command(AUTHORIZE, 1, name("one"), account=1, amount=2500))
    first = door.reply()
    assert (first["code"], first["status"], first["amount"], first["asset"]) == (APPROVED, 201, 2500, "EUR"), first
    door.send(command(AUTHORIZE, 2, name("one"), account=1, amount=2500))
    again = door.reply()
    assert again["flags"] & REPEATED and again["authorization"] == first["authorization"], again
    print("one command, and the same answer again")

    door.send(command(CAPTURE, 3, name("capture"), SUBJECT | PAYEE | FINAL, payee=100, subject=first["authorization"], amount=2000))
    captured = door.reply()
    assert (captured["code"], captured["status"]) == (APPROVED, 201), captured
    door.send(command(LOOKUP, 4, name("capture"), account=1))
    found = door.reply()
    assert (found["code"], found["seq"]) == (APPROVED, captured["seq"]), found
    print("a capture of what was authorized, and what became of it")

    door.send(*(command(AUTHORIZE, tag, name(f"s{tag}"), account=1, amount=1) for tag in range(1000)))
    tags = sorted(door.reply()["tag"] for _ in range(1000))
    assert tags == list(range(1000))
    print("1000 under way, all answered")

    door.send(command(AUTHORIZE, 5, name("odd"), SUBJECT, account=1, amount=1))
    assert door.reply()["code"] == INVALID
    try:
        Door(arguments.at, "tpk_no")
        raise SystemExit("it was let in")
    except PermissionError as error:
        print(f"nobody without a key: {error}")


if __name__ == "__main__":
    main()
