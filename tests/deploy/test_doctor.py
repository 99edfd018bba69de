import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.doctor import diagnose
from deploy.machine import claim_port
from models.settings import Settings, load_settings
from models.topics import REJECTED, RUNS, STATS_APP
from streams.clickhouse import apply_schema, query

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
    assert checks["audit"].ok, checks["audit"].message
    assert checks["stats workers"].ok
    assert checks["archive workers"].message.endswith("start one with scaling worker archive")
    assert not checks["archive workers"].ok
    assert int(checks["archive lag"].message.split()[0]) > sent.offset


async def test_runs_that_nobody_audits_are_told(services: Settings) -> None:
    """Runs that have waited for minutes and no audited law mean that the audit does not run."""
    settings = services.model_copy(update={"clickhouse_database": "unaudited"})
    await apply_schema(settings)
    insert = "INSERT INTO scaling_observations (agent_run_id, ingested_at) VALUES ('a', now() - INTERVAL {} MINUTE)"
    query(settings, insert.format(1), readonly=False)
    assert {check.name: check.ok for check in await diagnose(settings)}["audit"]
    query(settings, insert.format(60), readonly=False)
    (audit,) = [check for check in await diagnose(settings) if check.name == "audit"]
    assert not audit.ok
    assert "scaling worker audit" in audit.message
    law = "INSERT INTO scaling_laws (law_id, tier, version) VALUES ('global|agent_count|success|audited', 'audited', 1)"
    query(settings, law, readonly=False)
    assert {check.name: check.ok for check in await diagnose(settings)}["audit"]
    query(settings, "DROP DATABASE unaudited", readonly=False)


async def test_services_that_do_not_answer_are_findings_and_not_exceptions() -> None:
    """Each finding names the address and what to start."""
    kafka, clickhouse = claim_port("nobody", 0), claim_port("nobody", 0)
    checks = await diagnose(load_settings(kafka=f"127.0.0.1:{kafka}", clickhouse=f"http://127.0.0.1:{clickhouse}"))
    wrong = {check.name: check.message for check in checks if not check.ok}
    assert set(wrong) == {"Kafka", "ClickHouse"}
    assert f"127.0.0.1:{kafka} does not answer" in wrong["Kafka"]
    assert f"127.0.0.1:{clickhouse} does not answer" in wrong["ClickHouse"]
