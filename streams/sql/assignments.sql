-- assignments: what each task was given in an experiment, and what its run brought.
CREATE TABLE IF NOT EXISTS {database}.scaling_assignments
(
    experiment_id String,
    version UInt32,
    assignment_id String,
    unit String COMMENT 'task=..., run=... or request=...: what was assigned',
    agent_run_id Nullable(String) COMMENT 'the run that counts, once it is there',
    assigned_value String,
    actual_value Nullable(String) COMMENT 'what the run says that it used',
    complied Nullable(Bool),
    propensity Float64,
    stratum String,
    block UInt64,
    place UInt64,
    assigned_at DateTime64(3, 'UTC'),
    completed_at Nullable(DateTime64(3, 'UTC')),
    status LowCardinality(String) COMMENT 'pending, completed or expired',
    excluded Bool,
    success Nullable(Float64),
    quality_score Nullable(Float64),
    time_to_complete Nullable(Float64) COMMENT 'seconds',
    total_cost Nullable(Float64) COMMENT 'US dollars',
    task_complexity Nullable(Float64),
    contexts Array(String),
    repeats Array(String) COMMENT 'further runs of the same unit, left out',
    definition_sha256 String,
    offset UInt64 COMMENT 'on scaling.assignments',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (experiment_id, version, assignment_id);

CREATE OR REPLACE VIEW {database}.experiment_assignments AS
SELECT * FROM {database}.scaling_assignments FINAL;
