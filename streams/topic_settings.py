"""The settings of topics on the broker, compared with models.topics and set right where that loses nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from models.errors import StackError
from models.topics import TOPICS, TopicSpec

POLICY = "cleanup.policy"
RETENTION = "retention.ms"
FOREVER = -1
OWN = 1
"""The source of a setting that was given to the topic itself, and not to the broker."""


@dataclass(frozen=True, slots=True)
class TopicSetting:
    """A topic's setting as it is, and whether the topic itself has it."""

    value: str
    own: bool


TopicSettings = Mapping[str, Mapping[str, TopicSetting]]


@dataclass(frozen=True, slots=True)
class Drift:
    """A setting of a topic that is not as models.topics wants it; `danger` says why it is not set right by itself."""

    topic: str
    name: str
    found: str
    wanted: str
    danger: str | None = None

    def __str__(self) -> str:
        return f"{self.topic} has {self.name} = {self.found} and should have {self.wanted}"


def wanted_settings(spec: TopicSpec) -> dict[str, str]:
    """Give the settings that a topic is created with."""
    return {POLICY: "compact" if spec.compact else "delete", **dict(spec.config)}


async def read_settings(admin: AIOKafkaAdminClient, topics: Collection[str]) -> TopicSettings:
    """Read the settings of topics."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found: dict[str, dict[str, TopicSetting]] = {}
    for response in await admin.describe_configs(resources):
        for _code, _message, _kind, topic, entries in response.resources:
            found[topic] = {entry[0]: TopicSetting(entry[1] or "", entry[3] == OWN) for entry in entries}
    return found


def find_drifts(found: TopicSettings) -> list[Drift]:
    """Compare topics with what models.topics wants; what it does not name may be anything."""
    return [
        Drift(spec.name, name, own[name].value, wanted, _danger(name, own[name].value, wanted))
        for spec in TOPICS
        if (own := found.get(spec.name)) is not None
        for name, wanted in wanted_settings(spec).items()
        if name in own and own[name].value != wanted
    ]


def _danger(name: str, found: str, wanted: str) -> str | None:
    """Say which records would be lost if a setting were set right."""
    if name == POLICY and wanted == "delete":
        return "records older than the retention would be deleted at once"
    if name == RETENTION and (int(found) == FOREVER or int(found) > int(wanted) >= 0):
        return "records between the two ages would be deleted"
    return None


async def set_right(admin: AIOKafkaAdminClient, found: TopicSettings, drifts: Sequence[Drift]) -> None:
    """Set topics right; what else they were given stays as it is.

    Raises:
        StackError: Kafka refuses.
    """
    # Kafka takes the settings of a topic as a whole: what is left out would go back to the broker's default.
    own = {
        topic: {name: setting.value for name, setting in found[topic].items() if setting.own}
        for topic in dict.fromkeys(drift.topic for drift in drifts)
    }
    for drift in drifts:
        own[drift.topic][drift.name] = drift.wanted
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, settings) for topic, settings in own.items()]
    for response in await admin.alter_configs(resources):
        for code, message, _kind, topic in response.resources:
            if code:
                raise StackError(f"Kafka refused to change the settings of {topic}: {message or for_code(code)}")
