#!/usr/bin/env python3
"""An acquirer's link to tpcore, with the package pyiso8583 (PyPI, 4.0.1): sign-on, a purchase and its repeat, a completion, a reversal.

    tpcore serve --dev --data-dir ./data --set cards.listeners=examples/iso8583/listeners.toml
    pip install pyiso8583==4.0.1
    python3 examples/iso8583/acquirer.py --card CARD [--at 127.0.0.1:8583] [--layout ascii|bcd]
"""

import argparse
import os
import socket
import struct
import time

import iso8583
from iso8583.specs import default_ascii


def layout(name):
    """The elements used here, in the terms of pyiso8583."""
    spec = {key: dict(value) for key, value in default_ascii.items()}
    if name == "bcd":
        def packed(length, fixed=True, pad="0"):
            return {"data_enc": "b", "len_enc": "bcd", "len_type": 0 if fixed else 1, "max_len": length,
                    "len_count": "nibbles", "left_pad": pad, "desc": "packed digits"}

        # Two digits of length are one byte, three are two.
        for element in spec.values():
            if element["len_type"] > 0:
                element["len_enc"], element["len_type"] = "bcd", element["len_type"] - 1
        spec["t"] = {"data_enc": "b", "len_enc": "ascii", "len_type": 0, "max_len": 2, "desc": "type"}
        for bitmap in ("p", "1"):
            spec[bitmap] = {"data_enc": "b", "len_enc": "ascii", "len_type": 0, "max_len": 8, "desc": "bitmap"}
        spec["2"] = packed(19, fixed=False)
        spec["32"] = packed(11, fixed=False)
        for number, digits in {"3": 6, "4": 12, "7": 10, "11": 6, "12": 6, "13": 4, "70": 3, "90": 42}.items():
            spec[number] = packed(digits)
        spec["35"] = {"data_enc": "b", "len_enc": "bcd", "len_type": 1, "max_len": 37, "len_count": "nibbles",
                      "right_pad": "F", "desc": "track 2"}
    return spec


class Link:
    def __init__(self, at, spec):
        host, port = at.rsplit(":", 1)
        self.socket, self.spec = socket.create_connection((host, int(port)), timeout=30), spec

    def send(self, message):
        body, _ = iso8583.encode(message, self.spec)
        self.socket.sendall(struct.pack(">H", len(body)) + body)

    def receive(self):
        head = self._exactly(2)
        answer, _ = iso8583.decode(self._exactly(struct.unpack(">H", head)[0]), self.spec)
        return answer

    def call(self, message):
        self.send(message)
        return self.receive()

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise SystemExit("the link was closed")
            data += part
        return data


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--at", default="127.0.0.1:8583")
    options.add_argument("--layout", choices=["ascii", "bcd"], default="ascii")
    options.add_argument("--card", required=True)
    arguments = options.parse_args()
    link = Link(arguments.at, layout(arguments.layout))
    stan = int(time.time() * 1000) % 900_000
    terminal = f"T{os.getpid() % 10_000_000:07}"

    def transaction(mti, **more):
        message = {
            "t": mti, "2": arguments.card, "3": "000000", "4": "000000002500", "7": time.strftime("%m%d%H%M%S"),
            "11": f"{stan:06}", "13": time.strftime("%m%d"), "32": "12345", "37": f"RRN{stan:09}", "41": terminal,
            "42": "MERCHANT0000001", "49": "978",
        }
        message.update({name[1:]: value for name, value in more.items()})
        return message

    def said(what, answer):
        print(f"{what}: {answer['t']} {answer['39']}", answer.get("38", ""))
        return answer

    def original():
        return f"0100{stan:06}{time.strftime('%m%d')}101010{12345:011}{0:011}"

    said("sign-on", link.call({"t": "0800", "7": "1127101010", "11": "000001", "70": "001"}))
    separator = "D" if arguments.layout == "bcd" else "="
    first = said("purchase", link.call(transaction("0100", _35=f"{arguments.card}{separator}3012101")))
    again = said("its repeat", link.call(transaction("0101")))
    assert (first["38"], first["39"]) == (again["38"], again["39"]), "a repeat has the first answer"
    said("completion", link.call(transaction("0220", _4="000000002000", _38=first["38"], _90=original())))
    stan += 1
    said("second purchase", link.call(transaction("0100")))
    said("its reversal", link.call(transaction("0400", _90=original())))
    answer = said("its repeat after that", link.call(transaction("0101")))
    assert answer["39"] != "00", "what was reversed is no approval"
    balances = link.call(transaction("0100", _3="310000", _11=f"{stan + 1:06}", _4="000000000000"))
    said("inquiry", balances)
    print("balances", balances["54"])
    # Many at once: answers come as they are ready, matched by the STAN.
    stan += 2
    stans = []
    for _ in range(100):
        stan += 1
        stans.append(f"{stan:06}")
        link.send(transaction("0100", _4="000000000001"))
    answers = [link.receive() for _ in stans]
    assert sorted(answer["11"] for answer in answers) == sorted(stans)
    assert all(answer["39"] == "00" for answer in answers)
    print("100 at once: all answered")


if __name__ == "__main__":
    main()
