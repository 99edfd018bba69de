"""Run a stack without workers in a process of its own: `python run_stack.py STATE [--alone]`; prints its settings."""

import asyncio
import fcntl
import json
import socket
import struct
import sys
from pathlib import Path

from deploy.stack import Stack, StackOptions, running_stack
from models.settings import load_settings

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    """Switch the loopback interface of a fresh network namespace on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        answer = fcntl.ioctl(handle, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", answer)[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


async def main() -> None:
    """Start, say where, and wait for the signal."""
    state = Path(sys.argv[1])
    if "--alone" in sys.argv:
        raise_loopback()
    stack = Stack(StackOptions(state=state, kafka_port=0, clickhouse_port=0), load_settings())
    await stack.start(workers=False)
    try:
        pids = {name: stack.pid(name) for name in stack.names}
        sys.stdout.write(json.dumps({"settings": running_stack(state), "pids": pids}) + "\n")
        sys.stdout.flush()
        await stack.run_until_signal()
    finally:
        await stack.stop()


asyncio.run(main())
