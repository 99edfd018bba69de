import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.machine import claim_port
from models.errors import NotReachable, StackError
from models.settings import Settings, load_settings
from models.topics import LAWS, MAX_MESSAGE_BYTES, RUNS, TOPICS
from streams.topics import create_topics, missing_topics

pytestmark = [pytest.mark.stack]


async def test_all_topics_exist_and_creating_them_again_creates_none(services: Settings) -> None:
    """The stack has created every topic; a second call finds them right."""
    assert await missing_topics(services) == []
    assert await create_topics(services) == []


async def test_topics_have_the_cleanup_and_configuration_of_the_model(services: Settings) -> None:
    """Every topic's policy and extra configuration are as models.topics says."""
    admin = AIOKafkaAdminClient(bootstrap_servers=services.kafka)
    await admin.start()
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t.name) for t in TOPICS])
    finally:
        await admin.close()
    found = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }
    for spec in TOPICS:
        assert found[spec.name]["cleanup.policy"] == ("compact" if spec.compact else "delete")
        assert found[spec.name].items() >= dict(spec.config).items()


async def test_another_partition_count_is_an_error_that_names_both(services: Settings) -> None:
    """A deployment's partitions are fixed: a worker with other settings must not start on it."""
    other = services.model_copy(update={"partitions": 7})
    with pytest.raises(StackError, match=r"scaling\.runs has 4 partitions and the settings want 7"):
        await create_topics(other)


async def test_a_broker_that_does_not_answer_is_named() -> None:
    """Within the time given the error says which address was asked and what to start."""
    address = f"127.0.0.1:{claim_port('nobody', 0)}"
    with pytest.raises(NotReachable, match=rf"Kafka at {address} does not answer.*scaling up"):
        await create_topics(load_settings(kafka=address), timeout=0.5)


async def test_large_records_and_transactions_pass(services: Settings) -> None:
    """A 15 MiB event fits, and only committed records are seen by a reader of committed ones."""
    large = b"x" * (MAX_MESSAGE_BYTES - 1024**2)
    producer = AIOKafkaProducer(
        bootstrap_servers=services.kafka, transactional_id="tests-deploy", max_request_size=MAX_MESSAGE_BYTES
    )
    await producer.start()
    try:
        async with producer.transaction():
            sent = await producer.send_and_wait(RUNS, large, key=b"large", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(LAWS, b"aborted", key=b"law")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(LAWS, b"committed", key=b"law")
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        RUNS,
        LAWS,
        bootstrap_servers=services.kafka,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
    )
    await consumer.start()
    try:
        records: dict[bytes, ConsumerRecord] = {}
        async with asyncio.timeout(30):
            while not {b"large", b"law"} <= records.keys():
                record = await consumer.getone()
                records.setdefault(record.key, record)
    finally:
        await consumer.stop()
    assert records[b"large"].value == large
    assert records[b"large"].offset == sent.offset
    assert records[b"law"].value == b"committed"
