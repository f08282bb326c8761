#!/usr/bin/env python3
"""A gateway's side over gRPC, in Python: one command, a batch, a stream with many under way.

    pip install grpcio==1.85.3 grpcio-tools==1.85.1
    python3 -m grpc_tools.protoc -I protocol/proto --python_out=FOLDER --grpc_python_out=FOLDER tpcore.proto
    PYTHONPATH=FOLDER python3 examples/grpc/client.py --at 127.0.0.1:8700 --key KEY
"""

import argparse
import queue

import grpc
import tpcore_pb2 as pb
import tpcore_pb2_grpc

EUR = {"asset": "EUR", "scale": 2}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--at", default="127.0.0.1:8700")
    options.add_argument("--key", required=True)
    options.add_argument("--run", default="1", help="part of every idempotency key")
    arguments = options.parse_args()
    channel = grpc.insecure_channel(arguments.at)
    gateway = tpcore_pb2_grpc.GatewayStub(channel)
    who = (("authorization", f"Bearer {arguments.key}"),)
    key = lambda name: f"grpc-{arguments.run}-{name}"

    def authorize(name, amount, **more):
        return pb.Command(command="authorize", key=key(name), account="1", amount=str(amount), **EUR, **more)

    first = gateway.Execute(authorize("one", 2500, tag=7), metadata=who)
    again = gateway.Execute(authorize("one", 2500, tag=8), metadata=who)
    assert (first.outcome, first.status, first.tag) == ("approved", 201, 7), first
    assert (again.repeated, again.status, again.seq, again.authorization) == (True, 200, first.seq, first.authorization), again
    print("one command, and the same answer again")

    capture = pb.Command(command="capture", key=key("capture"), authorization=first.authorization, payee="100",
                         amount="2000", is_final=True, **EUR)
    broke = authorize("too much", 10**12)
    replies = gateway.ExecuteBatch(pb.CommandBatch(commands=[capture, broke]), metadata=who).replies
    assert [(reply.outcome, reply.status) for reply in replies] == [("approved", 201), ("insufficient_funds", 402)], replies
    print("a batch: each for itself")

    commands = queue.SimpleQueue()
    stream = gateway.Stream(iter(commands.get, None), metadata=who)
    for tag in range(1000):
        commands.put(authorize(f"s{tag}", 1, tag=tag))
    tags = [next(stream).tag for _ in range(1000)]
    assert sorted(tags) == list(range(1000))
    commands.put(pb.Command(tag=1, command="authorise", key="x"))
    flaw = next(stream)
    assert (flaw.status, flaw.outcome) == (400, "invalid_request"), flaw
    commands.put(None)
    assert list(stream) == []
    print("a stream: 1000 under way, all answered")

    # What happened on the tenant's accounts, from the first event that this run made; a cursor says where to go on.
    events = gateway.Follow(pb.FollowRequest(from_seq=first.seq, cursor=7, with_balances=True), metadata=who)
    event = next(event for event in events if event.legs)
    assert (event.seq, event.event, event.legs[0].amount) == (first.seq, "authorized", "2500"), event
    gateway.SetCursor(pb.Cursor(cursor=7, seq=event.seq), metadata=who)
    events.cancel()
    events = gateway.Follow(pb.FollowRequest(cursor=7), metadata=who)
    event = next(event for event in events if event.legs)
    assert (event.event, event.legs[0].what, event.legs[0].posted) in [("moved", "capture", "-2000"), ("opened", "capture", "-2000")], event
    events.cancel()
    account = gateway.GetAccount(pb.AccountRequest(account="1"), metadata=who)
    assert (account.asset, account.status, account.balances.held) == ("EUR", "open", str(1000)), account
    print("events followed, and gone on with at a cursor")

    for call, code in [
        (lambda: gateway.Execute(authorize("x", 1)), grpc.StatusCode.UNAUTHENTICATED),
        (lambda: next(gateway.Stream(iter([]), metadata=(("authorization", "Bearer tpk_no"),))), grpc.StatusCode.UNAUTHENTICATED),
    ]:
        try:
            call()
            raise SystemExit("it was let in")
        except grpc.RpcError as error:
            assert error.code() == code, error
    print("nobody without a key")


if __name__ == "__main__":
    main()
