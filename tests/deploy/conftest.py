"""One Kafka and one ClickHouse for all tests of this folder that only talk to them."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import pytest
import pytest_asyncio
from clickhouse_connect.driver.client import Client

from deploy.stack import Stack, StackOptions
from models.settings import Settings, load_settings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """Settings of a running Kafka and ClickHouse, without workers."""
    state: Path = tmp_path_factory.mktemp("services")
    stack = Stack(StackOptions(state=state, kafka_port=0, clickhouse_port=0), load_settings())
    yield await stack.start(workers=False)
    await stack.stop()


@pytest.fixture
def client(services: Settings) -> Client:
    """clickhouse-connect's ordinary client."""
    url = urlsplit(services.clickhouse)
    assert url.hostname
    assert url.port
    return clickhouse_connect.get_client(host=url.hostname, port=url.port, database="default")
