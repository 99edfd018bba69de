"""What the embedded stack asks of the machine: free loopback ports and disk space."""

import contextlib
import random
import shutil
import socket
from pathlib import Path

from models.errors import PortTaken, StackError

LOOPBACK = "127.0.0.1"
LEAST_FREE_BYTES = 1024**3
QUIET_PORTS = range(20_000, 32_000)
"""Below the ports that Linux and macOS give to outgoing connections."""


def claim_port(service: str, port: int) -> int:
    """Check that a loopback port is free, or pick one where `port` is 0.

    Raises:
        PortTaken: Something listens on it already.
    """
    with socket.socket() as probe:
        # As servers do: connections of an earlier run that linger in TIME_WAIT do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            message = (
                f"port {port} for {service} cannot be used ({error.strerror}): stop what uses it, or start the stack "
                f"with another {service.lower()} port (0 picks a free one)"
            )
            raise PortTaken(message) from None
        picked: int = probe.getsockname()[1]
        return picked


def quiet_ports(count: int) -> list[int]:
    """Pick free loopback ports that no outgoing connection takes while their owners are restarted.

    Raises:
        StackError: There are not so many free ones below the range that systems take for connections.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(QUIET_PORTS, len(QUIET_PORTS)):
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                found.append(port)
    raise StackError(
        f"{count} free ports between {QUIET_PORTS.start} and {QUIET_PORTS.stop} were not found: end others"
    )


def free_bytes(folder: Path) -> int:
    """Say how many bytes are free on the disk that holds an existing folder."""
    return shutil.disk_usage(folder).free


def require_disk(folder: Path, least: int = LEAST_FREE_BYTES) -> None:
    """Check that the disk of the state folder has room.

    Raises:
        StackError: Less than `least` bytes are free.
    """
    free = free_bytes(folder)
    if free < least:
        message = (
            f"the disk of the state folder {folder} has {free / 2**20:.0f} MiB free and {least / 2**20:.0f} MiB are "
            "needed: make room, or choose a state folder on another disk"
        )
        raise StackError(message)
