"""How a client connects to Kafka: one place for address, TLS and SASL, for aiokafka and for Faust."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from faust import SASLCredentials, SSLCredentials

from models.errors import NotReachable, SettingsError
from models.settings import Settings
from streams.closing import close_to_the_end
from streams.group_membership import assign_what_there_is
from streams.header_names import read_any_header_name
from streams.tls import tls_context

PATIENCE_MS = 10_000


def connection(settings: Settings) -> dict[str, Any]:
    """Give what every aiokafka client takes: bootstrap_servers and, where they are set, TLS and SASL.

    Raises:
        SettingsError: A file cannot be read, or the settings do not go together.
    """
    _mend_aiokafka()
    if "@" in settings.kafka:
        raise SettingsError("setting kafka holds a user: set kafka_username and kafka_password instead")
    return {"bootstrap_servers": settings.kafka, **_security(settings)}


def _mend_aiokafka() -> None:
    """Put right, for every client of this process, what stops consumers for good, and what keeps them from stopping."""
    close_to_the_end()
    read_any_header_name()
    assign_what_there_is()


def broker_credentials(settings: Settings) -> Any:  # noqa: ANN401 - Faust's, which is not typed
    """Give Faust's form of the same; None for a broker without TLS and SASL.

    Raises:
        SettingsError: As for `connection`.
    """
    _mend_aiokafka()
    security = _security(settings)
    if "sasl_mechanism" in security:
        return SASLCredentials(
            username=security["sasl_plain_username"],
            password=security["sasl_plain_password"],
            mechanism=security["sasl_mechanism"],
            ssl_context=security.get("ssl_context"),
        )
    return SSLCredentials(security["ssl_context"]) if security else None


def unreachable(settings: Settings) -> NotReachable:
    """Say that Kafka does not answer, and what to do."""
    message = f"Kafka at {settings.kafka} does not answer: start it with scaling up, or set SCALING_KAFKA"
    if settings.kafka_security_protocol != "PLAINTEXT":
        message += f", and see that it takes {_terms(settings)}"
    return NotReachable(message)


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Say of a lost connection what `unreachable` says.

    Raises:
        NotReachable: Kafka does not answer.
    """
    try:
        yield
    except KafkaConnectionError:
        raise unreachable(settings) from None


@asynccontextmanager
async def connected_client(settings: Settings) -> AsyncIterator[AIOKafkaClient]:
    """Open a client that asks the brokers what no consumer or producer has a method for.

    Raises:
        NotReachable: Kafka does not answer.
        SettingsError: As for `connection`.
    """
    client = AIOKafkaClient(**connection(settings))
    try:
        with explained(settings):
            await client.bootstrap()
        yield client
    finally:
        await client.close()


async def require_kafka(settings: Settings) -> None:
    """See that a broker answers, and that it lets us in.

    Raises:
        NotReachable: None answers, or one refuses us; the message says what to do.
        SettingsError: As for `connection`.
    """
    await require_access(settings)
    async with connected_client(settings):
        pass


async def require_access(settings: Settings) -> None:
    """See that a broker that answers also lets us in; a broker that does not answer is nobody's fault yet.

    Raises:
        NotReachable: It refuses the certificate, the user or the protocol; the message names what was offered.
        SettingsError: As for `connection`.
    """
    security = _security(settings)
    if not security:
        return
    for server in settings.kafka.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            opened = await create_conn(host, int(port), request_timeout_ms=PATIENCE_MS, **security)
        except (KafkaError, ssl.SSLError) as error:
            raise NotReachable(
                f"Kafka at {server.strip()} refused {_terms(settings)}: {str(error) or type(error).__name__}"
            ) from None
        except (OSError, TimeoutError):
            continue
        opened.close()
        return


def _security(settings: Settings) -> dict[str, Any]:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        _require_unused(settings)
        return {}
    security: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        security["ssl_context"] = tls_context(
            settings.kafka_ca_file, "kafka", settings.kafka_cert_file, settings.kafka_key_file
        )
    if protocol.startswith("SASL"):
        if not (settings.kafka_username and settings.kafka_password):
            raise SettingsError(f"kafka_security_protocol = {protocol} needs kafka_username and kafka_password")
        security |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password,
        }
    return security


def _require_unused(settings: Settings) -> None:
    """Refuse a password or certificate that would not be used: somebody believes that the connection is protected."""
    for name in ("kafka_username", "kafka_password", "kafka_ca_file", "kafka_cert_file"):
        if getattr(settings, name):
            raise SettingsError(f"{name} is set, and kafka_security_protocol is PLAINTEXT: set SASL_SSL, or SSL")


def _terms(settings: Settings) -> str:
    terms = f"kafka_security_protocol = {settings.kafka_security_protocol}"
    if settings.kafka_security_protocol.startswith("SASL"):
        terms += f", {settings.kafka_sasl_mechanism} as kafka_username = {settings.kafka_username!r}"
    if settings.kafka_ca_file:
        terms += f", kafka_ca_file = {settings.kafka_ca_file!r}"
    return terms
