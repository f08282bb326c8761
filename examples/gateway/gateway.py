#!/usr/bin/env python3
"""A payment gateway's side of tpcore, with Python's standard library only.

    tpcore serve --dev --data-dir /tmp/demo     # in another terminal; it prints a key
    python3 examples/gateway/gateway.py --key tp_...

It shows what a caller has to get right:

- One key for one command, made before the first attempt and kept until the outcome is known.
- A repeat has the same key and the same body. 429 and 503 say that nothing was done; a broken connection and 504 say nothing.
- When the attempts are used up, the command is in doubt. Then it is fenced: the server tells what became of it, and a command that
  it does not know can no longer execute. Only after that may the caller tell its customer "no".
- Requests can be signed (RFC 9421) in place of a bearer key: the secret never travels.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import secrets
import sys
import time
import urllib.parse

ATTEMPTS = 10  # over some 9 s: a server that has just started takes no signatures for 5 s
TIMEOUT_S = 15


class InDoubt(Exception):
    """It is not known whether the command was executed."""


class Refused(Exception):
    """A decision, or a mistake of the caller: a repeat would get the same answer."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem.get('outcome')}: {problem.get('detail') or problem.get('title')}")
        self.status, self.problem = status, problem


class Bearer:
    """Proves who is calling by a secret in a header. For TLS, or this machine."""

    def __init__(self, key):
        self.key = key

    def headers(self, method, authority, target, headers, body):
        return {"Authorization": f"Bearer {self.key}"}


class Hmac:
    """Proves who is calling by a signature of the request: HMAC-SHA256, RFC 9421, with the body's digest (RFC 9530)."""

    def __init__(self, key_id, secret):
        self.key_id, self.secret = key_id, secret

    def headers(self, method, authority, target, headers, body):
        path, _, query = target.partition("?")
        lines = [("@method", method), ("@authority", authority.lower()), ("@path", path), ("@query", "?" + query)]
        made = {}
        if body:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            made["Content-Digest"] = f"sha-256=:{digest}:"
            lines.append(("content-digest", made["Content-Digest"]))
        for name in ("Idempotency-Key", "Idempotency-Key-Kind"):
            if name in headers:
                lines.append((name.lower(), headers[name]))
        # A signature is taken once: a repeat of the command is a new request with a new nonce, under the same idempotency key.
        covered = " ".join(f'"{name}"' for name, _ in lines)
        parameters = (
            f"({covered});created={int(time.time())};nonce=\"{secrets.token_hex(16)}\""
            f';alg="hmac-sha256";keyid="{self.key_id}"'
        )
        base = "".join(f'"{name}": {value}\n' for name, value in lines) + f'"@signature-params": {parameters}'
        signature = base64.b64encode(hmac.new(self.secret, base.encode(), hashlib.sha256).digest()).decode()
        made["Signature-Input"] = f"gateway={parameters}"
        made["Signature"] = f"gateway=:{signature}:"
        return made


class Client:
    """Calls over one connection, which is made again when it broke."""

    def __init__(self, url, proof):
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self.authority, self.proof = parts.netloc, proof

    def once(self, method, target, body=None, headers=None):
        """One attempt: status and JSON. OSError or HTTPException: nothing is known."""
        headers = dict(headers or {})
        text = b"" if body is None else json.dumps(body).encode()
        if text:
            headers["Content-Type"] = "application/json"
        headers.update(self.proof.headers(method, self.authority, target, headers, text))
        try:
            self.connection.request(method, target, text, {"Host": self.authority, **headers})
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException):
            self.connection.close()  # the next attempt opens a new one
            raise

    def repeat(self, method, target, body=None, headers=None):
        """Attempts until there is an answer that a repeat would not change."""
        for attempt in range(ATTEMPTS):
            try:
                status, answer = self.once(method, target, body, headers)
            except (OSError, http.client.HTTPException):
                status, answer = None, None
            # `sign_again`: the server has just started and takes no signature from before.
            again = status in (None, 429, 503, 504) or (status == 401 and answer.get("outcome") == "sign_again")
            if not again:
                break
            # Longer each time, and never in step with the other callers.
            time.sleep(min(2.0, 0.05 * 2**attempt) * (0.75 + secrets.randbelow(500) / 1000))
        else:
            raise InDoubt(f"{method} {target}: no answer after {ATTEMPTS} attempts")
        if status >= 400:
            raise Refused(status, answer)
        return answer

    def get(self, target):
        return self.repeat("GET", target)

    def command(self, target, key, body):
        """A command. InDoubt: `settle` it."""
        return self.repeat("POST", target, body, {"Idempotency-Key": key})

    def settle(self, account, key):
        """What became of a command in doubt; None: it was not executed, and cannot be any more."""
        key = urllib.parse.quote(key, safe="")
        try:
            answer = self.repeat("POST", f"/v1/accounts/{account}/commands/{key}/fence")
        except Refused as refused:
            # A refusal that was decided and remembered, or a command that never came.
            if refused.problem.get("outcome") == "original_not_found":
                return None
            raise
        return None if answer.get("outcome") == "fenced" else answer


def money(minor):
    return {"amount": str(minor), "asset": "EUR", "scale": 2}


def pay(client, run, payer="1", merchant="100"):
    """A payment's whole way: 25.00 held, 20.00 captured, 5.00 refunded."""
    held = client.command("/v1/authorizations", f"{run}-order", {"account": payer, **money(2500)})
    print(f"held: authorization {held['authorization']}, available {held['balances']['available']}")
    authorization = held["authorization"]
    captured = client.command(
        f"/v1/authorizations/{authorization}/captures",
        f"{run}-capture",
        {"payee": merchant, **money(2000), "is_final": True},
    )
    print(f"captured: transfer {captured['transfer']}")
    client.command("/v1/refunds", f"{run}-refund", {"capture": captured["transfer"], **money(500)})
    state = client.get(f"/v1/authorizations/{authorization}")
    assert (state["state"], state["captured"]) == ("captured", "2000"), state
    print(f"refunded: {state['captures'][0]['refunded']} of {state['captured']}")


def lose_an_answer(client, run, payer="1", payee="2"):
    """The connection breaks after the request was sent: was the money moved?"""
    key, body = f"{run}-lost", {"account": payer, "payee": payee, **money(700)}
    before = int(client.get(f"/v1/accounts/{payer}")["balances"]["posted"])
    getresponse, client.connection.getresponse = client.connection.getresponse, lambda: (_ for _ in ()).throw(OSError())
    try:
        client.once("POST", "/v1/transfers", body, {"Idempotency-Key": key})
    except OSError:
        pass
    finally:
        client.connection.getresponse = getresponse
    became = client.settle(payer, key)
    moved = before - int(client.get(f"/v1/accounts/{payer}")["balances"]["posted"])
    assert moved == (0 if became is None else 700), (became, moved)
    print(f"in doubt, then known: {'not executed, and never will be' if became is None else became['outcome']}")
    # Either way a late repeat changes nothing.
    try:
        client.command("/v1/transfers", key, body)
    except Refused as refused:
        assert became is None and refused.problem["outcome"] == "fenced", refused
    assert before - int(client.get(f"/v1/accounts/{payer}")["balances"]["posted"]) == moved
    assert client.settle(payer, f"{run}-never-sent") is None
    print("a command that never came was fenced")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", default="http://127.0.0.1:8700")
    arguments.add_argument("--key", required=True, help="a bearer key with every role")
    arguments.add_argument("--run", default=secrets.token_hex(4), help="makes the keys of this run its own")
    arguments = arguments.parse_args()
    client = Client(arguments.url, Bearer(arguments.key))
    pay(client, arguments.run)
    lose_an_answer(client, arguments.run)
    # The same with signed requests: a key of their own, whose secret is shown once.
    made = client.repeat(
        "POST", "/v1/keys", {"person": "gateway", "roles": ["read", "authorize", "money_movement"], "kind": "hmac"}
    )
    signed = Client(arguments.url, Hmac(made["key"], base64.b64decode(made["secret"])))
    pay(signed, f"{arguments.run}-signed")
    print("signed requests: believed")
    try:
        Client(arguments.url, Hmac(made["key"], b"another secret" * 4)).get("/v1/tenant")
    except Refused as refused:
        assert refused.status == 401, refused
        print("signed with another secret: not believed")
        return 0
    print("a wrong signature was believed", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
