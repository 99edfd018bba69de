"""The settings: one frozen object, read from the environment (prefix SCALING_) and the file scaling.toml."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from models.errors import SettingsError

HIDDEN = frozenset({"clickhouse_password", "experiment_secret", "kafka_password"})
"""Settings that are never shown."""

Positive = Annotated[int, Field(gt=0)]
Unit = Annotated[float, Field(ge=0, le=1)]


class ComplexityScale(BaseModel):
    """The numbers that stand for complexity labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trivial: Unit = 0.1
    low: Unit = 0.35
    medium: Unit = 0.65
    high: Unit = 0.9


class Prices(BaseModel):
    """What a model costs, in dollars: stands in where no law of cost speaks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: Annotated[float, Field(ge=0)]
    iteration: Annotated[float, Field(ge=0)]
    context_per_1k: Annotated[float, Field(ge=0)]


class Settings(BaseSettings):
    """Everything that can be set. Environment variables win over scaling.toml in the working directory."""

    model_config = SettingsConfigDict(
        env_prefix="SCALING_", toml_file="scaling.toml", frozen=True, extra="forbid", env_nested_delimiter="__"
    )

    kafka: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port, comma-separated.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How clients connect to Kafka; whatever leaves the machine should be SASL_SSL or SSL."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How kafka_username is proven to Kafka."
    )
    kafka_username: str = Field("", max_length=256, description="Kafka user.")
    kafka_password: str = Field("", repr=False, max_length=256, description="Kafka password.")
    kafka_ca_file: str = Field("", description="Certificates (PEM) that Kafka's is checked by; empty: the system's.")
    kafka_cert_file: str = Field("", description="Our own certificate (PEM), where Kafka asks clients for one.")
    kafka_key_file: str = Field("", description="The key of kafka_cert_file; empty: it is in the same file.")
    clickhouse: str = Field("http://127.0.0.1:8123", description="URL of ClickHouse's HTTP interface.")
    clickhouse_user: str = Field("default", description="ClickHouse user.")
    clickhouse_password: str = Field("", repr=False, description="ClickHouse password.")
    clickhouse_ca_file: str = Field(
        "", description="Certificates (PEM) that ClickHouse's is checked by under https; empty: the system's."
    )
    clickhouse_database: str = Field(
        "scaling", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$", description="ClickHouse database."
    )

    partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="Partitions of scaling.runs; fixed for the life of a deployment."
    )
    replication: Annotated[int, Field(ge=1, le=7)] = Field(1, description="Replicas of every topic.")

    unknown_fields: str = Field(
        "keep",
        pattern="^(keep|refuse)$",
        description="Unknown top-level fields of an event: keep them under project_characteristics, or refuse it.",
    )
    max_event_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = Field(
        1024 * 1024, description="Largest event that is accepted; a larger one is rejected."
    )
    complexity_scale: ComplexityScale = Field(
        ComplexityScale(), description="The numbers in [0, 1] that stand for complexity labels."
    )
    context_keys: list[list[str]] = Field(
        [["project"], ["task_type"], ["model"], ["model_size_category"], ["complexity_band"]],
        description="Key lists that make contexts; a run belongs to each list for which it has all keys.",
    )
    context_values: Positive = Field(
        500, description="Distinct values kept for each key list and partition; the overflow goes to 'other'."
    )
    dedupe_runs: Positive = Field(1_000_000, description="Run ids remembered per partition.")
    reject_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="A stats worker stops once more than this share of the last records was rejected; 1: never."
    )
    reject_window: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        10_000, description="Records of a partition among which reject_share holds; fewer never stop a worker."
    )
    bucket_seconds: Positive = Field(3600, description="Length of a time bucket of the Grams.")
    buckets_kept: Positive = Field(48, description="Buckets kept apart; older ones are folded into history.")

    flush_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        1.0, description="Longest time between folding an event and writing the cells it touched."
    )
    flush_events: Positive = Field(100_000, description="Events folded before a flush is forced.")
    poll_records: Positive = Field(8000, description="Records in one micro-batch at the most.")
    fetch_bytes: Positive = Field(4 * 1024 * 1024, description="Bytes fetched from a partition at once.")
    commit_seconds: Annotated[float, Field(gt=0, le=60)] = Field(1.0, description="Time between offset commits.")
    session_seconds: Annotated[float, Field(ge=6, le=300)] = Field(
        10.0, description="After this long without a heartbeat a worker's partitions go to others."
    )
    instance_id: str = Field("", description="Stable name of this worker (static membership); empty: dynamic.")
    stall_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="A worker whose commits make no progress for this long exits with an error."
    )
    refit_seconds: Annotated[float, Field(gt=0)] = Field(1.0, description="The refit window.")
    archive_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        1.0, description="Longest time between reading an event and inserting it into ClickHouse."
    )
    archive_rows: Positive = Field(50_000, description="Rows collected before an insert is forced.")

    agent_cost: Annotated[float, Field(ge=0)] = Field(0.05, description="Price table: dollars for one agent.")
    iteration_cost: Annotated[float, Field(ge=0)] = Field(0.02, description="Price table: dollars for one iteration.")
    context_cost_per_1k: Annotated[float, Field(ge=0)] = Field(
        0.003, description="Price table: dollars for 1,000 context tokens."
    )
    model_prices: dict[Annotated[str, Field(min_length=1, max_length=256)], Prices] = Field(
        {}, description="Price table by model: agent, iteration and context_per_1k; other models have the three above."
    )
    most_agents: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Agents that an allocation gives at most.")
    most_iterations: Annotated[int, Field(ge=1, le=100)] = Field(
        10, description="Iterations that an allocation gives each agent at most."
    )
    most_context: Annotated[int, Field(ge=1000, le=10_000_000)] = Field(
        100_000, description="Context tokens that an allocation gives at most."
    )
    context_step: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        1000, description="Steps in which context tokens are given."
    )
    exploration_rate: Unit = Field(
        0.05, description="Share of tasks that try another setting within their budget, so that policies can be valued."
    )
    keep_within: Unit = Field(
        0.005,
        description="An earlier setting is kept while it is this close to the best: in outcome (valued where it has a "
        "value), or as a share of the least cost.",
    )
    value_of_success: Annotated[float, Field(gt=0)] = Field(
        1.0, description="What one success, or a quality of 1, is worth in dollars: a knee is where a step costs more."
    )
    complexity_reliability: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="Share of the complexity scores' variance that is real difficulty; "
        "with less than 0.8, or less than a law's tipping reliability, no law is called adjusted.",
    )
    bootstrap_draws: Annotated[int, Field(ge=100, le=5000)] = Field(
        300, description="Bootstrap draws behind the intervals of a law."
    )
    drift_limit: Annotated[float, Field(ge=100)] = Field(
        10_000.0, description="Evidence at which a law counts as drifted: P(false alarm in T buckets) <= T / limit."
    )
    audit_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Time between two rounds of the audit, which refits laws from ClickHouse."
    )
    significance_scope: Literal["all", "context", "dimension", "outcome"] = Field(
        "all", description="Among which laws the false discovery rate is held: all, or those alike in this."
    )
    audit_processes: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Processes that the audit fits in.")

    experiment_secret: str = Field(
        "",
        repr=False,
        max_length=256,
        description="Secret of the experiments' seals, tokens and randomisation, 16 characters or more, the same for "
        "all workers; the embedded stack makes its own.",
    )

    metrics_host: str = Field(
        "127.0.0.1", description="Address of a worker's /healthz, /readyz and /metrics, which know no password."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="Port of a worker's /healthz, /readyz and /metrics; 0: none. The embedded stack picks its own."
    )

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Log level.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, which wins over the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def validation_hash(self) -> str:
        """Hash what decides how an event is read and grouped: workers of one deployment must agree on it."""
        parts = self.model_dump(
            include={
                "partitions",
                "unknown_fields",
                "max_event_bytes",
                "complexity_scale",
                "context_keys",
                "context_values",
                "bucket_seconds",
            }
        )
        return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[:16]


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - any setting by its name
    """Read the settings.

    Raises:
        SettingsError: A value breaks its rule; the message names the setting, the value and the rule.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        # A name that is unknown may be that of a secret, misspelt.
        hidden = name in HIDDEN or (first["type"] == "extra_forbidden" and isinstance(first.get("input"), str))
        value = "(hidden)" if hidden else repr(first.get("input"))
        message = f"setting {name} = {value}: {first['msg']}"
        raise SettingsError(message) from None
