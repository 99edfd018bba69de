"""The embedded stack listens on loopback only: nothing of it can be reached from the network."""

from ipaddress import IPv6Address, ip_address

import psutil
import pytest

from models.settings import Settings, load_settings


def loopback(address: str) -> bool:
    """Whether an address is this machine's own, also where Java writes it as IPv6."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


@pytest.mark.stack
def test_every_socket_that_listens_is_on_loopback(services: Settings) -> None:
    """Of all processes that this one has started, the broker, its controller and ClickHouse among them."""
    listening = [
        (process.name(), found.laddr.ip, found.laddr.port)
        for process in psutil.Process().children(recursive=True)
        for found in process.net_connections(kind="inet")
        if found.status == psutil.CONN_LISTEN
    ]
    ports = {port for _, _, port in listening}
    assert {int(services.kafka.rpartition(":")[2]), int(services.clickhouse.rpartition(":")[2])} <= ports
    assert [found for found in listening if not loopback(found[1])] == []


def test_defaults_are_on_loopback() -> None:
    """Whoever sets nothing talks to this machine alone, and is heard by it alone."""
    settings = load_settings()
    assert settings.kafka.startswith("127.0.0.1:")
    assert settings.clickhouse.startswith("http://127.0.0.1:")
    assert settings.metrics_host == "127.0.0.1"
