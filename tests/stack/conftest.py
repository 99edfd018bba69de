"""One Kafka and one ClickHouse for the whole test session, without workers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.stack import Stack, StackOptions
from models.settings import Settings, load_settings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """Settings of a running stack: topics and schema exist, no worker runs.

    Tests share it: give topics, groups and run ids of your own names.
    """
    state: Path = tmp_path_factory.mktemp("stack")
    embedded = Stack(StackOptions(state=state, kafka_port=0, clickhouse_port=0), load_settings())
    yield await embedded.start(workers=False)
    await embedded.stop()
