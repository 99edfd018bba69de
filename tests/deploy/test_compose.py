import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.settings import Settings
from models.topics import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parents[2]
WORKERS = {
    "stats-0": ["worker", "stats"],
    "stats-1": ["worker", "stats"],
    "archive": ["worker", "archive"],
    "allocator": ["worker", "allocator"],
    "audit": ["worker", "audit"],
    "experiments": ["worker", "experiments"],
}


@pytest.fixture
def services() -> dict[str, Any]:
    """The services of docker-compose.yml."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return parsed


def test_it_has_the_brokers_the_init_step_and_the_workers(services: dict[str, Any]) -> None:
    """Each worker runs the command that the embedded stack runs."""
    assert set(services) == {"kafka", "clickhouse", "init", *WORKERS}
    assert {name: services[name]["command"] for name in WORKERS} == WORKERS
    assert services["init"]["command"] == ["topics", "create"]


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    """Neither Kafka nor ClickHouse is reachable from the network."""
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:8123:8123", "127.0.0.1:9092:9092"]


def test_workers_wait_for_the_init_step_which_waits_for_healthy_brokers(services: dict[str, Any]) -> None:
    """Nothing starts before what it needs."""
    assert services["init"]["depends_on"] == {
        "kafka": {"condition": "service_healthy"},
        "clickhouse": {"condition": "service_healthy"},
    }
    for name in WORKERS:
        assert services[name]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    assert all("healthcheck" in services[name] for name in ("kafka", "clickhouse"))


def test_worker_settings_exist_and_instances_have_names_of_their_own(services: dict[str, Any]) -> None:
    """Every SCALING_ variable is a setting; static membership needs distinct instance ids."""
    for name in ("init", *WORKERS):
        variables = {key.removeprefix("SCALING_").lower() for key in services[name]["environment"]}
        assert variables <= set(Settings.model_fields)
    assert [services[name]["environment"]["SCALING_INSTANCE_ID"] for name in WORKERS] == list(WORKERS)


def test_workers_tell_of_their_health_within_the_network_only(services: dict[str, Any]) -> None:
    """Prometheus in the same network scrapes the port that the health check asks, and nobody outside does."""
    targets = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {target for job in targets for group in job["static_configs"] for target in group["targets"]}
    assert scraped == {f"{name}:{services[name]['environment']['SCALING_METRICS_PORT']}" for name in WORKERS}
    for name in WORKERS:
        assert (
            f":{services[name]['environment']['SCALING_METRICS_PORT']}/healthz"
            in services[name]["healthcheck"]["test"][-1]
        )
        assert "ports" not in services[name]
    assert services["init"]["healthcheck"] == {"disable": True}


def test_only_the_owner_of_experiments_has_their_secret(services: dict[str, Any]) -> None:
    """Who holds the secret can forge seals and tokens; there is no default for it."""
    variable = "SCALING_EXPERIMENT_SECRET"
    assert [name for name in services if variable in services[name].get("environment", {})] == ["experiments"]
    assert services["experiments"]["environment"][variable].startswith("${EXPERIMENT_SECRET:?")


def test_what_runs_is_restarted_and_data_are_kept(services: dict[str, Any]) -> None:
    """Long-running services restart by themselves; data lie on named volumes."""
    assert all(services[name]["restart"] == "unless-stopped" for name in ("kafka", "clickhouse", *WORKERS))
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    mounted = {mount for mount in mounts if not mount.startswith("./")}
    assert mounted == set(volumes)


def test_the_broker_takes_the_largest_event(services: dict[str, Any]) -> None:
    """message.max.bytes leaves room for the largest message and its framing, and topics are never made by accident."""
    environment = services["kafka"]["environment"]
    assert int(environment["KAFKA_MESSAGE_MAX_BYTES"]) > MAX_MESSAGE_BYTES
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_image_is_pinned_and_not_root() -> None:
    """Packages come with hashes, and the workers run as a user of their own."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "FROM python:3.12-slim" in text
    assert "--require-hashes -r requirements.txt" in text
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())
