"""Calls the service of tests/backends/h2/grpc.rs with gRPC for Python: python3 grpc_client.py HOST:PORT."""

import sys

import grpc


def message(text):
    """A message with one field, number 1, of the type string (the encoding of Protocol Buffers)."""
    data = text.encode()
    length, size = b"", len(data)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return b"\x0a" + length + bytes([size]) + data


def text_of(data):
    assert data[:1] == b"\x0a", data
    at, size, shift = 1, 0, 0
    while True:
        byte = data[at]
        size, at, shift = size | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            break
    assert len(data) == at + size
    return data[at:].decode()


with grpc.insecure_channel(sys.argv[1]) as channel:
    say = channel.unary_unary("/test.Greeter/Say", message, text_of)
    count = channel.unary_stream("/test.Greeter/Count", message, text_of)
    reply, call = say.with_call("Ada", timeout=20, metadata=[("x-tag", "7")])
    print("unary", reply, call.code().name, dict(call.trailing_metadata()).get("x-tag"))
    long = "x" * 3_000_000
    print("large", say(long, timeout=20) == "Hello, " + long)
    print("stream", *count("5", timeout=20))
    for name in "", "slow":
        try:
            say(name, timeout=20 if name == "" else 0.2)
        except grpc.RpcError as error:
            print("error", error.code().name, error.details() if name == "" else "")
    try:
        channel.unary_unary("/test.Greeter/Missing", message, text_of)("", timeout=20)
    except grpc.RpcError as error:
        print("error", error.code().name)
