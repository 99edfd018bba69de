import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner, Result

from cli.main import app
from deploy.check import Check
from deploy.clickhouse_checks import clickhouse_checks
from deploy.doctor import diagnose
from deploy.kafka_checks import skew_check
from deploy.machine import claim_port, quiet_ports
from deploy.remedies import remedies
from deploy.stack import environment
from models.metrics import ALLOCATOR_WORKER
from models.settings import Settings, load_settings
from models.topics import REJECTED, RUNS, STATS_APP
from streams.clickhouse import apply_schema, query
from streams.endpoint import endpoint
from streams.topic_settings import read_settings
from streams.topics import connected_admin
from streams.vitals import Vitals

DRIFTED = {
    "cleanup_policy": "delete",
    "retention_ms": "3600000",
    "segment_bytes": "1048576",
    "message_timestamp_type": "CreateTime",
}
REQUESTS, REPLIES = "scaling.allocate.requests", "scaling.assign.replies"


async def checks_of(settings: Settings, endpoints: dict[str, str] | None = None) -> dict[str, Check]:
    """Ask the doctor."""
    return {check.name: check for check in await diagnose(settings, endpoints)}


async def alter(settings: Settings, topic: str, **configs: str) -> None:
    """Set a topic's settings, as a person might with Kafka's own tools."""
    named = {name.replace("_", "."): value for name, value in configs.items()}
    async with connected_admin(settings, 5) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])


async def settings_of_topic(settings: Settings, topic: str) -> dict[str, str]:
    """Read the settings that a topic itself has."""
    async with connected_admin(settings, 5) as admin:
        found = await read_settings(admin, [topic])
    return {name: setting.value for name, setting in found[topic].items() if setting.own}


async def command(settings: Settings, *words: str, said: str = "") -> Result:
    """Run a command of ours against a deployment."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), input=said, env=environment(settings))


@pytest.mark.stack
async def test_it_tells_a_living_group_from_a_missing_one(services: Settings) -> None:
    """Brokers, topics and a group with a member are well; the group without one is named with its command."""
    async with AIOKafkaProducer(bootstrap_servers=services.kafka) as producer:
        sent = await producer.send_and_wait(RUNS, b"{}", key=b"doctor", partition=1)
    member = AIOKafkaConsumer(REJECTED, bootstrap_servers=services.kafka, group_id=STATS_APP)
    await member.start()
    try:
        checks = await checks_of(services)
    finally:
        await member.stop()
    well = {
        *("versions", "Kafka", "topics", "partitions", "topic settings", "clock of Kafka", "stats workers"),
        *("ClickHouse", "clock of ClickHouse", "schema", "audit", "disk", "live tables", "reconciliation"),
    }
    assert {name for name in well if not checks[name].ok} == set(), [str(check) for check in checks.values()]
    assert checks["archive workers"].message.endswith("start one with scaling worker archive")
    assert not checks["archive workers"].ok
    assert int(checks["archive lag"].message.split()[0]) > sent.offset
    assert "aiokafka 0.14" in checks["versions"].message


@pytest.mark.stack
async def test_drifted_topics_are_named_and_set_right_where_that_deletes_nothing(services: Settings) -> None:
    """What else a topic was given stays, and a longer retention is left alone."""
    before = {topic: await settings_of_topic(services, topic) for topic in (REQUESTS, REPLIES)}
    await alter(services, REPLIES, **DRIFTED)
    await alter(services, REQUESTS, retention_ms="7200000", cleanup_policy="delete")
    found = (await checks_of(services))["topic settings"]
    assert not found.ok
    assert f"{REPLIES} has message.timestamp.type = CreateTime and should have LogAppendTime" in found.message
    assert f"{REQUESTS} has retention.ms = 7200000 and should have 3600000" in found.message
    what = f"set {REPLIES}: message.timestamp.type = LogAppendTime (was CreateTime)"
    refused = await command(services, "doctor", "--quick", "--fix", said="n\n")
    assert f"{what}?" in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert [remedy.what for remedy in await remedies(services)] == [what]
    done = await command(services, "doctor", "--quick", "--fix", "--yes")
    assert f"done: {what}" in " ".join(done.stderr.split())
    assert await settings_of_topic(services, REPLIES) == before[REPLIES] | {"segment.bytes": "1048576"}
    assert (await settings_of_topic(services, REQUESTS))["retention.ms"] == "7200000"
    assert await remedies(services) == []
    for topic, settings in before.items():
        await alter(services, topic, **settings)
    assert (await checks_of(services))["topic settings"].ok


@pytest.mark.stack
async def test_what_is_missing_is_created(services: Settings) -> None:
    """Topics, tables, views and columns; rows that are there stay."""
    async with connected_admin(services, 5) as admin:
        await delete(admin, "scaling.tests")
    settings = services.model_copy(update={"clickhouse_database": f"doctor_{uuid4().hex}"})
    assert not (await checks_of(settings))["topics"].ok
    for remedy in await remedies(settings):
        await remedy.apply()
    query(settings, "INSERT INTO scaling_laws (law_id, version) VALUES ('kept', 1)", readonly=False)
    query(settings, "ALTER TABLE scaling_laws DROP COLUMN knee, MODIFY COLUMN n Int32", readonly=False)
    query(settings, "DROP VIEW findings", readonly=False)
    (schema,) = [check for check in clickhouse_checks(settings) if check.name == "schema"]
    assert "lacks findings" in schema.message
    first, second = await remedies(settings)
    assert first.what == f"create in database {settings.clickhouse_database} findings"
    assert second.what == "add the columns scaling_laws.knee"
    await first.apply()
    await second.apply()
    assert query(settings, "SELECT law_id, knee FROM laws").rows == [("kept", None)]
    checks = await checks_of(settings)
    assert checks["topics"].ok
    assert "scaling_laws.n is Int32 and should be Int64" in checks["schema"].message
    assert await remedies(settings) == []
    query(settings, f"DROP DATABASE {settings.clickhouse_database}", readonly=False)


async def delete(admin: AIOKafkaAdminClient, topic: str) -> None:
    """Delete a topic, as somebody may have done, and wait until it is gone."""
    await admin.delete_topics([topic])
    while topic in await admin.list_topics():
        pass


@pytest.mark.stack
async def test_runs_that_nobody_audits_are_told(services: Settings) -> None:
    """Runs that have waited for minutes and no audited law mean that the audit does not run."""
    settings = services.model_copy(update={"clickhouse_database": "unaudited"})
    await apply_schema(settings)

    def audit() -> Check:
        (found,) = [check for check in clickhouse_checks(settings) if check.name == "audit"]
        return found

    insert = "INSERT INTO scaling_observations (agent_run_id, ingested_at) VALUES ('a', now() - INTERVAL {} MINUTE)"
    query(settings, insert.format(1), readonly=False)
    assert audit().ok
    query(settings, insert.format(60), readonly=False)
    assert not audit().ok
    assert "scaling worker audit" in audit().message
    law = "INSERT INTO scaling_laws (law_id, tier, version) VALUES ('global|agent_count|success|audited', 'audited', 1)"
    query(settings, law, readonly=False)
    assert audit().ok
    query(settings, "DROP DATABASE unaudited", readonly=False)


async def test_services_that_do_not_answer_are_findings_and_not_exceptions() -> None:
    """Each finding names the address and what to start."""
    kafka, clickhouse = claim_port("nobody", 0), claim_port("nobody", 0)
    wrong = {
        name: check.message
        for name, check in (
            await checks_of(load_settings(kafka=f"127.0.0.1:{kafka}", clickhouse=f"http://127.0.0.1:{clickhouse}"))
        ).items()
        if not check.ok
    }
    assert set(wrong) == {"Kafka", "ClickHouse"}
    assert f"127.0.0.1:{kafka} does not answer" in wrong["Kafka"]
    assert f"does not answer at http://127.0.0.1:{clickhouse}" in wrong["ClickHouse"]


async def test_workers_are_asked_for_their_health() -> None:
    """One that is not ready says why; one that does not answer is named."""
    vitals = Vitals(ALLOCATOR_WORKER)
    vitals.ready_unless(lambda: "laws are being read")
    port, nobody = quiet_ports(2)
    endpoints = {"allocator": f"http://127.0.0.1:{port}", "audit": f"http://127.0.0.1:{nobody}"}
    async with endpoint(load_settings(metrics_port=port), vitals):
        settings = load_settings(kafka=f"127.0.0.1:{nobody}", clickhouse=f"http://127.0.0.1:{nobody}")
        checks = await checks_of(settings, endpoints)
    assert checks["allocator health"] == Check("allocator health", ok=False, message="laws are being read")
    assert f"http://127.0.0.1:{nobody} does not answer" in checks["audit health"].message


@pytest.mark.parametrize(
    ("theirs", "ok", "said"),
    [
        (10.0, True, "within 0.500 s"),
        (12.4, True, "within 2.400 s"),
        (13.5, False, "3.0 s ahead of this machine's"),
        (5.0, False, "5.0 s behind this machine's"),
    ],
)
def test_a_clock_is_judged_by_what_the_way_there_cannot_explain(theirs: float, said: str, *, ok: bool) -> None:
    """Between question and answer any moment may have been theirs."""
    check = skew_check("clock", theirs, 10.0, 10.5)
    assert (check.ok, said in check.message) == (ok, True), check.message
