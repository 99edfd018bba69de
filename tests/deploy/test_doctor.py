import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.doctor import diagnose
from deploy.machine import claim_port
from models.settings import Settings, load_settings
from models.topics import REJECTED, RUNS, STATS_APP

pytestmark = [pytest.mark.stack]


async def test_it_tells_a_living_group_from_a_missing_one(services: Settings) -> None:
    """Brokers, topics and a group with a member are well; the group without one is named with its command."""
    async with AIOKafkaProducer(bootstrap_servers=services.kafka) as producer:
        sent = await producer.send_and_wait(RUNS, b"{}", key=b"doctor", partition=1)
    member = AIOKafkaConsumer(REJECTED, bootstrap_servers=services.kafka, group_id=STATS_APP)
    await member.start()
    try:
        checks = {check.name: check for check in await diagnose(services)}
    finally:
        await member.stop()
    assert checks["Kafka"].ok
    assert checks["topics"].ok
    assert checks["ClickHouse"].ok
    assert checks["schema"].ok, checks["schema"].message
    assert checks["disk"].ok
    assert checks["stats workers"].ok
    assert checks["archive workers"].message.endswith("start one with scaling worker archive")
    assert not checks["archive workers"].ok
    assert int(checks["archive lag"].message.split()[0]) > sent.offset


async def test_services_that_do_not_answer_are_findings_and_not_exceptions() -> None:
    """Each finding names the address and what to start."""
    kafka, clickhouse = claim_port("nobody", 0), claim_port("nobody", 0)
    checks = await diagnose(load_settings(kafka=f"127.0.0.1:{kafka}", clickhouse=f"http://127.0.0.1:{clickhouse}"))
    wrong = {check.name: check.message for check in checks if not check.ok}
    assert set(wrong) == {"Kafka", "ClickHouse"}
    assert f"127.0.0.1:{kafka} does not answer" in wrong["Kafka"]
    assert f"127.0.0.1:{clickhouse} does not answer" in wrong["ClickHouse"]
