-- observations: one row a run, the newest version of its event.
-- Inserting a record twice, or an event twice, leaves one row: version = revision * 2^47 + offset decides, as it does
-- in the tables of the stats worker. Partitions are hashes of the run id and not months, because a correction may move
-- a run to another month and rows are collapsed within a partition only.
CREATE TABLE IF NOT EXISTS {database}.scaling_observations
(
    agent_run_id String,
    version UInt64,
    revision UInt16,
    completed_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp where the event has none',
    project LowCardinality(Nullable(String)),
    task_type LowCardinality(Nullable(String)),
    task_id Nullable(String),
    model LowCardinality(Nullable(String)),
    task_complexity Nullable(Float64) COMMENT 'in [0, 1], labels mapped by the setting complexity_scale',
    complexity_band LowCardinality(Nullable(String)),
    project_characteristics String DEFAULT '{}' COMMENT 'a JSON object',
    agent_count Nullable(UInt32),
    parallelism_level Nullable(UInt32),
    total_iterations Nullable(UInt32),
    max_iterations Nullable(UInt32),
    retry_limit Nullable(UInt32),
    context_budget Nullable(UInt64),
    retry_count Nullable(UInt32),
    context_tokens Nullable(UInt64),
    model_size_category LowCardinality(Nullable(String)),
    model_params_b Nullable(Float64) COMMENT 'billions of parameters',
    success Nullable(Bool),
    quality_score Nullable(Float64),
    time_to_complete Nullable(Float64) COMMENT 'seconds',
    total_cost Nullable(Float64) COMMENT 'US dollars',
    cost_source LowCardinality(Nullable(String)),
    decision_id Nullable(String),
    policy_version LowCardinality(Nullable(String)),
    propensity Nullable(Float64),
    experiment_id LowCardinality(Nullable(String)),
    assigned_value LowCardinality(Nullable(String)),
    assignment_token Nullable(String),
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    content_hash UInt64 COMMENT 'xxh64 of the payload',
    import_id LowCardinality(Nullable(String)),
    ingested_at DateTime64(3, 'UTC'),
    INDEX completed_at_range completed_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY xxHash64(agent_run_id) % 16
ORDER BY agent_run_id;

-- The view that people query. All rows of a run are in one partition, so FINAL need not merge across partitions.
CREATE OR REPLACE VIEW {database}.observations AS
SELECT * EXCEPT (version)
FROM {database}.scaling_observations FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
